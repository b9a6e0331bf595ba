//! What evaluation costs: budgets at run time, ranges and sizes for the estimate beforehand.

/// What one call of an expression may use (`PerCallLimit`).
pub const PER_CALL_LIMIT: u64 = 1_000_000;

/// How much evaluations may still use, in upstream's cost units.
#[derive(Debug, Clone)]
pub struct CostBudget {
    /// Most that one call may use.
    per_call: u64,
    /// What is left for all calls.
    left: u64,
}

impl CostBudget {
    /// A budget of `total` for all calls, each of which may use [`PER_CALL_LIMIT`].
    pub fn new(total: u64) -> Self {
        Self { per_call: PER_CALL_LIMIT, left: total }
    }

    /// A budget with another limit per call.
    pub fn with_call_limit(total: u64, per_call: u64) -> Self {
        Self { per_call, left: total }
    }

    /// What is left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Most that one call may use.
    pub fn per_call(&self) -> u64 {
        self.per_call
    }

    /// Takes `cost`; false when there was not so much left.
    pub fn take(&mut self, cost: u64) -> bool {
        let enough = cost <= self.left;
        self.left = self.left.saturating_sub(cost);
        enough
    }
}

/// A range of sizes or costs; unbounded ends at `u64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CostRange {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

/// Tells the cost estimate how large variables may be.
pub trait SizeEstimator {
    /// Range of `size()` of the value at `path`: a variable, then field names, `@items`, `@keys`, `@values`.
    fn size(&self, path: &[smol_str::SmolStr]) -> Option<CostRange>;
}
