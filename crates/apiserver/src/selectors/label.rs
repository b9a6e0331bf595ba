//! Label selectors: `app=web,tier in (a,b),!old,n>3`.

use rules::names::{label_key, label_value};
use schema::{SmolStr, Value};

use super::lexer::{Token, tokens};

/// How one requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `key in (values)`, `key = value`.
    In,
    /// `key notin (values)`, `key != value`; holds when the key is absent.
    NotIn,
    /// `key`.
    Exists,
    /// `!key`.
    DoesNotExist,
    /// `key > number`.
    GreaterThan,
    /// `key < number`.
    LessThan,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: SmolStr,
    /// How.
    pub operator: Operator,
    /// With what.
    pub values: Vec<SmolStr>,
}

/// Conditions that must all hold; none holds always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// The conditions.
    pub requirements: Vec<Requirement>,
    /// Matches nothing whatever the labels.
    nothing: bool,
}

impl LabelSelector {
    /// Parses the query form. Errors are upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tokens = tokens(text);
        let mut parser = Parser { tokens: &tokens, at: 0 };
        let requirements = parser.parse()?;
        Ok(Self { requirements, nothing: false })
    }

    /// From a `metav1.LabelSelector`; null matches nothing, an empty one everything.
    pub fn from_value(selector: &Value) -> Result<Self, String> {
        if selector.is_null() {
            return Ok(Self { requirements: Vec::new(), nothing: true });
        }
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].entries() {
            let values = vec![value.as_smol().cloned().unwrap_or_default()];
            requirements.push(Requirement { key: key.clone(), operator: Operator::In, values });
        }
        for expression in selector.items_at("matchExpressions") {
            let operator = match expression.str_at("operator") {
                Some("In") => Operator::In,
                Some("NotIn") => Operator::NotIn,
                Some("Exists") => Operator::Exists,
                Some("DoesNotExist") => Operator::DoesNotExist,
                other => {
                    return Err(format!(
                        "{} is not a valid label selector operator",
                        rules::quote(other.unwrap_or(""))
                    ));
                }
            };
            requirements.push(Requirement {
                key: expression.str_at("key").unwrap_or_default().into(),
                operator,
                values: expression.items_at("values").iter().filter_map(Value::as_smol).cloned().collect(),
            });
        }
        Ok(Self { requirements, nothing: false })
    }

    /// True when it holds for all labels.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Whether it holds, `label` giving the values of labels that are there.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(label(&r.key)))
    }

    /// Whether it holds for a map of labels; null is an empty map.
    pub fn matches_value(&self, labels: &Value) -> bool {
        self.matches(|key| labels.get(key).and_then(Value::as_str))
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        match (self.operator, value) {
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::In, Some(value)) => self.values.iter().any(|v| v == value),
            (Operator::NotIn, Some(value)) => !self.values.iter().any(|v| v == value),
            (Operator::NotIn, None) => true,
            (Operator::GreaterThan, Some(value)) => self.compare(value, |a, b| a > b),
            (Operator::LessThan, Some(value)) => self.compare(value, |a, b| a < b),
            (Operator::In | Operator::GreaterThan | Operator::LessThan, None) => false,
        }
    }

    fn compare(&self, value: &str, holds: impl Fn(i64, i64) -> bool) -> bool {
        let bound = self.values.first().and_then(|v| v.parse::<i64>().ok());
        matches!((value.parse::<i64>(), bound), (Ok(value), Some(bound)) if holds(value, bound))
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn parse(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Not | Token::In | Token::NotIn => {
                    let requirement =
                        self.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?;
                    requirements.push(requirement);
                    match self.next() {
                        Token::End => return Ok(requirements),
                        Token::Comma => match self.peek() {
                            Token::Word(_) | Token::Not | Token::In | Token::NotIn => {}
                            other => {
                                return Err(format!(
                                    "found '{}', expected: identifier after ','",
                                    other.literal()
                                ));
                            }
                        },
                        other => {
                            return Err(format!(
                                "found '{}', expected: ',' or 'end of string'",
                                other.literal()
                            ));
                        }
                    }
                }
                Token::End => return Ok(requirements),
                other => {
                    return Err(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        other.literal()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = *self.peek() == Token::Not;
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(word) => word,
            token @ (Token::In | Token::NotIn) => token.literal().to_owned(),
            other => return Err(format!("found '{}', expected: identifier", other.literal())),
        };
        check(&key, label_key(&key))?;
        let bare = |operator| Ok(Requirement { key: key.as_str().into(), operator, values: Vec::new() });
        if negated {
            return bare(Operator::DoesNotExist);
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return bare(Operator::Exists);
        }
        let operator = match self.next() {
            Token::In | Token::Equals | Token::DoubleEquals => Operator::In,
            Token::NotIn | Token::NotEquals => Operator::NotIn,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            other => {
                return Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", other.literal()));
            }
        };
        let set = matches!(self.tokens.get(self.at - 1), Some(Token::In | Token::NotIn));
        let values = if set { self.values()? } else { vec![self.exact_value()?] };
        self.check_values(&key, operator, &values)?;
        Ok(Requirement { key: key.into(), operator, values })
    }

    fn check_values(&self, key: &str, operator: Operator, values: &[SmolStr]) -> Result<(), String> {
        for value in values {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err()
            {
                return Err(format!(
                    "values[0][{key}]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                    rules::quote(value)
                ));
            }
            check_at(&format!("values[0][{key}]"), value, label_value(value))?;
        }
        Ok(())
    }

    /// `(a,b,)`; empty items are empty strings.
    fn values(&mut self) -> Result<Vec<SmolStr>, String> {
        match self.next() {
            Token::Open => {}
            other => return Err(format!("found '{}' expected: '('", other.literal())),
        }
        let mut values: Vec<SmolStr> = Vec::new();
        match self.peek() {
            Token::Word(_) | Token::Comma | Token::In | Token::NotIn => {}
            Token::Close => {
                self.next();
                return Ok(vec![SmolStr::default()]);
            }
            other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.literal())),
        }
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.push(word.into());
                    match self.peek() {
                        Token::Comma | Token::Close => {}
                        other => return Err(format!("found '{}', expected: ',' or ')'", other.literal())),
                    }
                }
                token @ (Token::In | Token::NotIn) => values.push(token.literal().into()),
                Token::Comma => {
                    if values.is_empty() {
                        values.push(SmolStr::default());
                    }
                    match self.peek() {
                        Token::Close => {
                            values.push(SmolStr::default());
                        }
                        Token::Comma => {
                            self.next();
                            values.push(SmolStr::default());
                        }
                        _ => {}
                    }
                }
                Token::Close => break,
                other => return Err(format!("found '{}', expected: ',', or identifier", other.literal())),
            }
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    fn exact_value(&mut self) -> Result<SmolStr, String> {
        match self.peek() {
            Token::End | Token::Comma => return Ok(SmolStr::default()),
            _ => {}
        }
        match self.next() {
            Token::Word(word) => Ok(word.into()),
            token @ (Token::In | Token::NotIn) => Ok(token.literal().into()),
            other => Err(format!("found '{}', expected: identifier", other.literal())),
        }
    }
}

