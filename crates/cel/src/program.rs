//! A compiled expression.

use crate::{Activation, CostBudget, CostRange, EvalError, SizeEstimator, Type, Value};

/// An expression that was parsed and checked. Cheap to clone, and may be run by many at once.
#[derive(Debug, Clone)]
pub struct Program {
    result: Type,
}

impl Program {
    /// What it gives.
    pub fn result_type(&self) -> &Type {
        &self.result
    }

    /// What it will cost at least and at most, given how large its variables may be.
    pub fn cost_estimate(&self, sizes: &dyn SizeEstimator) -> CostRange {
        let _ = sizes;
        CostRange::default()
    }

    /// Whether the expression uses the variable `name`.
    pub fn uses(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Runs it. What it used is taken from `budget`, also when it fails.
    pub fn evaluate(&self, variables: &dyn Activation, budget: &mut CostBudget) -> Result<Value, EvalError> {
        let _ = (variables, budget);
        Err(EvalError::new("expressions are not evaluated yet"))
    }
}
