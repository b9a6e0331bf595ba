//! The evaluator: walks the tree, counts costs as cel-go's tracker does, and lets `&&`, `||` and folds absorb errors.

use std::collections::BTreeMap;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::ast::{ACCUMULATOR, Call, Expr, Fold, Kind, Literal, op};
use crate::check::{Checked, Resolved};
use crate::cost::call_cost;
use crate::functions::{equal, index, select, select_optional};
use crate::value::Key;
use crate::{Activation, EvalError, Value};

type Eval = Result<Value, EvalError>;

const LIST_COST: u64 = 10;
const MAP_COST: u64 = 30;
const OBJECT_COST: u64 = 40;

/// One evaluation.
pub(crate) struct Machine<'a> {
    pub checked: &'a Checked,
    pub variables: &'a dyn Activation,
    pub locals: Vec<(SmolStr, Eval)>,
    pub cost: u64,
    pub limit: u64,
}

impl<'a> Machine<'a> {
    fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::CallLimit) } else { Ok(()) }
    }

    pub fn eval(&mut self, e: &'a Expr) -> Eval {
        match &e.kind {
            Kind::Literal(literal) => Ok(literal_value(literal)),
            Kind::Ident(name) => self.ident(e, name),
            Kind::Select(select) => self.select(e, &select.operand, &select.field, select.test),
            Kind::Call(call) => self.call(e, call),
            Kind::List(items) => self.list(e, items),
            Kind::Map(entries) => self.map(e, entries),
            Kind::Struct(name, fields) => self.object(name, fields),
            Kind::Fold(fold) if fold.is_bind() => self.bind(fold),
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn ident(&mut self, e: &Expr, name: &SmolStr) -> Eval {
        if let Some(named) = &self.checked.type_names[e.id as usize] {
            return Ok(Value::Type(named.clone()));
        }
        self.charge(1)?;
        if let Some((_, value)) = self.locals.iter().rev().find(|(n, _)| n == name) {
            return value.clone();
        }
        self.variable(name)
    }

    fn variable(&self, name: &str) -> Eval {
        let missing = || Err(EvalError::new(format!("no such attribute(s): {name}")));
        self.variables.resolve(name).unwrap_or_else(missing)
    }

    /// What is not reached by names from a variable costs one more to look into.
    fn operand(&mut self, e: &'a Expr) -> Eval {
        let attribute = match &e.kind {
            Kind::Ident(_) => true,
            Kind::Select(select) => !select.test,
            Kind::Call(call) => matches!(call.function.as_str(), op::INDEX | op::OPT_INDEX | op::OPT_SELECT),
            _ => false,
        };
        let value = self.eval(e)?;
        if !attribute {
            self.charge(1)?;
        }
        Ok(value)
    }

    fn select(&mut self, e: &Expr, operand: &'a Expr, field: &SmolStr, test: bool) -> Eval {
        if let Some(named) = &self.checked.type_names[e.id as usize] {
            return Ok(Value::Type(named.clone()));
        }
        if let Some(name) = &self.checked.variables[e.id as usize] {
            self.charge(1)?;
            return self.variable(name);
        }
        let target = self.operand(operand)?;
        if test {
            return crate::functions::has(&target, field).map(Value::Bool);
        }
        self.charge(1)?;
        select(&target, field)
    }

    fn list(&mut self, e: &'a Expr, items: &'a [crate::ast::Item]) -> Eval {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match (self.eval(&item.value)?, item.optional) {
                (Value::Optional(Some(value)), true) => values.push((*value).clone()),
                (Value::Optional(None), true) => {}
                (value, _) => values.push(value),
            }
        }
        if !is_constant(e) {
            self.charge(LIST_COST)?;
        }
        Ok(Value::list(values))
    }

    fn map(&mut self, e: &'a Expr, entries: &'a [crate::ast::Entry]) -> Eval {
        let mut map = BTreeMap::new();
        for entry in entries {
            let key = Key::from_value(&self.eval(&entry.key)?)?;
            let value = match (self.eval(&entry.value)?, entry.optional) {
                (Value::Optional(Some(value)), true) => (*value).clone(),
                (Value::Optional(None), true) => continue,
                (value, _) => value,
            };
            if map.insert(key, value).is_some() {
                return Err(EvalError::new("Failed with repeated key"));
            }
        }
        if !is_constant(e) {
            self.charge(MAP_COST)?;
        }
        Ok(Value::Map(Arc::new(map)))
    }

    fn object(&mut self, name: &SmolStr, fields: &'a [crate::ast::FieldInit]) -> Eval {
        let mut map = BTreeMap::new();
        for field in fields {
            let value = match (self.eval(&field.value)?, field.optional) {
                (Value::Optional(Some(value)), true) => (*value).clone(),
                (Value::Optional(None), true) => continue,
                (value, _) => value,
            };
            map.insert(Key::String(field.name.clone()), value);
        }
        self.charge(OBJECT_COST)?;
        Ok(Value::Object(name.clone(), Arc::new(map)))
    }

    fn call(&mut self, e: &'a Expr, call: &'a Call) -> Eval {
        match (call.function.as_str(), call.args.as_slice()) {
            (op::AND, [left, right]) => self.logic(left, right, false),
            (op::OR, [left, right]) => self.logic(left, right, true),
            (op::CONDITIONAL, [condition, then, otherwise]) => match self.eval(condition)? {
                Value::Bool(true) => self.eval(then),
                Value::Bool(false) => self.eval(otherwise),
                _ => Err(EvalError::no_such_overload()),
            },
            (op::NOT_STRICTLY_FALSE, [arg]) => {
                let value = match self.eval(arg) {
                    Err(error) if error.is_fatal() => return Err(error),
                    Ok(Value::Bool(b)) => b,
                    _ => true,
                };
                self.charge(1)?;
                Ok(Value::Bool(value))
            }
            (op::INDEX, [target, key]) => {
                let (target, key) = (self.operand(target)?, self.eval(key)?);
                self.charge(1)?;
                index(&target, &key)
            }
            (op::OPT_INDEX, [target, key]) => {
                let (target, key) = (self.operand(target)?, self.eval(key)?);
                self.charge(1)?;
                crate::functions::index_optional(&target, &key)
            }
            (op::OPT_SELECT, [target, field]) => {
                let target = self.operand(target)?;
                self.charge(1)?;
                match &field.kind {
                    Kind::Literal(Literal::String(name)) => select_optional(&target, name),
                    _ => Err(EvalError::no_such_overload()),
                }
            }
            (op::EQUALS | op::NOT_EQUALS, [left, right]) => {
                let args = [self.eval(left)?, self.eval(right)?];
                let same = equal(&args[0], &args[1]);
                let result = Value::Bool(same == (call.function == op::EQUALS));
                self.charge(call_cost(&call.function, "equals", &args, &result))?;
                Ok(result)
            }
            (op::IN, [item, list]) if matches!(list.kind, Kind::List(_)) && is_constant(list) => {
                let (item, list) = (self.eval(item)?, self.eval(list)?);
                crate::functions::contains(&item, &list)
            }
            _ => self.function(e, call),
        }
    }

    /// `||` when `absorbing` is true, `&&` when it is false: that value wins over errors.
    fn logic(&mut self, left: &'a Expr, right: &'a Expr, absorbing: bool) -> Eval {
        let first = self.eval(left);
        match &first {
            Ok(Value::Bool(b)) if *b == absorbing => return first,
            Err(error) if error.is_fatal() => return first,
            _ => {}
        }
        let second = self.eval(right);
        match (first, second) {
            (_, Err(error)) if error.is_fatal() => Err(error),
            (_, Ok(Value::Bool(b))) if b == absorbing => Ok(Value::Bool(absorbing)),
            (Err(error), _) | (Ok(Value::Bool(_)), Err(error)) => Err(error),
            (Ok(Value::Bool(_)), Ok(Value::Bool(b))) => Ok(Value::Bool(b)),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn resolved(&self, e: &Expr) -> Result<&'a Resolved, EvalError> {
        self.checked.calls[e.id as usize].as_ref().ok_or_else(EvalError::no_such_overload)
    }

    fn function(&mut self, e: &'a Expr, call: &'a Call) -> Eval {
        let resolved = self.resolved(e)?;
        let mut args = Vec::with_capacity(call.args.len() + 1);
        if let Some(target) = call.target.as_ref().filter(|_| !resolved.qualified) {
            args.push(self.eval(target)?);
        }
        for arg in &call.args {
            args.push(self.eval(arg)?);
        }
        let run = resolved.function.run.ok_or_else(EvalError::no_such_overload)?;
        let result = run(&args)?;
        let overload = match resolved.overloads.as_slice() {
            [one] => one,
            _ => "",
        };
        let folded = is_conversion(&call.function) && matches!(call.args.as_slice(), [a] if is_literal(a));
        if !folded {
            self.charge(call_cost(resolved.function.name, overload, &args, &result))?;
        }
        Ok(result)
    }

    fn bind(&mut self, fold: &'a Fold) -> Eval {
        self.charge(LIST_COST)?;
        let value = self.eval(&fold.init);
        if let Err(error) = &value
            && error.is_fatal()
        {
            return value;
        }
        self.locals.push((fold.accu.clone(), value));
        let result = self.eval(&fold.result);
        self.locals.pop();
        result
    }

    fn fold(&mut self, fold: &'a Fold) -> Eval {
        let range = self.eval(&fold.range)?;
        let accu = self.eval(&fold.init);
        let depth = self.locals.len();
        let result = self.run_fold(fold, &range, accu);
        self.locals.truncate(depth);
        result
    }

    fn run_fold(&mut self, fold: &'a Fold, range: &Value, accu: Eval) -> Eval {
        let at = self.locals.len();
        self.locals.push((fold.accu.clone(), accu));
        match range {
            Value::List(items, _) => {
                for (i, item) in items.iter().enumerate() {
                    let (first, second) = match fold.second_var {
                        Some(_) => (Value::Int(i as i64), Some(item.clone())),
                        None => (item.clone(), None),
                    };
                    if !self.round(fold, at, first, second)? {
                        break;
                    }
                }
            }
            Value::Map(map) | Value::Object(_, map) => {
                for (key, value) in map.iter() {
                    let second = fold.second_var.as_ref().map(|_| value.clone());
                    if !self.round(fold, at, key.to_value(), second)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::no_such_overload()),
        }
        self.eval(&fold.result)
    }

    /// One round of a loop; false when it is to end.
    fn round(
        &mut self,
        fold: &'a Fold,
        at: usize,
        first: Value,
        second: Option<Value>,
    ) -> Result<bool, EvalError> {
        self.locals.push((fold.var.clone(), Ok(first)));
        if let (Some(name), Some(value)) = (&fold.second_var, second) {
            self.locals.push((name.clone(), Ok(value)));
        }
        let go_on = match self.eval(&fold.condition) {
            Err(error) if error.is_fatal() => return Err(error),
            Ok(Value::Bool(false)) => false,
            _ => true,
        };
        if go_on {
            match collects(&fold.step) {
                Some((filter, item)) => self.collect(at, filter, item)?,
                None => match self.eval(&fold.step) {
                    Err(error) if error.is_fatal() => return Err(error),
                    next => self.locals[at].1 = next,
                },
            }
        }
        self.locals.truncate(at + 1);
        Ok(go_on)
    }

    /// `accu + [item]`, if the filter holds, without copying the list.
    fn collect(&mut self, at: usize, filter: Option<&'a Expr>, item: &'a Expr) -> Result<(), EvalError> {
        let next = self.collected(filter, item);
        match next {
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => self.locals[at].1 = Err(error),
            Ok(None) => {}
            Ok(Some(value)) => {
                if let Ok(Value::List(list, _)) = &mut self.locals[at].1 {
                    Arc::make_mut(list).push(value);
                }
            }
        }
        Ok(())
    }

    fn collected(&mut self, filter: Option<&'a Expr>, item: &'a Expr) -> Result<Option<Value>, EvalError> {
        if let Some(filter) = filter {
            match self.eval(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) => {
                    self.charge(1)?;
                    return Ok(None);
                }
                _ => return Err(EvalError::no_such_overload()),
            }
        }
        let value = self.eval(item)?;
        let list = if is_constant(item) { 0 } else { LIST_COST };
        self.charge(2 + list)?;
        Ok(Some(value))
    }
}

/// The filter and item of a step that appends to the result.
fn collects(step: &Expr) -> Option<(Option<&Expr>, &Expr)> {
    let Kind::Call(call) = &step.kind else { return None };
    let is_accu = |e: &Expr| matches!(&e.kind, Kind::Ident(name) if name == ACCUMULATOR);
    match (call.function.as_str(), call.args.as_slice()) {
        (op::ADD, [accu, Expr { kind: Kind::List(items), .. }]) if is_accu(accu) => match items.as_slice() {
            [one] if !one.optional => Some((None, &one.value)),
            _ => None,
        },
        (op::CONDITIONAL, [filter, then, accu]) if is_accu(accu) => match collects(then)? {
            (None, item) => Some((Some(filter), item)),
            _ => None,
        },
        _ => None,
    }
}

/// Literals, and lists and maps of them, are made before evaluation and cost nothing.
fn is_constant(e: &Expr) -> bool {
    match &e.kind {
        Kind::Literal(_) => true,
        Kind::List(items) => items.iter().all(|i| !i.optional && is_constant(&i.value)),
        Kind::Map(entries) => {
            entries.iter().all(|e| !e.optional && is_constant(&e.key) && is_constant(&e.value))
        }
        _ => false,
    }
}

fn is_literal(e: &Expr) -> bool {
    matches!(e.kind, Kind::Literal(_))
}

fn is_conversion(function: &str) -> bool {
    matches!(
        function,
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint"
    )
}

fn literal_value(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(i) => Value::Int(*i),
        Literal::Uint(u) => Value::Uint(*u),
        Literal::Double(d) => Value::Double(*d),
        Literal::String(s) => Value::String(s.clone()),
        Literal::Bytes(b) => Value::Bytes(b.clone()),
    }
}

impl Key {
    /// A value as a key of a map.
    pub(crate) fn from_value(value: &Value) -> Result<Self, EvalError> {
        Ok(match value {
            Value::Bool(b) => Self::Bool(*b),
            Value::Int(i) => Self::Int(*i),
            Value::Uint(u) => Self::Uint(*u),
            Value::String(s) => Self::String(s.clone()),
            Value::Double(d) if d.fract() == 0.0 && d.abs() < 9.2e18 => Self::Int(*d as i64),
            _ => return Err(EvalError::new("unsupported key type")),
        })
    }
}