fn check(value: &str, messages: Vec<String>) -> Result<(), String> {
    check_at("<nil>", value, messages)
}

fn check_at(field: &str, value: &str, messages: Vec<String>) -> Result<(), String> {
    if messages.is_empty() {
        return Ok(());
    }
    Err(format!("{field}: Invalid value: {}: {}", rules::quote(value), messages.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(selector: &str, labels: &[(&'static str, &'static str)]) -> bool {
        let parsed = LabelSelector::parse(selector).unwrap();
        parsed.matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
    }

    #[test]
    fn matches() {
        let labels = [("app", "x"), ("i", "1")];
        for (selector, expect) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("!nope", true),
            ("app=x", true),
            ("app==x", true),
            ("app!=x", false),
            ("nope!=x", true),
            ("i in (1,2,9)", true),
            ("i in (2)", false),
            ("i notin (2,3)", true),
            ("i<2", true),
            ("i>2", false),
            ("app=x,i=2", false),
            ("app=", false),
        ] {
            assert_eq!(holds(selector, &labels), expect, "{selector}");
        }
    }

    #[test]
    fn errors_are_upstreams() {
        for (selector, error) in [
            ("in in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
            ("a,", "found '', expected: identifier after ','"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap_err(), error, "{selector}");
        }
    }
}
