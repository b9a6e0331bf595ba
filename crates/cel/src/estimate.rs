//! The static cost estimate (`checker/cost.go`, and the Kubernetes libraries' part of it): what an expression may cost at least
//! and at most, given how large its variables may be.

use std::collections::HashMap;

use smol_str::SmolStr;

use crate::ast::{ACCUMULATOR, Call, Expr, Fold, Id, Kind, Literal, op};
use crate::check::Checked;
use crate::cost::{REGEX, TRAVERSAL};
use crate::{CostRange, SizeEstimator, Type};

const UNKNOWN: CostRange = CostRange { min: 0, max: u64::MAX };
const ONE: CostRange = CostRange::fixed(1);

impl CostRange {
    /// At least and at most the same.
    pub const fn fixed(cost: u64) -> Self {
        Self { min: cost, max: cost }
    }

    fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    fn scaled(self, factor: f64) -> Self {
        let scale = |x: u64| {
            let product = (x as f64 * factor).ceil();
            if product >= 18_446_744_073_709_551_616.0 { u64::MAX } else { product as u64 }
        };
        Self { min: scale(self.min), max: scale(self.max) }
    }

    fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// Sizes of the keys and values of a container.
#[derive(Debug, Clone, Copy)]
struct EntrySize {
    list: bool,
    key: CostRange,
    value: CostRange,
}

impl EntrySize {
    fn union(self, other: Self) -> Self {
        Self { list: self.list, key: self.key.union(other.key), value: self.value.union(other.value) }
    }
}

/// What is known of a variable of a fold.
#[derive(Debug, Clone)]
struct Local {
    name: SmolStr,
    path: Vec<SmolStr>,
    size: Option<CostRange>,
    entries: Option<EntrySize>,
}

/// What a call costs, its arguments included, and how large its result is.
struct CallCost {
    cost: CostRange,
    size: Option<CostRange>,
}

/// What an expression may cost.
pub(crate) fn estimate(root: &Expr, checked: &Checked, sizes: &dyn SizeEstimator) -> CostRange {
    let mut coster = Coster {
        checked,
        sizes,
        paths: HashMap::new(),
        locals: Vec::new(),
        computed: HashMap::new(),
        entries: HashMap::new(),
    };
    coster.cost(root)
}

struct Coster<'a> {
    checked: &'a Checked,
    sizes: &'a dyn SizeEstimator,
    paths: HashMap<Id, Vec<SmolStr>>,
    locals: Vec<Local>,
    computed: HashMap<Id, CostRange>,
    entries: HashMap<Id, EntrySize>,
}

