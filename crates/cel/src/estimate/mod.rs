//! The static cost estimate (`checker/cost.go`, and the Kubernetes libraries' part of it): what an expression may cost at least
//! and at most, given how large its variables may be.

mod calls;

use std::collections::HashMap;

use smol_str::SmolStr;

use crate::ast::{ACCUMULATOR, Call, Expr, Fold, Id, Kind, Literal};
use crate::check::Checked;
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
