//! The rules of custom resources (`x-kubernetes-validations`): run on every write, with transition rules and ratcheting
//! (KEP-2876, KEP-4008).

mod compile;

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::{Bindings, CostBudget, Decl, EvalError};
use schema::{SmolStr, Value};

use crate::field::{BadValue, ErrorKind, Errors, FieldError};
use crate::kinds::crd_path;

pub(crate) use compile::{Compiled, compile};

/// What all rules may use for one object (`RuntimeCELCostBudget`).
const OBJECT_BUDGET: u64 = 10_000_000;
/// Longest message that an expression may make.
const MAX_MESSAGE_BYTES: usize = 5_120;

/// The rules of a custom resource's schema, compiled. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CustomRules(Arc<Node>);

/// The rules of one schema and of those below it; only schemas with rules somewhere are there.
#[derive(Debug)]
struct Node {
    /// The schema's type, which errors show as the value.
    kind: String,
    rules: Vec<(Rule, Compiled)>,
    decl: Option<Decl>,
    fields: BTreeMap<SmolStr, Node>,
    values: Option<Box<Node>>,
    items: Option<Box<Node>>,
    /// Fields that tell list items apart, when old and new items can be matched by them.
    keys: Option<Vec<SmolStr>>,
    /// Fields of old and new objects can be matched.
    granular: bool,
}

/// The words of a rule.
#[derive(Debug)]
struct Rule {
    text: String,
    message: String,
    message_expression: String,
    reason: String,
    field_path: String,
}

/// What is wrong, and what is wrong but was so before and did not change.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Refuses the write.
    pub errors: Errors,
    /// Is told as a warning.
    pub ratcheted: Errors,
}

impl CustomRules {
    /// Compiles all rules of a definition's schema; `None` when there are none.
    pub fn of_schema(openapi: &Value) -> Option<Self> {
        let decl = Decl::from_openapi(openapi, true);
        Node::new(openapi, decl.as_ref()).map(|node| Self(Arc::new(node)))
    }

    /// Runs the rules on a new object, or on a changed one and what it was.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Outcome {
        let mut run = Run { budget: CostBudget::new(OBJECT_BUDGET), out: Outcome::default(), ended: false };
        let matched = Matched { old, same: old.is_some_and(|old| old == object) };
        run.node(&self.0, object, matched, "");
        run.out
    }
}

impl Node {
    fn new(schema: &Value, decl: Option<&Decl>) -> Option<Node> {
        let child = |schema: &Value, decl: Option<&Decl>| {
            let embedded = schema["x-kubernetes-embedded-resource"].as_bool() == Some(true);
            let own = decl.cloned().or_else(|| Decl::from_openapi(schema, embedded));
            Node::new(schema, own.as_ref())
        };
        let mut rules = Vec::new();
        if let Some(decl) = decl {
            let texts = schema["x-kubernetes-validations"].items().iter().map(|rule| Rule::new(rule, schema));
            rules = texts.zip(compile(schema, decl)).collect();
        }
        let mut fields = BTreeMap::new();
        for (name, property) in schema["properties"].entries() {
            if let Some(node) = child(property, decl.and_then(|d| d.field(name))) {
                fields.insert(name.clone(), node);
            }
        }
        let element = decl.and_then(Decl::element);
        let below = |name: &str| match &schema[name] {
            inner @ Value::Map(_) => child(inner, element).map(Box::new),
            _ => None,
        };
        let (values, items) = (below("additionalProperties"), below("items"));
        if rules.is_empty() && fields.is_empty() && values.is_none() && items.is_none() {
            return None;
        }
        let keys = schema["x-kubernetes-list-map-keys"].items().iter().filter_map(Value::as_smol).cloned();
        let is_map = schema["x-kubernetes-list-type"].as_str() == Some("map");
        Some(Node {
            kind: schema["type"].as_str().unwrap_or("").to_owned(),
            rules,
            decl: decl.cloned(),
            fields,
            values,
            items,
            keys: is_map.then(|| keys.collect()),
            granular: schema["x-kubernetes-map-type"].as_str() != Some("atomic"),
        })
    }
}

