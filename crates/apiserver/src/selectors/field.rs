//! Field selectors: `metadata.name=x,spec.nodeName!=n1`.

use schema::SmolStr;

/// One comparison with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    /// As written, e.g. `spec.nodeName`.
    pub field: SmolStr,
    /// The value compared with.
    pub value: SmolStr,
    /// False for `!=`.
    pub equal: bool,
}

/// Comparisons that must all hold; none holds always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The comparisons.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Parses the query form. Errors are upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for part in split_unescaped(text, ',') {
            if part.is_empty() {
                continue;
            }
            let (field, operator, value) = split_operator(part)
                .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{part}'"))?;
            terms.push(FieldTerm {
                field: field.into(),
                value: unescape(value)?.into(),
                equal: operator != "!=",
            });
        }
        Ok(Self { terms })
    }

    /// True when it holds for every object.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that `field` must have, if one is demanded.
    pub fn required(&self, field: &str) -> Option<&SmolStr> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| &t.value)
    }
}

fn split_unescaped(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == separator => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn split_operator(term: &str) -> Option<(&str, &str, &str)> {
    for (at, _) in term.char_indices() {
        for operator in ["!=", "==", "="] {
            if let Some(value) = term[at..].strip_prefix(operator) {
                return Some((&term[..at], operator, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(next) => {
                    return Err(format!("invalid field selector: invalid escape sequence: \\{next}"));
                }
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => {
                // Upstream shows the number of the character.
                let number = u32::from(c);
                return Err(format!("invalid field selector: unescaped character in value: {number}"));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let s = FieldSelector::parse(r"metadata.name=x,spec.nodeName!=n1,a==b\,c").unwrap();
        let got: Vec<_> = s.terms.iter().map(|t| (t.field.as_str(), t.equal, t.value.as_str())).collect();
        assert_eq!(got, [("metadata.name", true, "x"), ("spec.nodeName", false, "n1"), ("a", true, "b,c")]);
        assert!(FieldSelector::parse("").unwrap().is_everything());
        assert_eq!(
            FieldSelector::parse("abc").unwrap_err(),
            "invalid selector: 'abc'; can't understand 'abc'"
        );
    }
}
