//! A validating policy's judgement of one request with one parameter.

use cel::Bindings;

use super::super::expressions::{BUDGET, CONDITIONS_BUDGET, Evaluation, Variables};
use super::definition::{Policy, Validation};

/// Longest message that an expression may give, in bytes (`MaxEvaluatedMessageExpressionSizeBytes`).
const MAX_MESSAGE: usize = 5 * 1024;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Which of the validations; zero for errors of the whole policy.
    pub index: usize,
    /// Words.
    pub message: String,
    /// `metav1.StatusReason`; empty: `Invalid`.
    pub reason: String,
}

impl Denial {
    /// One that no validation gave.
    pub fn of_error(message: String) -> Self {
        Self { index: 0, message, reason: String::new() }
    }
}

/// What a policy says.
#[derive(Debug, Default)]
pub struct Judgement {
    /// What `validationActions` are for.
    pub denials: Vec<Denial>,
    /// Keys and values for audit.
    pub annotations: Vec<(String, String)>,
    /// Refuse whatever `validationActions` say.
    pub errors: Vec<String>,
}

impl Judgement {
    fn failed(policy: &Policy, why: String) -> Self {
        let denials = if policy.ignore_errors { Vec::new() } else { vec![Denial::of_error(why)] };
        Self { denials, ..Self::default() }
    }
}

/// Judges. `plain` has all variables but the authorizer, which `full` has, too.
pub fn judge(policy: &Policy, plain: &Bindings, full: &Bindings) -> Judgement {
    let variables = Variables::new(policy.variables.clone(), full.clone());
    let all = |budget| Evaluation::new(full, Some(variables.clone()), budget);
    match policy.conditions.hold(all(CONDITIONS_BUDGET), policy.ignore_errors) {
        Ok(true) => {}
        Ok(false) => return Judgement::default(),
        Err(why) => return Judgement::failed(policy, why),
    }
    let mut evaluation = all(BUDGET);
    let mut outcomes = Vec::with_capacity(policy.validations.len());
    for validation in &policy.validations {
        match evaluation.run(&validation.expression.source, &validation.expression.program) {
            Ok(outcome) => outcomes.push(outcome),
            Err(why) => return Judgement::failed(policy, why),
        }
    }
    let mut messages = Evaluation::new(plain, Some(variables.clone()), evaluation.left());
    let mut judgement = Judgement::default();
    let mut spent = None;
    for (index, (validation, outcome)) in policy.validations.iter().zip(outcomes).enumerate() {
        let message = evaluated_message(validation, &mut messages, &mut spent);
        let error = match (&outcome, &spent) {
            (Err(why), _) => Some(why.clone()),
            (Ok(_), Some(why)) => Some(format!("failed messageExpression: {why}")),
            _ => None,
        };
        if let Some(message) = error {
            if !policy.ignore_errors {
                judgement.denials.push(Denial { index, message, reason: String::new() });
            }
            continue;
        }
        if outcome.is_ok_and(|value| value.as_bool() == Some(true)) {
            continue;
        }
        judgement.denials.push(Denial {
            index,
            message: message.unwrap_or_else(|| fixed_message(validation)),
            reason: validation.reason.clone().unwrap_or_default(),
        });
    }
    match annotate(policy, all(BUDGET), &mut judgement) {
        Ok(()) => judgement,
        Err(why) => Judgement::failed(policy, why),
    }
}

/// The message of `messageExpression`, if it gives a usable one.
fn evaluated_message(
    validation: &Validation,
    evaluation: &mut Evaluation<'_>,
    spent: &mut Option<String>,
) -> Option<String> {
    let expression = validation.message_expression.as_ref()?;
    if spent.is_some() {
        return None;
    }
    match evaluation.run(&expression.source, &expression.program) {
        Ok(Ok(value)) => {
            let text = value.as_str()?.trim();
            let usable = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
            usable.then(|| text.to_owned())
        }
        Ok(Err(error)) => {
            tracing::debug!(error, "messageExpression");
            None
        }
        Err(why) => {
            *spent = Some(why);
            None
        }
    }
}

fn fixed_message(validation: &Validation) -> String {
    match validation.message.trim() {
        "" => format!("failed expression: {}", validation.expression.source.trim()),
        message => message.to_owned(),
    }
}

fn annotate(
    policy: &Policy,
    mut evaluation: Evaluation<'_>,
    judgement: &mut Judgement,
) -> Result<(), String> {
    for annotation in &policy.annotations {
        let outcome = evaluation.run(&annotation.expression.source, &annotation.expression.program)?;
        let error = match outcome {
            Ok(cel::Value::Null) => continue,
            Ok(cel::Value::String(text)) => {
                let text = text.trim();
                if !text.is_empty() {
                    judgement.annotations.push((annotation.key.clone(), text.to_owned()));
                }
                continue;
            }
            Ok(_) => format!(
                "valueExpression '{}' resulted in unsupported return type. Return type must be either string or null.",
                annotation.expression.source
            ),
            Err(_) if policy.ignore_errors => continue,
            Err(why) => why,
        };
        judgement.errors.push(error);
    }
    Ok(())
}
