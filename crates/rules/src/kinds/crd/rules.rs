//! CustomRules of a definition's schema: whether they compile, and what they may cost.

use cel::Decl;
use schema::Value;

use crate::Cursor;
use crate::custom_rules::{Compiled, compile};
use crate::field::{BadValue, ErrorKind, Errors, FieldError, json};

/// Most that one rule may cost by its estimate (`StaticEstimatedCostLimit`).
const RULE_LIMIT: u64 = 10_000_000;
/// Most that all rules of a definition may cost (`StaticEstimatedCRDCostLimit`).
const TOTAL_LIMIT: u64 = 100_000_000;
/// How many of the dearest rules are named when the total is too much.
const NAMED_RULES: usize = 4;

/// Checks the rules of a schema, but those where `errors` has something below already.
pub(super) fn validate_rules(root: &Cursor<'_>, errors: &[FieldError], out: &mut Errors) {
    let mut walk = Walk { errors, total: 0, dear: Vec::new(), out };
    let place = Place { decl: None, count: Some(1), unmatched: None };
    walk.node(root, true, &place);
    let Walk { total, dear, out, .. } = walk;
    if total <= TOTAL_LIMIT {
        return;
    }
    for (_, path) in dear {
        out.push(forbidden(
            path,
            "contributed to estimated rule & messageExpression cost total exceeding cost limit for entire OpenAPIv3 \
             schema"
                .to_owned(),
        ));
    }
    let what =
        "x-kubernetes-validations estimated rule & messageExpression cost total for entire OpenAPIv3 schema";
    out.push(forbidden(root.path.to_string(), too_dear(what, total, TOTAL_LIMIT)));
}

/// Where a schema stands among others.
struct Place<'a> {
    /// What the schema around it declares of it.
    decl: Option<&'a Decl>,
    /// How many values of it there can be in one object; none when there is no limit.
    count: Option<u64>,
    /// The nearest schema around it whose old and new parts cannot be matched.
    unmatched: Option<String>,
}

struct Walk<'e, 'o> {
    errors: &'e [FieldError],
    total: u64,
    /// The dearest rules so far, dearest first.
    dear: Vec<(u64, String)>,
    out: &'o mut Errors,
}

impl Walk<'_, '_> {
    fn node(&mut self, c: &Cursor<'_>, root: bool, place: &Place<'_>) {
        let embedded = c.bool_of("x-kubernetes-embedded-resource");
        let has_rules = !c.field("x-kubernetes-validations").is_empty();
        let own = match place.decl {
            None if has_rules => Decl::from_openapi(c.value, root || embedded),
            known => known.cloned(),
        };
        let count = most_below(c).and_then(|most| Some(place.count?.saturating_mul(most)));
        let unmatched = |matchable: bool| match (&place.unmatched, matchable) {
            (None, false) => Some(c.path.to_string()),
            (known, _) => known.clone(),
        };
        let granular = c.text_of("x-kubernetes-map-type") != "atomic";
        let element = own.as_ref().and_then(Decl::element);
        let (additional, items, properties) =
            (c.field("additionalProperties"), c.field("items"), c.field("properties"));
        if matches!(additional.value, Value::Map(_)) {
            self.node(&additional, false, &Place { decl: element, count, unmatched: unmatched(granular) });
        }
        for (name, _) in properties.entries() {
            let decl = own.as_ref().and_then(|d| d.field(name));
            self.node(&properties.key(name), false, &Place { decl, count, unmatched: unmatched(granular) });
        }
        if matches!(items.value, Value::Map(_)) {
            let by_key = c.text_of("x-kubernetes-list-type") == "map";
            self.node(&items, false, &Place { decl: element, count, unmatched: unmatched(by_key) });
        }
        if has_rules {
            self.rules(c, own.as_ref(), place);
        }
    }

    fn rules(&mut self, c: &Cursor<'_>, decl: Option<&Decl>, place: &Place<'_>) {
        let path = c.path.to_string();
        let below = |field: &str| {
            field.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if self.errors.iter().any(|error| below(&error.field)) {
            return;
        }
        let list = c.field("x-kubernetes-validations");
        let Some(decl) = decl else {
            let detail = "internal error: failed to construct type information for x-kubernetes-validations rules: \
                          unable to convert structural schema to CEL declarations";
            return self.out.push(FieldError::new(ErrorKind::Internal, &list.path, BadValue::OMIT, detail));
        };
        for (rule, compiled) in list.items().zip(compile(c.value, decl)) {
            self.rule(&rule, &compiled, decl, place);
        }
    }

    fn rule(&mut self, rule: &Cursor<'_>, compiled: &Compiled, decl: &Decl, place: &Place<'_>) {
        let (text, expression) = (rule.field("rule"), rule.field("messageExpression"));
        match &compiled.rule {
            Ok(program) => {
                let count = place.count.unwrap_or_else(|| decl.most_values());
                let cost = program.cost_estimate(decl).max.saturating_mul(count);
                self.charge(&text, "estimated rule cost", cost);
            }
            Err(error) => text.invalid_as(self.out, shown(rule.value), error.as_str()),
        }
        match &compiled.message {
            Some(Ok(program)) => {
                let cost = program.cost_estimate(decl).max;
                self.charge(&expression, "estimated messageExpression cost", cost);
            }
            Some(Err(error)) => expression.invalid_as(self.out, shown(rule.value), error.as_str()),
            None => {}
        }
        let optional = rule.field("optionalOldSelf");
        if compiled.uses_old {
            if let Some(within) = &place.unmatched {
                let detail = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {within}"
                );
                text.invalid(self.out, detail);
            }
        } else if optional.is_set() && compiled.rule.is_ok() {
            optional.invalid(self.out, "may not be set if oldSelf is not used in rule");
        }
    }

