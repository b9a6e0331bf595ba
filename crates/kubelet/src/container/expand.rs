//! `$(NAME)` references in commands and environment values (upstream `third_party/forked/golang/expansion`).

/// Replaces each `$(NAME)` that `lookup` knows; an unknown one stays as it is, and `$$` stands for `$`.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
        } else if let Some((name, behind)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = behind;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn references() {
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(B)z", "x1y2z"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$(A)", "$$(A)"),
            ("$(C)", "$(C)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("a$", "a$"),
            ("$()", "$()"),
            ("$(A)$(A)", "11"),
            ("é$(A)é", "é1é"),
            ("", ""),
        ] {
            let lookup = |name: &str| match name {
                "A" => Some("1".to_owned()),
                "B" => Some("2".to_owned()),
                _ => None,
            };
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }
}
