//! How a command ended, as clients are told: a `metav1.Status`.

use serde_json::{Value, json};

const NON_ZERO_EXIT_CODE: &str = "NonZeroExitCode";
const INTERNAL_ERROR: &str = "InternalError";

/// How a remote command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// With this exit code.
    Exit(i32),
    /// It could not be run or went lost.
    Failed(String),
}

impl Finish {
    /// The Status of remotecommand v4 and later.
    pub fn to_status(&self) -> Value {
        match self {
            Self::Exit(0) => json!({"metadata": {}, "status": "Success"}),
            Self::Exit(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.to_text(),
                "reason": NON_ZERO_EXIT_CODE,
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(message) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {message}"),
                "reason": INTERNAL_ERROR,
                "details": {"causes": [{"message": message}]},
                "code": 500,
            }),
        }
    }

    /// The plain text of earlier versions; empty for success.
    pub fn to_text(&self) -> String {
        match self {
            Self::Exit(0) => String::new(),
            Self::Exit(code) => format!("command terminated with non-zero exit code: exit status {code}"),
            Self::Failed(message) => message.clone(),
        }
    }
}