    fn charge(&mut self, c: &Cursor<'_>, what: &str, cost: u64) {
        if cost > RULE_LIMIT {
            c.forbidden(self.out, too_dear(what, cost, RULE_LIMIT));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= TOTAL_LIMIT / 100 {
            self.dear.push((cost, c.path.to_string()));
            self.dear.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.dear.truncate(NAMED_RULES);
        }
    }
}

/// How many values a schema's children can have for each of its own; none when there is no limit.
fn most_below(c: &Cursor<'_>) -> Option<u64> {
    let limit = |name: &str| c.field(name).as_int().map(|n| u64::try_from(n).unwrap_or(0));
    match c.text_of("type") {
        "object" if c.has("additionalProperties") => limit("maxProperties"),
        "array" => limit("maxItems"),
        _ => Some(1),
    }
}

fn forbidden(field: String, detail: String) -> FieldError {
    FieldError { kind: ErrorKind::Forbidden, field, value: BadValue::OMIT, detail }
}

fn too_dear(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        f if f > 100.0 => "more than 100x".to_owned(),
        f if f < 1.5 => format!("{f:.6}x"),
        f => format!("{f:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

/// A rule as errors show it: all fields of upstream's type, by their names in Go.
fn shown(rule: &Value) -> BadValue {
    let text = |name: &str| json(&Value::str(rule[name].as_str().unwrap_or("")));
    let pointer = |name: &str| json(&rule[name]);
    BadValue::raw(format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        pointer("reason"),
        text("fieldPath"),
        pointer("optionalOldSelf")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Path;
    use schema::value;

    fn errors(schema: &Value) -> Vec<String> {
        let mut out = Errors::new();
        validate_rules(&Cursor::new(schema, Path::new("s")), &[], &mut out);
        out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_compile_and_fit_their_budget() {
        let list = |limits: Value, rule: &str| {
            let mut list = value!({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 10}},
                "x-kubernetes-validations": [{"rule": rule}]}});
            limits.entries().iter().for_each(|(k, v)| {
                list.insert(k.clone(), v.clone());
            });
            value!({"type": "object", "properties": {"l": list}})
        };
        assert_eq!(errors(&list(value!({"maxItems": 10}), "self.a == 'x'")), Vec::<String>::new());
        let shown = |rule: &str| {
            format!(
                "s.properties[l].items.x-kubernetes-validations[0].rule: Invalid value: {{\"Rule\":\"{rule}\",\"Message\":\"\",\
                 \"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}"
            )
        };
        assert_eq!(
            errors(&list(value!({"maxItems": 10}), "self.b == 1")),
            [format!(
                "{}: compilation failed: ERROR: <input>:1:5: undefined field 'b'\n | self.b == 1\n | ....^",
                shown("self.b == 1")
            )]
        );
        assert_eq!(
            errors(&list(value!({"maxItems": 10}), "self.a")),
            [format!("{}: cel expression must evaluate to a bool", shown("self.a"))]
        );
        let old = "self.a == oldSelf.a";
        assert_eq!(
            errors(&list(value!({"maxItems": 10}), old)),
            [format!(
                "s.properties[l].items.x-kubernetes-validations[0].rule: Invalid value: \"{old}\": oldSelf cannot be used on \
                 the uncorrelatable portion of the schema within s.properties[l]"
            )]
        );
        let by_key =
            value!({"maxItems": 10, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"]});
        assert_eq!(errors(&list(by_key, old)), Vec::<String>::new());
    }

    #[test]
    fn dear_rules_are_refused() {
        let schema = value!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string"}}},
            "x-kubernetes-validations": [{"rule": "self.l.all(x, self.l.exists_one(y, x == y))"}]});
        let found = errors(&schema);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with(
            "s.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x"
        ));
        assert!(found[1].contains("contributed to estimated rule & messageExpression cost total"));
    }
}
