//! The rules of one schema, compiled.

use cel::{Decl, Env, Program, Type};
use schema::Value;

/// One rule of `x-kubernetes-validations`, compiled; errors are the details that upstream's errors carry.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub rule: Result<Program, String>,
    /// The expression that makes the message, if there is one and the rule itself compiles.
    pub message: Option<Result<Program, String>>,
    /// It speaks of the old value: it is a transition rule.
    pub uses_old: bool,
    /// The old value is an optional, so that the rule runs without one as well.
    pub optional_old: bool,
}

/// Compiles the rules of a schema, whose values are declared by `decl`.
pub(crate) fn compile(schema: &Value, decl: &Decl) -> Vec<Compiled> {
    let of = decl.to_type();
    let plain = Env::new().variable("self", of.clone());
    let env = plain.clone().variable("oldSelf", of.clone());
    let optional = plain.variable("oldSelf", Type::optional(of));
    schema["x-kubernetes-validations"]
        .items()
        .iter()
        .map(|rule| {
            let optional_old = rule["optionalOldSelf"].as_bool() == Some(true);
            one(rule, if optional_old { &optional } else { &env }, &env, optional_old)
        })
        .collect()
}

fn one(rule: &Value, env: &Env, message_env: &Env, optional_old: bool) -> Compiled {
    let text = rule["rule"].as_str().unwrap_or("");
    let compiled = match env.compile(text, &[]) {
        Err(error) => Err(error.to_string()),
        Ok(program) if *program.result_type() != Type::Bool => {
            Err("cel expression must evaluate to a bool".to_owned())
        }
        Ok(program) => Ok(program),
    };
    let message = rule["messageExpression"].as_str().filter(|text| !text.is_empty() && compiled.is_ok());
    let message = message.map(|text| match message_env.compile(text, &[]) {
        Err(error) => Err(format!("messageExpression {error}")),
        Ok(program) if *program.result_type() != Type::String => {
            Err("messageExpression must evaluate to a string".to_owned())
        }
        Ok(program) => Ok(program),
    });
    let uses_old = compiled.as_ref().is_ok_and(|program| program.uses("oldSelf"));
    Compiled { rule: compiled, message, uses_old, optional_old }
}