impl Rule {
    fn new(rule: &Value, schema: &Value) -> Self {
        let text = |name: &str| rule[name].as_str().unwrap_or("").to_owned();
        let field_path = match text("fieldPath") {
            path if path.is_empty() => path,
            path => crd_path(&path, schema).unwrap_or_default(),
        };
        Self {
            text: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: text("reason"),
            field_path,
        }
    }

    /// How errors about the rule itself name it.
    fn name(&self) -> &str {
        match self.message.trim() {
            "" => self.text.trim(),
            message => message,
        }
    }

    fn message(&self) -> String {
        match self.message.trim() {
            "" => format!("failed rule: {}", self.name()),
            message => message.to_owned(),
        }
    }
}

/// What a value was before.
#[derive(Clone, Copy)]
struct Matched<'a> {
    /// The old value, where one can be told.
    old: Option<&'a Value>,
    /// The value, or the nearest one around it that can be matched, has not changed.
    same: bool,
}

impl<'a> Matched<'a> {
    fn below(self, old: Option<&'a Value>, new: &Value, matchable: bool) -> Self {
        match (self.old, matchable) {
            (Some(_), true) => Self { old, same: old.map_or(self.same, |old| old == new) },
            _ => Self { old: None, same: self.same },
        }
    }
}

struct Run {
    budget: CostBudget,
    out: Outcome,
    ended: bool,
}

impl Run {
    fn node(&mut self, node: &Node, value: &Value, matched: Matched<'_>, path: &str) {
        if value.is_null() || self.ended {
            return;
        }
        self.rules(node, value, matched, path);
        match value {
            Value::List(list) => {
                let Some(items) = &node.items else { return };
                let old_items = matched.old.map(Value::items).unwrap_or_default();
                for (i, item) in list.iter().enumerate() {
                    let old = node.keys.as_ref().and_then(|keys| same_keys(old_items, item, keys));
                    let below = matched.below(old, item, node.keys.is_some());
                    self.node(items, item, below, &format!("{path}[{i}]"));
                }
            }
            Value::Map(map) => {
                for (name, value) in map {
                    let old = matched.old.and_then(|old| old.get(name));
                    let below = matched.below(old, value, node.granular);
                    if let Some(values) = &node.values {
                        self.node(values, value, below, &format!("{path}[{name}]"));
                    }
                    if let Some(field) = node.fields.get(name) {
                        self.node(field, value, below, &join(path, name));
                    }
                }
            }
            _ => {}
        }
    }

    fn invalid(&mut self, node: &Node, path: &str, detail: String) {
        self.out.errors.push(error(ErrorKind::Invalid, node, path, detail));
    }

    fn end(&mut self, node: &Node, path: &str, detail: String) {
        self.invalid(node, path, detail);
        self.ended = true;
    }

    fn rules(&mut self, node: &Node, value: &Value, matched: Matched<'_>, path: &str) {
        let Some(decl) = node.decl.as_ref().filter(|_| !node.rules.is_empty()) else { return };
        if self.budget.left() == 0 {
            return self.end(node, path, EvalError::BudgetExhausted.to_string());
        }
        let old = matched.old.filter(|old| !old.is_null());
        let plain = Bindings::new().with("self", decl.value(value));
        let old_value = old.map(|old| decl.value(old));
        let optional = plain.clone().with("oldSelf", cel::Value::Optional(old_value.clone().map(Arc::new)));
        let plain = match old_value {
            Some(old) => plain.with("oldSelf", old),
            None => plain,
        };
        for (rule, compiled) in &node.rules {
            if self.ended {
                return;
            }
            let program = match &compiled.rule {
                Ok(program) => program,
                Err(error) => {
                    self.invalid(node, path, format!("rule compile error: {error}"));
                    continue;
                }
            };
            if compiled.uses_old && old.is_none() && !compiled.optional_old {
                continue;
            }
            let bindings = if compiled.optional_old { &optional } else { &plain };
            match program.evaluate(bindings, &mut self.budget) {
                Ok(cel::Value::Bool(true)) => {}
                Ok(_) => self.failed(node, (rule, compiled), &plain, matched.same, path),
                Err(error) => self.broken(node, rule, error, path),
            }
        }
    }

