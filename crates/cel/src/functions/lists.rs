//! The list library of Kubernetes.

use std::cmp::Ordering;

use super::core::{equal, order};
use super::{Eval, Function, fail, items, operators};
use crate::{EvalError, Value};

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "isSorted" => |a| {
            let mut sorted = true;
            for pair in items(a, 0)?.windows(2) {
                sorted &= order(&pair[0], &pair[1])?.is_some_and(Ordering::is_le);
            }
            Ok(Value::Bool(sorted))
        },
        "sum" => |a| {
            let list = items(a, 0)?;
            let Some((first, rest)) = list.split_first() else { return Ok(Value::Int(0)) };
            rest.iter().try_fold(first.clone(), |sum, item| operators::add(&[sum, item.clone()]))
        },
        "min" => |a| extreme(a, "min", Ordering::is_lt),
        "max" => |a| extreme(a, "max", Ordering::is_gt),
        "indexOf" => |a| position(a, false),
        "lastIndexOf" => |a| position(a, true),
        _ => return None,
    })
}

fn extreme(args: &[Value], name: &str, better: fn(Ordering) -> bool) -> Eval {
    let list = items(args, 0)?;
    let Some((first, rest)) = list.split_first() else { return fail(format!("{name} called on empty list")) };
    rest.iter()
        .try_fold(first, |best, item| Ok(if order(item, best)?.is_some_and(better) { item } else { best }))
        .cloned()
}

fn position(args: &[Value], last: bool) -> Eval {
    if matches!(args.first(), Some(Value::String(_))) {
        return super::strings::index_of(args, last);
    }
    let (list, wanted) = (items(args, 0)?, args.get(1).ok_or_else(EvalError::no_such_overload)?);
    let found = match last {
        true => list.iter().rposition(|item| equal(item, wanted)),
        false => list.iter().position(|item| equal(item, wanted)),
    };
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}
