//! What evaluation costs: budgets at run time, ranges and sizes for the estimate beforehand.

use crate::Value;

/// What one call of an expression may use (`PerCallLimit`).
pub const PER_CALL_LIMIT: u64 = 1_000_000;

/// How much evaluations may still use, in upstream's cost units.
#[derive(Debug, Clone)]
pub struct CostBudget {
    /// Most that one call may use.
    per_call: u64,
    /// What is left for all calls.
    left: u64,
}

impl CostBudget {
    /// A budget of `total` for all calls, each of which may use [`PER_CALL_LIMIT`].
    pub fn new(total: u64) -> Self {
        Self { per_call: PER_CALL_LIMIT, left: total }
    }

    /// A budget with another limit per call.
    pub fn with_call_limit(total: u64, per_call: u64) -> Self {
        Self { per_call, left: total }
    }

    /// What is left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Most that one call may use.
    pub fn per_call(&self) -> u64 {
        self.per_call
    }

    /// Takes `cost`; false when there was not so much left.
    pub fn take(&mut self, cost: u64) -> bool {
        let enough = cost <= self.left;
        self.left = self.left.saturating_sub(cost);
        enough
    }
}

/// A range of sizes or costs; unbounded ends at `u64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CostRange {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

/// Tells the cost estimate how large variables may be.
pub trait SizeEstimator {
    /// Range of `size()` of the value at `path`: a variable, then field names, `@items`, `@keys`, `@values`.
    fn size(&self, path: &[smol_str::SmolStr]) -> Option<CostRange>;
}

/// What walking over a string costs, per character.
pub(crate) const TRAVERSAL: f64 = 0.1;
/// What a regular expression costs, per character of it.
pub(crate) const REGEX: f64 = 0.25;

/// `size()` where there is one, else 1.
fn size(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.chars().count() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::List(items, _) => items.len() as u64,
        Value::Map(map) | Value::Object(_, map) => map.len() as u64,
        Value::Host(host) => crate::functions::host_size(host.as_ref()),
        _ => 1,
    }
}

/// What walking over all of a value costs.
fn traversal(value: &Value) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * TRAVERSAL) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * TRAVERSAL) as u64,
        Value::List(items, _) => items.iter().map(traversal).sum(),
        Value::Map(map) | Value::Object(_, map) => {
            map.iter().map(|(key, value)| traversal(&key.to_value()) + traversal(value)).sum()
        }
        _ => 1,
    }
}

/// What a call cost (`CostTracker.costCall` and the Kubernetes libraries' `CallCost`). Authorization checks are dear: two per
/// expression.
pub(crate) fn call_cost(function: &str, overload: &str, args: &[Value], result: &Value) -> u64 {
    let at = |i: usize| args.get(i).map_or(1, size);
    let walk = |n: u64, factor: f64| (n as f64 * factor).ceil() as u64;
    let pattern = || {
        let text = ((1.0 + at(0) as f64) * TRAVERSAL).ceil() as u64;
        text.saturating_mul(walk(at(1), REGEX))
    };
    match function {
        "check" => return 350_000,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
            return args.first().map_or(0, traversal);
        }
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver"
        | "jsonpatch.escapeKey" => return walk(at(0), TRAVERSAL),
        "ip" => return if overload == "cidr_ip" { 1 } else { walk(at(0), TRAVERSAL) },
        "replace" | "split" | "ip.isCanonical" => return walk(at(0), 2.0 * TRAVERSAL),
        "join" => return walk(size(result), 2.0 * TRAVERSAL),
        "find" | "findAll" => return pattern(),
        "validate" => return walk(at(1), TRAVERSAL).max(1),
        "containsIP" | "containsCIDR" => {
            let mut cost = walk(at(0) * 2, TRAVERSAL);
            if function == "containsCIDR" {
                cost += walk(at(0), TRAVERSAL) + 1;
            }
            if overload.ends_with("_string") {
                cost += walk(at(1), TRAVERSAL);
            }
            return cost;
        }
        "sets.contains" | "sets.intersects" => return 1 + at(0).saturating_mul(at(1)),
        "sets.equivalent" => return 1 + at(0).saturating_mul(at(1)).saturating_mul(2),
        _ => {}
    }
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
        | "strings_quote" | "string_format" => walk(at(0), TRAVERSAL),
        "in_list" => at(1),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "equals" => {
            if matches!(args.first(), Some(Value::Host(_))) {
                return 1;
            }
            walk(at(0).min(at(1)), TRAVERSAL)
        }
        "add_string" | "add_bytes" => walk(at(0) + at(1), TRAVERSAL),
        "matches" | "matches_string" => pattern(),
        "contains_string" => walk(at(0), TRAVERSAL).saturating_mul(walk(at(1), TRAVERSAL)),
        _ => 1,
    }
}