    /// A rule that could not be evaluated.
    fn broken(&mut self, node: &Node, rule: &Rule, error: EvalError, path: &str) {
        match &error {
            EvalError::BudgetExhausted => self.end(node, path, error.to_string()),
            EvalError::CallLimit => {
                let detail = format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                    rule.name()
                );
                self.end(node, path, detail);
            }
            EvalError::Message(words) if words.starts_with("no such overload") => {
                let detail = format!(
                    "'{error}': call arguments did not match a supported operator, function or macro signature for rule: \
                     {}",
                    rule.name()
                );
                self.invalid(node, path, detail);
            }
            EvalError::Message(_) => {
                self.invalid(node, path, format!("{error} evaluating rule: {}", rule.name()));
            }
        }
    }

    /// A rule that does not hold.
    fn failed(
        &mut self,
        node: &Node,
        (rule, compiled): (&Rule, &Compiled),
        bindings: &Bindings,
        same: bool,
        path: &str,
    ) {
        let path = if rule.field_path.is_empty() { path.to_owned() } else { join(path, &rule.field_path) };
        let detail = match &compiled.message {
            Some(Ok(program)) => match program.evaluate(bindings, &mut self.budget) {
                Ok(value) => message_of(&value),
                Err(EvalError::Message(_)) => None,
                Err(error) => {
                    let detail = match error {
                        EvalError::CallLimit => format!(
                            "no further validation rules will be run due to call cost exceeds limit for \
                             messageExpression: {}",
                            crate::quote(&rule.message_expression)
                        ),
                        _ => "messageExpression evaluation failed due to running out of cost budget, no further \
                              validation rules will be run"
                            .to_owned(),
                    };
                    return self.end(node, &path, detail);
                }
            },
            _ => None,
        };
        let detail = detail.unwrap_or_else(|| rule.message());
        let kind = match rule.reason.as_str() {
            "FieldValueForbidden" => ErrorKind::Forbidden,
            "FieldValueRequired" => ErrorKind::Required,
            "FieldValueDuplicate" => ErrorKind::Duplicate,
            _ => ErrorKind::Invalid,
        };
        let error =
            error(kind, node, &path, if kind == ErrorKind::Duplicate { String::new() } else { detail });
        match same && !compiled.uses_old {
            true => self.out.ratcheted.push(error),
            false => self.out.errors.push(error),
        }
    }
}

/// The text of a message expression, if it is fit for a message.
fn message_of(value: &cel::Value) -> Option<String> {
    let text = value.as_str()?.trim();
    let fit = !text.is_empty() && text.len() <= MAX_MESSAGE_BYTES && !text.contains('\n');
    fit.then(|| text.to_owned())
}

