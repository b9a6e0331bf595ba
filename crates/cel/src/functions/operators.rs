//! Operators, sizes, optionals and sets.

use std::cmp::Ordering;
use std::sync::Arc;

use super::core::{contains, equal, order, same_entry};
use super::{Eval, Function, fail, items, no_overload};
use crate::value::{Key, ListKind};
use crate::{EvalError, Timestamp, Value};

const INT_OVERFLOW: &str = "integer overflow";
const UINT_OVERFLOW: &str = "unsigned integer overflow";
const DURATION_OVERFLOW: &str = "duration overflow";

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "!_" => |a| match a {
            [Value::Bool(b)] => Ok(Value::Bool(!b)),
            _ => no_overload(),
        },
        "-_" => |a| match a {
            [Value::Int(i)] => i.checked_neg().map(Value::Int).ok_or_else(|| EvalError::new(INT_OVERFLOW)),
            [Value::Double(d)] => Ok(Value::Double(-d)),
            _ => no_overload(),
        },
        "_==_" => |a| Ok(Value::Bool(equal(&a[0], &a[1]))),
        "_!=_" => |a| Ok(Value::Bool(!equal(&a[0], &a[1]))),
        "_<_" => |a| compare(a, Ordering::is_lt),
        "_<=_" => |a| compare(a, Ordering::is_le),
        "_>_" => |a| compare(a, Ordering::is_gt),
        "_>=_" => |a| compare(a, Ordering::is_ge),
        "@in" => |a| contains(&a[0], &a[1]),
        "_[_]" => |a| super::index(&a[0], &a[1]),
        "_[?_]" => |a| super::index_optional(&a[0], &a[1]),
        "_+_" => add,
        "_-_" => subtract,
        "_*_" => |a| arithmetic(a, i64::checked_mul, u64::checked_mul, |a, b| a * b),
        "_/_" => |a| {
            nonzero(a, "division by zero")?;
            arithmetic(a, i64::checked_div, u64::checked_div, |a, b| a / b)
        },
        "_%_" => |a| {
            nonzero(a, "modulus by zero")?;
            arithmetic(a, i64::checked_rem, u64::checked_rem, |a, b| a % b)
        },
        "size" => |a| size(&a[0]).map(|n| Value::Int(n as i64)),
        "optional.of" => |a| Ok(Value::Optional(Some(Arc::new(a[0].clone())))),
        "optional.none" => |_| Ok(Value::Optional(None)),
        "optional.ofNonZeroValue" => {
            |a| Ok(Value::Optional((!is_zero(&a[0])).then(|| Arc::new(a[0].clone()))))
        }
        "hasValue" => |a| match a {
            [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
            _ => no_overload(),
        },
        "value" => |a| match a {
            [Value::Optional(Some(value))] => Ok((**value).clone()),
            [Value::Optional(None)] => fail("optional.none() dereference"),
            _ => no_overload(),
        },
        "or" => |a| match a {
            [Value::Optional(None), other] => Ok(other.clone()),
            [present @ Value::Optional(_), _] => Ok(present.clone()),
            _ => no_overload(),
        },
        "orValue" => |a| match a {
            [Value::Optional(Some(value)), _] => Ok((**value).clone()),
            [Value::Optional(None), other] => Ok(other.clone()),
            _ => no_overload(),
        },
        "sets.contains" => |a| subset(a, 1, 0).map(Value::Bool),
        "sets.equivalent" => |a| Ok(Value::Bool(subset(a, 0, 1)? && subset(a, 1, 0)?)),
        "sets.intersects" => |a| {
            let other = items(a, 1)?;
            Ok(Value::Bool(items(a, 0)?.iter().any(|x| other.iter().any(|y| equal(x, y)))))
        },
        "cel.@mapInsert" => insert,
        _ => return None,
    })
}

fn subset(args: &[Value], part: usize, whole: usize) -> Result<bool, EvalError> {
    let whole = items(args, whole)?;
    Ok(items(args, part)?.iter().all(|x| whole.iter().any(|y| equal(x, y))))
}

