//! What calls cost, function by function.

use super::{CallCost, Coster, ONE};
use crate::ast::{Expr, Kind, Literal, op};
use crate::cost::{REGEX, TRAVERSAL};
use crate::{CostRange, Type};

impl Coster<'_> {
    /// What a call costs with its arguments, `costs` of them, and how large its result is.
    pub(super) fn overload(
        &mut self,
        e: &Expr,
        name: &str,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
        costs: &[CostRange],
    ) -> CallCost {
        let sum = costs.iter().fold(CostRange::default(), |sum, c| sum.plus(*c));
        if let Some(library) = self.library(name, overload, target, args) {
            return CallCost { cost: library.cost.plus(sum), size: library.size };
        }
        let plain = |cost: CostRange| CallCost { cost: cost.plus(sum), size: None };
        let sized = |cost: CostRange, size: CostRange| CallCost { cost: cost.plus(sum), size: Some(size) };
        let size = |coster: &mut Self, e: &Expr| coster.size_or_unknown(e);
        match (overload, target, args) {
            ("string_format", Some(target), [list, ..]) => {
                let (text, list) = (size(self, target), size(self, list));
                sized(text.scaled(TRAVERSAL), text.plus(list))
            }
            ("string_to_bytes", _, [arg]) => {
                let of = size(self, arg);
                sized(of.scaled(TRAVERSAL), CostRange { min: of.min, max: of.max.saturating_mul(4) })
            }
            ("bytes_to_string", _, [arg]) => {
                let of = size(self, arg);
                sized(of.scaled(TRAVERSAL), CostRange { min: of.min / 4, max: of.max })
            }
            ("strings_quote", _, [arg]) => {
                let of = size(self, arg);
                let max = of.max.saturating_mul(2).saturating_add(2);
                sized(of.scaled(TRAVERSAL), CostRange { min: of.min.saturating_add(2), max })
            }
            ("starts_with_string" | "ends_with_string", _, [arg]) => plain(size(self, arg).scaled(TRAVERSAL)),
            ("in_list", _, [_, list]) => plain(size(self, list)),
            ("matches_string", Some(text), [pattern]) => plain(self.pattern(text, pattern)),
            ("contains_string", Some(text), [part]) => {
                let (text, part) = (size(self, text).scaled(TRAVERSAL), size(self, part).scaled(TRAVERSAL));
                plain(text.times(part))
            }
            ("logical_or" | "logical_and", ..) => match costs {
                [left, right] => {
                    let cost = CostRange { min: left.min, max: left.max.saturating_add(right.max) };
                    CallCost { cost, size: None }
                }
                _ => plain(CostRange::default()),
            },
            ("conditional", _, [_, then, otherwise]) => {
                let of = size(self, then).union(size(self, otherwise));
                if let (Some(a), Some(b)) = (self.entry_size(then), self.entry_size(otherwise)) {
                    self.entries.insert(e.id, a.union(b));
                }
                CallCost { cost: costs[0].plus(costs[1].union(costs[2])), size: Some(of) }
            }
            ("add_string" | "add_bytes" | "add_list", _, [left, right]) => {
                let of = size(self, left).plus(size(self, right));
                if let (Some(a), Some(b)) = (self.entry_size(left), self.entry_size(right)) {
                    self.entries.insert(e.id, a.union(b));
                }
                sized(if overload == "add_list" { ONE } else { of.scaled(TRAVERSAL) }, of)
            }
            (
                "less_string"
                | "greater_string"
                | "less_equals_string"
                | "greater_equals_string"
                | "less_bytes"
                | "greater_bytes"
                | "less_equals_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                _,
                [left, right],
            ) => {
                let max = size(self, left).max.min(size(self, right).max);
                plain(CostRange { min: u64::from(max > 0), max }.scaled(TRAVERSAL))
            }
            ("list_sets_contains" | "list_sets_intersects" | "list_sets_equivalent", _, [left, right]) => {
                let product = size(self, left).times(size(self, right));
                let factor = if overload == "list_sets_equivalent" { 2 } else { 1 };
                plain(product.times(CostRange::fixed(factor)).plus(ONE))
            }
            _ => plain(ONE),
        }
    }

    fn pattern(&mut self, text: &Expr, pattern: &Expr) -> CostRange {
        let text = self.size_or_unknown(text).plus(ONE).scaled(TRAVERSAL);
        text.times(self.size_or_unknown(pattern).scaled(REGEX))
    }

    /// Functions of the Kubernetes libraries, without their arguments' costs.
    fn library(
        &mut self,
        name: &str,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Option<CallCost> {
        let plain = |cost: CostRange| Some(CallCost { cost, size: None });
        let sized = |cost: CostRange, size: CostRange| Some(CallCost { cost, size: Some(size) });
        match (name, target, args) {
            ("check", ..) => plain(CostRange::fixed(350_000)),
            (
                "serviceAccount"
                | "path"
                | "group"
                | "resource"
                | "subresource"
                | "namespace"
                | "name"
                | "allowed"
                | "reason"
                | "error"
                | "errored"
                | "fieldSelector"
                | "labelSelector"
                | "masked"
                | "prefixLength"
                | "family"
                | "isUnspecified"
                | "isLoopback"
                | "isLinkLocalMulticast"
                | "isLinkLocalUnicast"
                | "isGlobalUnicast"
                | "sign"
                | "asInteger"
                | "isInteger"
                | "asApproximateFloat"
                | "isGreaterThan"
                | "isLessThan"
                | "compareTo"
                | "add"
                | "sub"
                | "major"
                | "minor"
                | "patch"
                | "format.named",
                ..,
            ) => plain(ONE),
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target), _) => {
                let of = self.size_or_unknown(target);
                let Type::List(item) = self.type_of(target).clone() else {
                    return plain(of.scaled(TRAVERSAL));
                };
                let mut each = ONE;
                if matches!(*item, Type::String | Type::Bytes) {
                    each = each.plus(self.item_size(target).scaled(TRAVERSAL));
                }
                plain(of.times(each))
            }
            (
                "url" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver",
                None,
                [arg, ..],
            ) => plain(self.size_or_unknown(arg).scaled(TRAVERSAL)),
            ("ip", None, [arg]) => plain(self.size_or_unknown(arg).scaled(TRAVERSAL)),
            ("ip", Some(_), _) => plain(ONE),
            ("ip.isCanonical", _, [arg]) => plain(self.size_or_unknown(arg).scaled(2.0 * TRAVERSAL)),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(target), _) => {
                let of = self.size_or_unknown(target);
                sized(of.scaled(TRAVERSAL), of)
            }
            ("jsonpatch.escapeKey", _, [arg]) => {
                let of = self.size_or_unknown(arg);
                sized(of.scaled(TRAVERSAL), CostRange { min: of.min, max: of.max.saturating_mul(2) })
            }
            ("replace", Some(target), [from, to, ..]) => {
                let of = self.size_or_unknown(target);
                let (from, to) = (self.size_or_unknown(from), self.size_or_unknown(to));
                sized(of.scaled(2.0 * TRAVERSAL), replaced(of, from, to))
            }
            ("split", Some(target), _) => {
                let of = self.size_or_unknown(target);
                let most = match args {
                    [_, Expr { kind: Kind::Literal(Literal::Int(n)), .. }] => {
                        u64::try_from(*n).unwrap_or(of.max)
                    }
                    _ => of.max,
                };
                sized(of.scaled(2.0 * TRAVERSAL), CostRange { min: 0, max: most })
            }
            ("join", Some(target), _) => {
                let list = self.size_or_unknown(target);
                let mut of = list.times(self.item_size(target));
                if let [separator] = args {
                    let between =
                        CostRange { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
                    of = of.plus(self.size_or_unknown(separator).times(between));
                }
                sized(of.scaled(TRAVERSAL), of)
            }
            ("find" | "findAll", Some(target), [pattern, ..]) => {
                let max = self.size_or_unknown(target).max;
                sized(self.pattern(target, pattern), CostRange { min: 0, max })
            }
            ("validate", Some(_), [arg]) => plain(self.size_or_unknown(arg).scaled(TRAVERSAL)),
            ("containsIP" | "containsCIDR", Some(_), [arg]) => {
                let octets = CostRange { min: 4, max: 16 };
                let mut cost = octets.plus(octets).scaled(TRAVERSAL);
                if name == "containsCIDR" {
                    cost = cost.plus(octets.scaled(TRAVERSAL)).plus(ONE);
                }
                if overload.ends_with("_string") {
                    cost = cost.plus(self.size_or_unknown(arg).scaled(TRAVERSAL));
                }
                plain(cost)
            }
            (op::EQUALS | op::NOT_EQUALS, _, [left, _]) if matches!(self.type_of(left), Type::Opaque(_)) => {
                plain(ONE)
            }
            _ => None,
        }
    }
}

/// How large a text is after `from` was replaced by `to` all over.
fn replaced(of: CostRange, from: CostRange, to: CostRange) -> CostRange {
    let times = |size: u64, by: u64| (size as f64 / by as f64).ceil() as u64;
    let (count_max, kept_max) = match () {
        () if from.min == 0 => (of.max.saturating_add(1), of.max),
        () if to.max <= from.min => (0, of.max),
        () => (times(of.max, from.min), 0),
    };
    let (count_min, kept_min) = match () {
        () if from.max == 0 => (of.min.saturating_add(1), of.min),
        () if from.max <= to.min => (0, of.min),
        () => (times(of.min, from.max), 0),
    };
    let count = CostRange { min: count_min, max: count_max };
    count.times(to).plus(CostRange { min: kept_min, max: kept_max })
}
