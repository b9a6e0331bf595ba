//! Quantities, and comparisons that they share with versions.

use base::quantity::{Format, Quantity};

use super::semver::Version;
use super::{Function, fail, host, int, library_type, text};
use crate::{EvalError, Value};

/// A quantity as a value: equal when as much, whatever its suffix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amount(Quantity);

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.0.nanos() == other.0.nanos()
    }
}

library_type!(Amount, "kubernetes.Quantity");

const BILLION: i128 = 1_000_000_000;

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "quantity" => |a| match Quantity::parse(text(a, 0)?) {
            Ok(quantity) => Ok(Amount(quantity).into()),
            Err(error) => fail(error.to_string()),
        },
        "isQuantity" => |a| Ok(Value::Bool(Quantity::parse(text(a, 0)?).is_ok())),
        "sign" => |a| Ok(Value::Int(i64::from(amount(a, 0)?.sign()))),
        "isInteger" => |a| Ok(Value::Bool(amount(a, 0)?.nanos() % BILLION == 0)),
        "asInteger" => |a| {
            let nanos = amount(a, 0)?.nanos();
            match nanos % BILLION == 0 {
                true => Ok(Value::Int(i64::try_from(nanos / BILLION).unwrap_or(i64::MAX))),
                false => fail("cannot convert value to integer"),
            }
        },
        "asApproximateFloat" => |a| Ok(Value::Double(amount(a, 0)?.nanos() as f64 / 1e9)),
        "add" => |a| Ok(Amount(amount(a, 0)? + operand(a)?).into()),
        "sub" => |a| Ok(Amount(amount(a, 0)? - operand(a)?).into()),
        "isGreaterThan" => |a| Ok(Value::Bool(compare(a)? > 0)),
        "isLessThan" => |a| Ok(Value::Bool(compare(a)? < 0)),
        "compareTo" => |a| Ok(Value::Int(compare(a)?)),
        _ => return None,
    })
}

fn amount(args: &[Value], at: usize) -> Result<Quantity, EvalError> {
    host::<Amount>(args, at).map(|a| a.0)
}

fn operand(args: &[Value]) -> Result<Quantity, EvalError> {
    match int(args, 1) {
        Ok(units) => Ok(Quantity::from_units(units, Format::DecimalSi)),
        Err(_) => amount(args, 1),
    }
}

/// -1, 0 or 1, of quantities or of versions.
fn compare(args: &[Value]) -> Result<i64, EvalError> {
    if let (Ok(a), Ok(b)) = (host::<Version>(args, 0), host::<Version>(args, 1)) {
        return Ok(a.order(b) as i64);
    }
    Ok(amount(args, 0)?.nanos().cmp(&amount(args, 1)?.nanos()) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_by_amount() {
        let q = |t: &str| -> Result<Value, EvalError> { find("quantity").unwrap()(&[Value::str(t)]) };
        assert!(super::super::equal(&q("1Gi").unwrap(), &q("1024Mi").unwrap()));
        assert!(q("x").is_err());
    }
}
