//! A compiled expression.

use std::sync::Arc;

use crate::ast::{Expr, Kind};
use crate::check::Checked;
use crate::eval::Machine;
use crate::{Activation, CostBudget, CostRange, EvalError, SizeEstimator, Type, Value};

/// An expression that was parsed and checked. Cheap to clone, and may be run by many at once.
#[derive(Debug, Clone)]
pub struct Program(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Expr,
    checked: Checked,
}

impl Program {
    pub(crate) fn new(root: Expr, checked: Checked) -> Self {
        Self(Arc::new(Inner { root, checked }))
    }

    /// What it gives.
    pub fn result_type(&self) -> &Type {
        &self.0.checked.types[self.0.root.id as usize]
    }

    /// What it will cost at least and at most, given how large its variables may be.
    pub fn cost_estimate(&self, sizes: &dyn SizeEstimator) -> CostRange {
        crate::estimate::estimate(&self.0.root, &self.0.checked, sizes)
    }

    /// Whether the expression uses the variable `name`.
    pub fn uses(&self, name: &str) -> bool {
        let mut found = false;
        self.0.root.walk(&mut |e| {
            found |= matches!(&e.kind, Kind::Ident(n) if n == name)
                || self.0.checked.variables[e.id as usize].as_deref() == Some(name);
        });
        found
    }

    /// Runs it. What it used is taken from `budget`, also when it fails.
    pub fn evaluate(&self, variables: &dyn Activation, budget: &mut CostBudget) -> Result<Value, EvalError> {
        let mut machine = Machine {
            checked: &self.0.checked,
            variables,
            locals: Vec::new(),
            cost: 0,
            limit: budget.per_call(),
        };
        let result = machine.eval(&self.0.root);
        if !budget.take(machine.cost) {
            return Err(EvalError::BudgetExhausted);
        }
        result
    }
}