fn insert(args: &[Value]) -> Eval {
    let (Value::Map(map), rest) = (&args[0], &args[1..]) else { return no_overload() };
    let mut map = map.clone();
    let target = Arc::make_mut(&mut map);
    let entries: Vec<(Key, Value)> = match rest {
        [key, value] => vec![(Key::from_value(key)?, value.clone())],
        [Value::Map(more)] => more.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        _ => return no_overload(),
    };
    for (key, value) in entries {
        if target.contains_key(&key) {
            return fail(format!("insert failed: key {key} already exists"));
        }
        target.insert(key, value);
    }
    Ok(Value::Map(map))
}

fn compare(args: &[Value], test: fn(Ordering) -> bool) -> Eval {
    Ok(Value::Bool(order(&args[0], &args[1])?.is_some_and(test)))
}

/// The size of what has one.
pub(super) fn size(value: &Value) -> Result<usize, EvalError> {
    Ok(match value {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items, _) => items.len(),
        Value::Map(map) | Value::Object(_, map) => map.len(),
        _ => return no_overload(),
    })
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Int(i) => *i == 0,
        Value::Uint(u) => *u == 0,
        Value::Double(d) => *d == 0.0,
        Value::Duration(d) => *d == 0,
        Value::Optional(value) => value.is_none(),
        other => size(other).is_ok_and(|size| size == 0),
    }
}

fn nonzero(args: &[Value], words: &str) -> Result<(), EvalError> {
    if matches!(args, [_, Value::Int(0) | Value::Uint(0)]) { fail(words) } else { Ok(()) }
}

fn arithmetic(
    args: &[Value],
    int: fn(i64, i64) -> Option<i64>,
    uint: fn(u64, u64) -> Option<u64>,
    double: fn(f64, f64) -> f64,
) -> Eval {
    match args {
        [Value::Int(a), Value::Int(b)] => {
            int(*a, *b).map(Value::Int).ok_or_else(|| EvalError::new(INT_OVERFLOW))
        }
        [Value::Uint(a), Value::Uint(b)] => {
            uint(*a, *b).map(Value::Uint).ok_or_else(|| EvalError::new(UINT_OVERFLOW))
        }
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(double(*a, *b))),
        _ => no_overload(),
    }
}

fn moved(at: Timestamp, nanos: i128) -> Eval {
    let moved = Timestamp::from_total(at.total() + nanos);
    moved.map(Value::Timestamp).ok_or_else(|| EvalError::new("timestamp overflow"))
}

fn duration(nanos: Option<i64>) -> Eval {
    nanos.map(Value::Duration).ok_or_else(|| EvalError::new(DURATION_OVERFLOW))
}

/// `a + b`, also used for `sum`.
pub(super) fn add(args: &[Value]) -> Eval {
    match args {
        [Value::String(a), Value::String(b)] => Ok(Value::str(format!("{a}{b}"))),
        [Value::Bytes(a), Value::Bytes(b)] => Ok(Value::Bytes([&a[..], &b[..]].concat().into())),
        [Value::List(a, kind), Value::List(b, _)] => Ok(join(a, b, kind)),
        [Value::Duration(a), Value::Duration(b)] => duration(a.checked_add(*b)),
        [Value::Timestamp(at), Value::Duration(by)] | [Value::Duration(by), Value::Timestamp(at)] => {
            moved(*at, i128::from(*by))
        }
        _ => arithmetic(args, i64::checked_add, u64::checked_add, |a, b| a + b),
    }
}

/// Lists of a schema join as their kind says: sets hold each item once, maps take the later item of a key.
fn join(a: &Arc<Vec<Value>>, b: &[Value], kind: &ListKind) -> Value {
    let mut all = a.as_ref().clone();
    for item in b {
        let place = match kind {
            ListKind::Atomic => None,
            ListKind::Set => all.iter().position(|x| equal(x, item)),
            ListKind::Map(keys) => all.iter().position(|x| same_entry(x, item, keys)),
        };
        match place {
            Some(at) => all[at] = item.clone(),
            None => all.push(item.clone()),
        }
    }
    Value::List(Arc::new(all), kind.clone())
}

fn subtract(args: &[Value]) -> Eval {
    match args {
        [Value::Duration(a), Value::Duration(b)] => duration(a.checked_sub(*b)),
        [Value::Timestamp(at), Value::Duration(by)] => moved(*at, -i128::from(*by)),
        [Value::Timestamp(a), Value::Timestamp(b)] => duration(i64::try_from(a.total() - b.total()).ok()),
        _ => arithmetic(args, i64::checked_sub, u64::checked_sub, |a, b| a - b),
    }
}
