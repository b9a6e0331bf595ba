//! Why an expression cannot be compiled or evaluated.

use crate::Type;

/// Why an expression cannot be compiled. Prints as upstream's API errors have it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// Syntax or type errors, as cel-go lists them: `ERROR: <input>:1:3: ...\n | source\n | ..^`.
    #[error("compilation failed: {0}")]
    Issues(String),
    /// It is right, but gives another type than is wanted here.
    #[error("{}", wrong_result(.expected))]
    Result {
        /// What it gives.
        found: Type,
        /// What is allowed.
        expected: Vec<Type>,
    },
}

fn wrong_result(expected: &[Type]) -> String {
    match expected {
        [one] => format!("must evaluate to {one}"),
        many => {
            let names: Vec<String> = many.iter().map(Type::to_string).collect();
            format!("must evaluate to one of [{}]", names.join(" "))
        }
    }
}

/// Why an evaluation gave no value. Prints as cel-go's errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// An operation failed: `no such key: x`, `division by zero`, ...
    #[error("{0}")]
    Message(String),
    /// One call used more than its limit.
    #[error("operation cancelled: actual cost limit exceeded")]
    CallLimit,
    /// All calls together used more than their budget.
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    BudgetExhausted,
}

impl EvalError {
    /// An error with these words.
    pub fn new(words: impl Into<String>) -> Self {
        Self::Message(words.into())
    }

    /// A map or object without that key.
    pub(crate) fn no_such_key(key: impl std::fmt::Display) -> Self {
        Self::Message(format!("no such key: {key}"))
    }

    /// No overload of a function for the values at hand.
    pub(crate) fn no_such_overload() -> Self {
        Self::Message("no such overload".to_owned())
    }

    /// True when the evaluation must end, whatever `||` and `&&` would make of it.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Message(_))
    }
}