impl Coster<'_> {
    fn type_of(&self, e: &Expr) -> &Type {
        &self.checked.types[e.id as usize]
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    fn path(&self, e: &Expr) -> Vec<SmolStr> {
        if let Kind::Ident(name) = &e.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&e.id).cloned().unwrap_or_default()
    }

    fn below(&self, e: &Expr, step: &str) -> Vec<SmolStr> {
        let mut path = self.path(e);
        path.push(step.into());
        path
    }

    fn cost(&mut self, e: &Expr) -> CostRange {
        match &e.kind {
            Kind::Literal(_) => CostRange::default(),
            Kind::Ident(name) => {
                let path = self.local(name).map_or_else(|| vec![name.clone()], |local| local.path.clone());
                self.paths.insert(e.id, path);
                ONE
            }
            Kind::Select(select) => {
                if let Some(name) = &self.checked.variables[e.id as usize] {
                    self.paths.insert(e.id, vec![name.clone()]);
                    return ONE;
                }
                let operand = self.cost(&select.operand);
                if select.test {
                    return operand;
                }
                let of = self.type_of(&select.operand);
                let dear = matches!(of, Type::Map(..) | Type::Object(_) | Type::Param(_));
                let path = self.below(&select.operand, &select.field);
                self.paths.insert(e.id, path);
                if dear { operand.plus(ONE) } else { operand }
            }
            Kind::Call(call) => self.call(e, call),
            Kind::List(items) => {
                let (mut sum, mut size) = (CostRange::fixed(10), None::<CostRange>);
                for item in items {
                    sum = sum.plus(self.cost(&item.value));
                    let of = self.size_or_unknown(&item.value);
                    size = Some(size.map_or(of, |size| size.union(of)));
                }
                let value = size.unwrap_or_default();
                self.entries.insert(e.id, EntrySize { list: true, key: ONE, value });
                sum
            }
            Kind::Map(entries) => {
                let (mut sum, mut size) = (CostRange::fixed(30), None::<EntrySize>);
                for entry in entries {
                    sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                    let (key, value) = (self.size_or_unknown(&entry.key), self.size_or_unknown(&entry.value));
                    let of = EntrySize { list: false, key, value };
                    size = Some(size.map_or(of, |size| size.union(of)));
                }
                let none = CostRange::default();
                self.entries.insert(e.id, size.unwrap_or(EntrySize { list: false, key: none, value: none }));
                sum
            }
            Kind::Struct(_, fields) => {
                fields.iter().fold(CostRange::fixed(40), |sum, field| sum.plus(self.cost(&field.value)))
            }
            Kind::Fold(fold) if fold.is_bind() => self.bind(e, fold),
            Kind::Fold(fold) => self.fold(e, fold),
        }
    }

    fn bind(&mut self, e: &Expr, fold: &Fold) -> CostRange {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_accu(fold);
        sum = sum.plus(self.cost(&fold.result));
        let (size, entries) = (self.size(&fold.result), self.entry_size(&fold.result));
        self.locals.pop();
        self.remember(e, size, entries);
        sum
    }

    fn remember(&mut self, e: &Expr, size: Option<CostRange>, entries: Option<EntrySize>) {
        if let Some(size) = size {
            self.computed.insert(e.id, size);
        }
        if let Some(entries) = entries {
            self.entries.insert(e.id, entries);
        }
    }

    fn push_accu(&mut self, fold: &Fold) {
        let local = Local {
            name: fold.accu.clone(),
            path: self.path(&fold.init),
            size: self.size(&fold.init),
            entries: self.entry_size(&fold.init),
        };
        self.locals.push(local);
    }

    fn fold(&mut self, e: &Expr, fold: &Fold) -> CostRange {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_accu(fold);
        let depth = self.locals.len();
        let entries = self.entry_size(&fold.range);
        let list = entries.map_or(matches!(self.type_of(&fold.range), Type::List(_)), |e| e.list);
        let (key, value) = (entries.map(|e| e.key), entries.map(|e| e.value));
        let (keys, values) = if list { ("@indices", "@items") } else { ("@keys", "@values") };
        let single = if list { (values, value) } else { (keys, key) };
        let push = |coster: &mut Self, name: &SmolStr, (step, size): (&str, Option<CostRange>)| {
            let path = coster.below(&fold.range, step);
            coster.locals.push(Local { name: name.clone(), path, size, entries: None });
        };
        match &fold.second_var {
            Some(second) => {
                push(self, &fold.var, (keys, key));
                push(self, second, (values, value));
            }
            None => push(self, &fold.var, single),
        }
        let loop_cost = self.cost(&fold.condition);
        let step = self.cost(&fold.step);
        self.locals.truncate(depth);
        sum = sum.plus(self.cost(&fold.result));
        let step_entries = self.entry_size(&fold.step);
        let init_size = self.size(&fold.init);
        self.locals.truncate(depth - 1);
        let rounds = self.size_or_unknown(&fold.range);
        sum = sum.plus(rounds.times(step.plus(loop_cost)));
        match &fold.init.kind {
            Kind::Literal(_) => self.remember(e, init_size, None),
            Kind::List(_) | Kind::Map(_) => self.remember(e, Some(rounds), step_entries),
            _ => {}
        }
        sum
    }

    fn call(&mut self, e: &Expr, call: &Call) -> CostRange {
        if call.function == "dyn"
            && let [arg] = call.args.as_slice()
        {
            let cost = self.cost(arg).plus(ONE);
            let (size, entries) = (self.size(arg), self.entry_size(arg));
            self.remember(e, size, entries);
            return cost;
        }
        let costs: Vec<CostRange> = call.args.iter().map(|arg| self.cost(arg)).collect();
        let Some(resolved) = &self.checked.calls[e.id as usize] else { return CostRange::default() };
        let (overloads, qualified) = (resolved.overloads.clone(), resolved.qualified);
        let target = call.target.as_ref().filter(|_| !qualified);
        let sum = target.map_or(CostRange::default(), |target| self.cost(target));
        let name = resolved.function.name;
        let (mut total, mut size) = (None::<CostRange>, None::<CostRange>);
        for overload in overloads {
            let one = self.overload(e, name, overload, target, &call.args, &costs);
            total = Some(total.map_or(one.cost, |t| t.union(one.cost)));
            if let Some(of) = one.size {
                size = Some(size.map_or(of, |s| s.union(of)));
            }
            let step = match overload {
                "index_list" => "@items",
                "index_map" => "@values",
                _ => "",
            };
            if !step.is_empty() && !call.args.is_empty() {
                size = self.entry_size(&call.args[0]).map(|e| e.value);
                let path = self.below(&call.args[0], step);
                self.paths.insert(e.id, path);
            }
            if size.is_none() {
                size = self.size(e);
            }
        }
        self.remember(e, size, None);
        sum.plus(total.unwrap_or_default())
    }

    fn overload(
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

    /// How large the items of a list may be, by its path alone.
    fn item_size(&mut self, list: &Expr) -> CostRange {
        let path = self.outer_path(list);
        if path.is_empty() {
            return UNKNOWN;
        }
        let path: Vec<SmolStr> = path.into_iter().chain([SmolStr::new_static("@items")]).collect();
        self.sizes.size(&path).unwrap_or(UNKNOWN)
    }

    /// The path of what is reached from variables of the environment.
    fn outer_path(&self, e: &Expr) -> Vec<SmolStr> {
        let path = self.path(e);
        if path.first().is_some_and(|first| first == ACCUMULATOR) { Vec::new() } else { path }
    }

    fn size_or_unknown(&mut self, e: &Expr) -> CostRange {
        self.size(e).unwrap_or(UNKNOWN)
    }

    fn size(&mut self, e: &Expr) -> Option<CostRange> {
        if let Some(size) = self.computed.get(&e.id) {
            return Some(*size);
        }
        match &e.kind {
            Kind::Literal(Literal::String(text)) => {
                return Some(CostRange::fixed(text.chars().count() as u64));
            }
            Kind::Literal(Literal::Bytes(bytes)) => return Some(CostRange::fixed(bytes.len() as u64)),
            Kind::Literal(_) => return Some(ONE),
            Kind::List(items) => return Some(CostRange::fixed(items.len() as u64)),
            Kind::Map(entries) => return Some(CostRange::fixed(entries.len() as u64)),
            _ => {}
        }
        let path = self.path(e);
        if !path.is_empty()
            && let Some(size) = self.sizes.size(&path)
        {
            self.computed.insert(e.id, size);
            return Some(size);
        }
        if is_scalar(self.type_of(e)) {
            return Some(ONE);
        }
        match &e.kind {
            Kind::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }

    fn entry_size(&self, e: &Expr) -> Option<EntrySize> {
        if let Some(entries) = self.entries.get(&e.id) {
            return Some(*entries);
        }
        match &e.kind {
            Kind::Ident(name) => self.local(name)?.entries,
            _ => None,
        }
    }
}

fn is_scalar(of: &Type) -> bool {
    match of {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        Type::Optional(of) => is_scalar(of),
        _ => false,
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
