//! Conversions between types.

use super::{Eval, Function, fail, no_overload};
use crate::time::{format_duration, format_timestamp, parse_duration, parse_timestamp};
use crate::{EvalError, Timestamp, Type, Value};

const RANGE: &str = "range error converting";

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "type" => |a| Ok(Value::Type(type_of(&a[0]))),
        "dyn" => |a| Ok(a[0].clone()),
        "bool" => |a| match &a[0] {
            Value::Bool(b) => Ok(Value::Bool(*b)),
            Value::String(text) => match text.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
                _ => fail(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
            },
            _ => no_overload(),
        },
        "int" => to_int,
        "uint" => to_uint,
        "double" => |a| match &a[0] {
            Value::Double(d) => Ok(Value::Double(*d)),
            Value::Int(i) => Ok(Value::Double(*i as f64)),
            Value::Uint(u) => Ok(Value::Double(*u as f64)),
            Value::String(text) => match text.parse() {
                Ok(number) => Ok(Value::Double(number)),
                Err(_) => fail(format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")),
            },
            _ => no_overload(),
        },
        "string" => to_string,
        "bytes" => |a| match &a[0] {
            Value::Bytes(b) => Ok(Value::Bytes(b.clone())),
            Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
            _ => no_overload(),
        },
        "duration" => |a| match &a[0] {
            Value::Duration(d) => Ok(Value::Duration(*d)),
            Value::Int(seconds) => seconds
                .checked_mul(1_000_000_000)
                .map(Value::Duration)
                .ok_or_else(|| EvalError::new("duration overflow")),
            Value::String(text) => match parse_duration(text) {
                Some(nanos) => Ok(Value::Duration(nanos)),
                None => fail(format!("time: invalid duration {text:?}")),
            },
            _ => no_overload(),
        },
        "timestamp" => |a| {
            let made = match &a[0] {
                Value::Timestamp(at) => Some(*at),
                Value::Int(seconds) => Timestamp::new(*seconds, 0),
                Value::String(text) => parse_timestamp(text),
                _ => return no_overload(),
            };
            let shown = || EvalError::new(format!("invalid timestamp: {}", display(&a[0])));
            made.map(Value::Timestamp).ok_or_else(shown)
        },
        _ => return None,
    })
}

fn to_int(args: &[Value]) -> Eval {
    let overflow = || EvalError::new(format!("{RANGE} {} to int", display(&args[0])));
    match &args[0] {
        Value::Int(i) => Ok(Value::Int(*i)),
        Value::Uint(u) => i64::try_from(*u).map(Value::Int).map_err(|_| overflow()),
        Value::Double(d) if d.is_finite() && d.abs() < 9_223_372_036_854_775_807.0 => {
            Ok(Value::Int(d.trunc() as i64))
        }
        Value::Double(_) => Err(overflow()),
        Value::Duration(d) => Ok(Value::Int(*d)),
        Value::Timestamp(at) => Ok(Value::Int(at.seconds)),
        Value::String(text) => match text.parse() {
            Ok(number) => Ok(Value::Int(number)),
            Err(_) => fail(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")),
        },
        _ => no_overload(),
    }
}

fn to_uint(args: &[Value]) -> Eval {
    let overflow = || EvalError::new(format!("{RANGE} {} to uint", display(&args[0])));
    match &args[0] {
        Value::Uint(u) => Ok(Value::Uint(*u)),
        Value::Int(i) => u64::try_from(*i).map(Value::Uint).map_err(|_| overflow()),
        Value::Double(d) if *d >= 0.0 && *d < 18_446_744_073_709_551_615.0 => {
            Ok(Value::Uint(d.trunc() as u64))
        }
        Value::Double(_) => Err(overflow()),
        Value::String(text) => match text.parse() {
            Ok(number) => Ok(Value::Uint(number)),
            Err(_) => fail(format!("strconv.ParseUint: parsing {text:?}: invalid syntax")),
        },
        _ => no_overload(),
    }
}

fn to_string(args: &[Value]) -> Eval {
    match &args[0] {
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::str(text)),
            Err(_) => fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        Value::Host(_) => match super::net::text_of(&args[0]) {
            Some(text) => Ok(Value::str(text)),
            None => no_overload(),
        },
        Value::List(..) | Value::Map(_) | Value::Object(..) | Value::Optional(_) | Value::Null => {
            no_overload()
        }
        other => Ok(Value::str(display(other))),
    }
}

/// A double as Go's shortest form prints it.
pub(super) fn double_text(d: f64) -> String {
    if d.is_nan() {
        return "NaN".to_owned();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let exponent = if d == 0.0 { 0 } else { d.abs().log10().floor() as i32 };
    if (-4..21).contains(&exponent) {
        return format!("{d}");
    }
    let text = format!("{d:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// A scalar as text; other values by their type.
pub(super) fn display(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => double_text(*d),
        Value::String(text) => text.to_string(),
        Value::Timestamp(at) => format_timestamp(*at),
        Value::Duration(d) => format_duration(*d),
        Value::Type(of) => of.to_string(),
        other => type_of(other).to_string(),
    }
}

/// The type of a value, as far as it tells.
pub(super) fn type_of(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        Value::List(..) => Type::list(Type::Dyn),
        Value::Map(_) => Type::map(Type::Dyn, Type::Dyn),
        Value::Object(name, _) => Type::open_object(name.clone()),
        Value::Timestamp(_) => Type::Timestamp,
        Value::Duration(_) => Type::Duration,
        Value::Type(_) => Type::Type(Type::Dyn.into()),
        Value::Optional(_) => Type::optional(Type::Dyn),
        Value::Host(host) => host.type_of(),
    }
}
