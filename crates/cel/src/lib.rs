//! The Common Expression Language as Kubernetes v1.36 uses it: parser, type checker, cost estimate, evaluator and libraries.
//!
//! - [`Env`] declares variables; [`Env::compile`] makes a [`Program`] or says what is wrong in cel-go's words.
//! - [`Program::evaluate`] runs it over an [`Activation`] within a [`CostBudget`].
//! - [`Type`] and [`Value`] are the language's types and values.
//! - [`Authorizer`] and [`Host`] are what an embedder gives for values that are not data.
//!
//! Pure code: this crate reads no clock, opens nothing and keeps no state.

mod ast;
mod check;
mod cost;
mod decl;
mod decls;
mod env;
mod error;
mod estimate;
mod eval;
mod functions;
mod host;
mod lexer;
mod macros;
mod parser;
mod program;
mod re2;
mod reserved;
mod source;
mod time;
mod types;
mod unify;
mod value;

pub use cost::{CostBudget, CostRange, PER_CALL_LIMIT, SizeEstimator};
pub use decl::{Decl, escape};
pub use env::Env;
pub use error::{CompileError, EvalError};
pub use host::{Activation, Authorizer, AuthorizerQuery, Bindings, Decision, Host, NoVariables};
pub use program::Program;
pub use re2::regex;
pub use reserved::is_reserved;
pub use types::{ObjectType, Type};
pub use value::{Key, ListKind, Timestamp, Value};