fn error(kind: ErrorKind, node: &Node, path: &str, detail: String) -> FieldError {
    let value = match kind {
        ErrorKind::Forbidden | ErrorKind::Required => BadValue::OMIT,
        _ => BadValue::from(node.kind.as_str()),
    };
    let field = if path.is_empty() { "<nil>" } else { path };
    FieldError { kind, field: field.to_owned(), value, detail }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn same_keys<'a>(old: &'a [Value], item: &Value, keys: &[SmolStr]) -> Option<&'a Value> {
    old.iter().find(|old| keys.iter().all(|key| old.get(key) == item.get(key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn run(schema: &Value, object: &Value, old: Option<&Value>) -> Vec<String> {
        texts(&CustomRules::of_schema(schema).unwrap().validate(object, old).errors)
    }

    fn schema() -> Value {
        value!({"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name != 'bad'", "message": "bad name"}],
            "properties": {"spec": {"type": "object",
                "x-kubernetes-validations": [
                    {"rule": "self.min <= self.max", "messageExpression": "'min ' + string(self.min) + ' is above max'", "fieldPath": ".min"},
                    {"rule": "!has(oldSelf.kind) || self.kind == oldSelf.kind", "reason": "FieldValueForbidden", "message": "kind is immutable"},
                    {"rule": "oldSelf.hasValue() || self.max < 100", "optionalOldSelf": true}],
                "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}, "kind": {"type": "string"},
                    "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {"type": "object",
                        "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "may not shrink"}],
                        "properties": {"n": {"type": "string"}, "v": {"type": "integer"}}}},
                    "labels": {"type": "object", "additionalProperties": {"type": "string",
                        "x-kubernetes-validations": [{"rule": "self.size() < 4"}]}}}}}})
    }

    #[test]
    fn rules_hold_or_say_why() {
        let fine = value!({"metadata": {"name": "a"}, "spec": {"min": 1, "max": 2}});
        assert_eq!(run(&schema(), &fine, None), Vec::<String>::new());
        let bad =
            value!({"metadata": {"name": "bad"}, "spec": {"min": 3, "max": 200, "labels": {"a": "12345"}}});
        let bad2 =
            value!({"metadata": {"name": "bad"}, "spec": {"min": 3, "max": 2, "labels": {"a": "12345"}}});
        assert_eq!(
            run(&schema(), &bad, None),
            [
                "<nil>: Invalid value: \"object\": bad name",
                "spec: Invalid value: \"object\": failed rule: oldSelf.hasValue() || self.max < 100",
                "spec.labels[a]: Invalid value: \"string\": failed rule: self.size() < 4",
            ]
        );
        assert_eq!(run(&schema(), &bad2, None)[1], "spec.min: Invalid value: \"object\": min 3 is above max");
    }

    #[test]
    fn transitions_compare_with_what_was() {
        let object = |v: i64, kind: &str| {
            value!({"metadata": {"name": "a"}, "spec": {"min": 1, "max": 2, "kind": kind,
                "items": [{"n": "x", "v": v}, {"n": "new", "v": 0}]}})
        };
        let mut old = object(5, "a");
        old.set("spec.items", value!([{"n": "x", "v": 5}]));
        assert_eq!(run(&schema(), &object(6, "a"), Some(&old)), Vec::<String>::new());
        assert_eq!(
            run(&schema(), &object(4, "b"), Some(&old)),
            [
                "spec: Forbidden: kind is immutable",
                "spec.items[0]: Invalid value: \"object\": may not shrink",
            ]
        );
    }

    #[test]
    fn what_did_not_change_is_only_warned_of() {
        let old =
            value!({"metadata": {"name": "bad"}, "spec": {"min": 1, "max": 2, "labels": {"a": "12345"}}});
        let mut new = old.clone();
        new.set("spec.max", 3);
        let outcome = CustomRules::of_schema(&schema()).unwrap().validate(&new, Some(&old));
        assert_eq!(texts(&outcome.errors), ["<nil>: Invalid value: \"object\": bad name"]);
        assert_eq!(
            texts(&outcome.ratcheted),
            ["spec.labels[a]: Invalid value: \"string\": failed rule: self.size() < 4"]
        );
    }

    #[test]
    fn errors_of_evaluation_are_told() {
        let schema = value!({"type": "object", "properties": {"x": {"x-kubernetes-int-or-string": true},
            "a": {"type": "string"}}, "x-kubernetes-validations": [{"rule": "self.a == 'b'"}, {"rule": "self.x + 1 > 2"}]});
        assert_eq!(
            run(&schema, &value!({"x": "s"}), None),
            [
                "<nil>: Invalid value: \"object\": no such key: a evaluating rule: self.a == 'b'",
                "<nil>: Invalid value: \"object\": 'no such overload': call arguments did not match a supported operator, \
                 function or macro signature for rule: self.x + 1 > 2",
            ]
        );
    }
}
