//! Equality, order, fields and elements.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Eval, fail, no_overload};
use crate::value::{Key, ListKind};
use crate::{EvalError, Type, Value};

/// Whether two values are equal; values of different types are not, numbers are by value.
pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => same_kind(a, b),
        (Value::List(a, kind), Value::List(b, other)) => {
            let kind = if *kind == ListKind::Atomic { other } else { kind };
            equal_lists(a, b, kind)
        }
        (Value::Map(a), Value::Map(b)) => equal_maps(a, b),
        (Value::Object(name, a), Value::Object(other, b)) => name == other && equal_maps(a, b),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b),
            (None, None) => true,
            _ => false,
        },
        (Value::Host(a), Value::Host(b)) => a.equals(b.as_ref()),
        _ => number_order(a, b) == Some(Ordering::Equal),
    }
}

/// Types are equal by their names: the parameters are not known of values.
fn same_kind(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::List(_), Type::List(_)) | (Type::Map(..), Type::Map(..)) => true,
        (Type::Type(_), Type::Type(_)) | (Type::Optional(_), Type::Optional(_)) => true,
        (Type::Object(a), Type::Object(b)) => a.name == b.name,
        _ => a == b,
    }
}

fn equal_lists(a: &[Value], b: &[Value], kind: &ListKind) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match kind {
        ListKind::Atomic => a.iter().zip(b).all(|(a, b)| equal(a, b)),
        ListKind::Set => a.iter().all(|a| b.iter().any(|b| equal(a, b))),
        ListKind::Map(keys) => a.iter().all(|a| b.iter().any(|b| same_entry(a, b, keys) && equal(a, b))),
    }
}

/// Whether two items of a list of kind map have the same keys.
pub(super) fn same_entry(a: &Value, b: &Value, keys: &[smol_str::SmolStr]) -> bool {
    let of = |v: &Value, key: &smol_str::SmolStr| match v {
        Value::Map(map) => map.get(&Key::String(key.clone())).cloned(),
        _ => None,
    };
    keys.iter().all(|key| match (of(a, key), of(b, key)) {
        (Some(a), Some(b)) => equal(&a, &b),
        (None, None) => true,
        _ => false,
    })
}

fn equal_maps(
    a: &std::collections::BTreeMap<Key, Value>,
    b: &std::collections::BTreeMap<Key, Value>,
) -> bool {
    a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
}

/// How numbers of any type compare; `None` for other values and for what is no number.
fn number_order(a: &Value, b: &Value) -> Option<Ordering> {
    fn whole(v: &Value) -> Option<i128> {
        match v {
            Value::Int(i) => Some(i128::from(*i)),
            Value::Uint(u) => Some(i128::from(*u)),
            _ => None,
        }
    }
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => whole_order(whole(b)?, *a).map(Ordering::reverse),
        (a, Value::Double(b)) => whole_order(whole(a)?, *b),
        _ => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn whole_order(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    // Below 2^100 the conversion is exact but for the fraction, which decides when the rest is equal.
    let bounded = b.clamp(-1e30, 1e30);
    let order = a.cmp(&(bounded.trunc() as i128));
    Some(order.then_with(|| 0.0_f64.partial_cmp(&bounded.fract()).unwrap_or(Ordering::Equal)))
}

/// How two values compare; `None` when one is not a number.
pub(super) fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, EvalError> {
    Ok(Some(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        _ => match number_order(a, b) {
            Some(order) => order,
            None if matches!((a, b), (Value::Double(_), _) | (_, Value::Double(_))) => return Ok(None),
            None => return no_overload(),
        },
    }))
}

/// `operand.field`
pub(crate) fn select(target: &Value, field: &str) -> Eval {
    match target {
        Value::Map(map) | Value::Object(_, map) => match map.get(&Key::String(field.into())) {
            Some(value) => Ok(value.clone()),
            None => Err(EvalError::no_such_key(field)),
        },
        Value::Host(host) => host.field(field).unwrap_or_else(|| Err(EvalError::no_such_key(field))),
        Value::Optional(Some(inner)) => select_optional(inner, field),
        Value::Optional(None) => Ok(Value::Optional(None)),
        _ => no_overload(),
    }
}

/// `has(operand.field)`
pub(crate) fn has(target: &Value, field: &str) -> Result<bool, EvalError> {
    match target {
        Value::Map(map) | Value::Object(_, map) => Ok(map.contains_key(&Key::String(field.into()))),
        Value::Host(host) => match host.field(field) {
            Some(Err(error)) => Err(error),
            found => Ok(found.is_some()),
        },
        Value::Optional(Some(inner)) => has(inner, field),
        Value::Optional(None) => Ok(false),
        _ => no_overload(),
    }
}

fn some(value: Value) -> Value {
    Value::Optional(Some(Arc::new(value)))
}

/// `operand.?field`
pub(crate) fn select_optional(target: &Value, field: &str) -> Eval {
    match target {
        Value::Optional(Some(inner)) => select_optional(inner, field),
        Value::Optional(None) => Ok(Value::Optional(None)),
        _ if !has(target, field)? => Ok(Value::Optional(None)),
        _ => select(target, field).map(some),
    }
}

/// `operand[key]`
pub(crate) fn index(target: &Value, key: &Value) -> Eval {
    match target {
        Value::List(items, _) => {
            let at = match key {
                Value::Int(i) => *i,
                Value::Uint(u) => i64::try_from(*u).unwrap_or(i64::MAX),
                Value::Double(d) if d.fract() == 0.0 => *d as i64,
                Value::Double(d) => return fail(format!("unsupported index value: {d}")),
                _ => return no_overload(),
            };
            match usize::try_from(at).ok().and_then(|at| items.get(at)) {
                Some(item) => Ok(item.clone()),
                None => fail(format!("index out of bounds: {at}")),
            }
        }
        Value::Map(map) | Value::Object(_, map) => {
            let key = Key::from_value(key)?;
            map.get(&key).cloned().ok_or_else(|| EvalError::no_such_key(&key))
        }
        Value::Host(_) => select(target, key.as_str().ok_or_else(EvalError::no_such_overload)?),
        Value::Optional(Some(inner)) => index_optional(inner, key),
        Value::Optional(None) => Ok(Value::Optional(None)),
        _ => no_overload(),
    }
}

/// `operand[?key]`
pub(crate) fn index_optional(target: &Value, key: &Value) -> Eval {
    let there = match target {
        Value::Optional(Some(inner)) => return index_optional(inner, key),
        Value::Optional(None) => false,
        Value::List(items, _) => {
            matches!(key, Value::Int(i) if usize::try_from(*i).is_ok_and(|i| i < items.len()))
        }
        Value::Map(map) | Value::Object(_, map) => map.contains_key(&Key::from_value(key)?),
        _ => return no_overload(),
    };
    if there { index(target, key).map(some) } else { Ok(Value::Optional(None)) }
}

/// `item in container`
pub(crate) fn contains(item: &Value, container: &Value) -> Eval {
    match container {
        Value::List(items, _) => Ok(Value::Bool(items.iter().any(|i| equal(i, item)))),
        Value::Map(map) | Value::Object(_, map) => {
            Ok(Value::Bool(Key::from_value(item).is_ok_and(|key| map.contains_key(&key))))
        }
        _ => no_overload(),
    }
}
