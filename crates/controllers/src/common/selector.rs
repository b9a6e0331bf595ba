//! Label selectors.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

type Labels = BTreeMap<String, String>;

/// A selector that can be matched against labels. The empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matcher {
    requirements: Vec<Requirement>,
    nothing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// A selector with an operator that there is not; the API server admits none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid label selector operator")]
pub struct UnknownOperator(String);

impl Matcher {
    /// What matches no labels at all (an absent selector).
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// A selector of the API.
    pub fn new(selector: &LabelSelector) -> Result<Self, UnknownOperator> {
        let mut matcher = Self::labels(selector.match_labels.as_ref());
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(UnknownOperator(other.to_owned())),
            };
            let values = expression.values.iter().flatten().cloned().collect();
            matcher.requirements.push(Requirement { key: expression.key.clone(), operator, values });
        }
        Ok(matcher)
    }

    /// A selector that may be absent, and then matches nothing.
    pub fn optional(selector: Option<&LabelSelector>) -> Result<Self, UnknownOperator> {
        selector.map_or_else(|| Ok(Self::nothing()), Self::new)
    }

    /// A selector in the form of a `labelSelector` parameter. None for a text that is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut requirements = Vec::new();
        for part in split_outside_brackets(text) {
            requirements.push(parse_requirement(part.trim())?);
        }
        Some(Self { requirements, nothing: false })
    }

    /// Labels that all must be there with these values; None for no requirement.
    pub fn labels(labels: Option<&Labels>) -> Self {
        let requirements = labels
            .into_iter()
            .flatten()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: BTreeSet::from([value.clone()]),
            })
            .collect();
        Self { requirements, nothing: false }
    }

    /// True if it matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// True if an object with these labels is selected.
    pub fn matches(&self, labels: Option<&Labels>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels.and_then(|l| l.get(&r.key))))
    }
}

impl Requirement {
    fn matches(&self, value: Option<&String>) -> bool {
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// The parts between commas that are not in brackets.
fn split_outside_brackets(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn parse_requirement(text: &str) -> Option<Requirement> {
    let requirement = |key: &str, operator, values: &[&str]| {
        let values = values.iter().map(|v| v.trim().to_owned()).collect();
        (!key.trim().is_empty()).then(|| Requirement { key: key.trim().to_owned(), operator, values })
    };
    if let Some((head, list)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        let values: Vec<&str> = list.split(',').collect();
        let head = head.trim();
        return match head.strip_suffix(" notin") {
            Some(key) => requirement(key, Operator::NotIn, &values),
            None => requirement(head.strip_suffix(" in")?, Operator::In, &values),
        };
    }
    if let Some((key, value)) = text.split_once("!=") {
        return requirement(key, Operator::NotIn, &[value]);
    }
    if let Some((key, value)) = text.split_once('=') {
        return requirement(key, Operator::In, &[value.trim_start_matches('=')]);
    }
    match text.strip_prefix('!') {
        Some(key) => requirement(key, Operator::DoesNotExist, &[]),
        None => requirement(text, Operator::Exists, &[]),
    }
}

impl std::fmt::Display for Matcher {
    /// The form of a `labelSelector` parameter and of `scale.status.selector`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts: Vec<String> = self.requirements.iter().map(Requirement::text).collect();
        parts.sort();
        f.write_str(&parts.join(","))
    }
}

impl Requirement {
    fn text(&self) -> String {
        let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        match (self.operator, values.as_slice()) {
            (Operator::In, [one]) => format!("{}={one}", self.key),
            (Operator::In, many) => format!("{} in ({})", self.key, many.join(",")),
            (Operator::NotIn, many) => format!("{} notin ({})", self.key, many.join(",")),
            (Operator::Exists, _) => self.key.clone(),
            (Operator::DoesNotExist, _) => format!("!{}", self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_as_upstream_says() {
        let selector = |json: serde_json::Value| {
            Matcher::new(&serde_json::from_value::<LabelSelector>(json).unwrap()).unwrap()
        };
        let labels: Labels = [("app".to_owned(), "web".to_owned())].into();
        for (json, matches) in [
            (serde_json::json!({}), true),
            (serde_json::json!({"matchLabels": {"app": "web"}}), true),
            (serde_json::json!({"matchLabels": {"app": "db"}}), false),
            (
                serde_json::json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "web"]}]}),
                true,
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}),
                true,
            ),
            (serde_json::json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]}), false),
            (serde_json::json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}), true),
        ] {
            assert_eq!(selector(json.clone()).matches(Some(&labels)), matches, "{json}");
        }
        assert!(!Matcher::nothing().matches(None));
        let both = selector(serde_json::json!({"matchLabels": {"b": "1"},
            "matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}]}));
        assert_eq!(both.to_string(), "a in (x,y),b=1");
        assert_eq!(Matcher::parse(&both.to_string()).unwrap().to_string(), both.to_string());
        let mixed = Matcher::parse("a!=1, b notin (x, y),c,!d,e==f").unwrap();
        assert_eq!(mixed.to_string(), "!d,a notin (1),b notin (x,y),c,e=f");
    }
}
