//! Selectors as authorization sees them (KEP-4601): text taken apart into requirements, and back.

use schema::{Value, value};

/// The requirements of a field or label selector in its text form; `None` if there are none or it cannot be read,
/// which is as if nothing were selected.
pub fn requirements(selector: &str) -> Option<Vec<Value>> {
    let mut all = Vec::new();
    for part in parts(selector).into_iter().map(str::trim).filter(|p| !p.is_empty()) {
        all.push(requirement(part)?);
    }
    (!all.is_empty()).then_some(all)
}

/// Splits at commas outside of parentheses.
fn parts(selector: &str) -> Vec<&str> {
    let (mut all, mut depth, mut from) = (Vec::new(), 0_i32, 0);
    for (at, c) in selector.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                all.push(&selector[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    all.push(&selector[from..]);
    all
}

fn requirement(part: &str) -> Option<Value> {
    let one = |key: &str, operator: &str, values: Vec<String>| {
        let mut out = value!({"key": (key.trim()), "operator": operator});
        if !values.is_empty() {
            out.insert("values", values);
        }
        out
    };
    let text = |value: &str| vec![value.trim().to_owned()];
    if let Some((key, value)) = part.split_once("!=") {
        return Some(one(key, "NotIn", text(value)));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(one(key, "In", text(value)));
    }
    if let Some((head, values)) = part.split_once('(') {
        let values = values.strip_suffix(')')?.split(',').map(|v| v.trim().to_owned()).collect();
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace)?;
        return match operator {
            "in" => Some(one(key, "In", values)),
            "notin" => Some(one(key, "NotIn", values)),
            _ => None,
        };
    }
    match part.strip_prefix('!') {
        Some(key) => Some(one(key, "DoesNotExist", Vec::new())),
        None if part.contains(char::is_whitespace) => None,
        None => Some(one(part, "Exists", Vec::new())),
    }
}

/// The text of `fieldSelector` or `labelSelector` in a review's resource attributes.
pub fn text_of(selector: &Value) -> Option<String> {
    if let Some(raw) = selector.str_at("rawSelector").filter(|raw| !raw.is_empty()) {
        return Some(raw.to_owned());
    }
    let one = |requirement: &Value| {
        let key = requirement.str_at("key")?;
        let values: Vec<&str> = requirement.items_at("values").iter().filter_map(Value::as_str).collect();
        Some(match (requirement.str_at("operator")?, values.as_slice()) {
            ("In", [value]) => format!("{key}={value}"),
            ("NotIn", [value]) => format!("{key}!={value}"),
            ("In", _) => format!("{key} in ({})", values.join(",")),
            ("NotIn", _) => format!("{key} notin ({})", values.join(",")),
            ("Exists", _) => key.to_owned(),
            ("DoesNotExist", _) => format!("!{key}"),
            _ => return None,
        })
    };
    // What cannot be read narrows nothing, so the rest alone is asked for.
    let all: Vec<String> = selector.items_at("requirements").iter().filter_map(one).collect();
    (!all.is_empty()).then(|| all.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_taken_apart_and_put_together() {
        let found = requirements("a=b, c!=d,e in (f,g),!h,i").unwrap();
        let operators: Vec<&str> = found.iter().filter_map(|r| r.str_at("operator")).collect();
        assert_eq!(operators, ["In", "NotIn", "In", "DoesNotExist", "Exists"]);
        assert_eq!(found[2].items_at("values").len(), 2);
        let text = text_of(&value!({"requirements": (Value::List(found))}));
        assert_eq!(text.as_deref(), Some("a=b,c!=d,e in (f,g),!h,i"));
        assert_eq!(text_of(&value!({"rawSelector": "x=y"})).as_deref(), Some("x=y"));
        assert!(requirements("").is_none() && requirements("a like b").is_none());
    }
}
