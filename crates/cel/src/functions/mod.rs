//! What functions do. Each takes its arguments, the receiver of a method first.

mod authz;
mod convert;
mod core;
mod format;
mod lists;
mod net;
mod operators;
mod quantity;
mod semver;
mod strings;
mod times;
mod url;

use crate::{EvalError, Value};

pub(crate) use self::core::{contains, equal, has, index, index_optional, select, select_optional};
pub(crate) use crate::re2::regex;
pub(crate) use net::host_size;

/// What runs a function.
pub(crate) type Function = fn(&[Value]) -> Result<Value, EvalError>;

type Eval = Result<Value, EvalError>;

/// What runs the functions of that name; `None` for those of the evaluator itself and for unknown ones.
pub(crate) fn implementation(name: &str) -> Option<Function> {
    operators::find(name)
        .or_else(|| convert::find(name))
        .or_else(|| strings::find(name))
        .or_else(|| lists::find(name))
        .or_else(|| times::find(name))
        .or_else(|| quantity::find(name))
        .or_else(|| semver::find(name))
        .or_else(|| net::find(name))
        .or_else(|| url::find(name))
        .or_else(|| format::find(name))
        .or_else(|| authz::find(name))
}

fn no_overload<T>() -> Result<T, EvalError> {
    Err(EvalError::no_such_overload())
}

fn fail<T>(words: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::new(words))
}

/// The text of an argument.
fn text(args: &[Value], at: usize) -> Result<&str, EvalError> {
    args.get(at).and_then(Value::as_str).ok_or_else(EvalError::no_such_overload)
}

/// The whole number of an argument.
fn int(args: &[Value], at: usize) -> Result<i64, EvalError> {
    match args.get(at) {
        Some(Value::Int(i)) => Ok(*i),
        _ => no_overload(),
    }
}

/// The items of an argument.
fn items(args: &[Value], at: usize) -> Result<&[Value], EvalError> {
    match args.get(at) {
        Some(Value::List(items, _)) => Ok(items),
        _ => no_overload(),
    }
}

/// The library value of an argument.
fn host<T: 'static>(args: &[Value], at: usize) -> Result<&T, EvalError> {
    match args.get(at) {
        Some(Value::Host(host)) => host.as_any().downcast_ref().ok_or_else(EvalError::no_such_overload),
        _ => no_overload(),
    }
}

/// Makes a type of this library usable as a value: its name, and equality by `PartialEq`.
macro_rules! library_type {
    ($of:ty, $name:expr) => {
        impl crate::Host for $of {
            fn type_of(&self) -> crate::Type {
                crate::Type::Opaque(smol_str::SmolStr::new_static($name))
            }

            fn equals(&self, other: &dyn crate::Host) -> bool {
                other.as_any().downcast_ref::<Self>().is_some_and(|other| other == self)
            }

            fn as_any(&self) -> &dyn std::any::Any {
                self
            }
        }

        impl From<$of> for crate::Value {
            fn from(value: $of) -> Self {
                Self::Host(std::sync::Arc::new(value))
            }
        }
    };
}
use library_type;
