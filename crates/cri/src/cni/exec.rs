//! One call of one plugin.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{Error, Result};

/// How long a plugin may take.
const TIMEOUT: Duration = Duration::from_secs(120);

pub struct Invocation {
    pub program: PathBuf,
    pub kind: String,
    pub command: &'static str,
    pub env: BTreeMap<&'static str, String>,
    pub stdin: Value,
}

impl Invocation {
    /// Runs the plugin: its result, `None` if it said nothing.
    pub async fn run(self) -> Result<Option<Value>> {
        let failed = |why: String| {
            let command = self.command.to_lowercase();
            Error::Network(format!("plugin type={:?} failed ({command}): {why}", self.kind))
        };
        let mut child = Command::new(&self.program)
            .env_clear()
            .envs(std::env::vars_os().filter(|(key, _)| key == "PATH"))
            .envs(&self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed(format!("run {}: {e}", self.program.display())))?;
        let input = self.stdin.to_string();
        let mut stdin = child.stdin.take();
        let run = async move {
            if let Some(stdin) = &mut stdin {
                // A plugin may answer without reading all of it.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            drop(stdin);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(TIMEOUT, run)
            .await
            .map_err(|_| failed(format!("no answer within {TIMEOUT:?}")))?
            .map_err(|e| failed(e.to_string()))?;
        if !output.status.success() {
            return Err(failed(explain(&output.stdout, &output.stderr, output.status)));
        }
        if output.stdout.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let value = serde_json::from_slice(&output.stdout);
        value.map(Some).map_err(|e| failed(format!("its answer is no JSON: {e}")))
    }
}

/// The plugin's own words: the error object on its output, else what it printed.
fn explain(stdout: &[u8], stderr: &[u8], status: std::process::ExitStatus) -> String {
    if let Ok(error) = serde_json::from_slice::<Value>(stdout) {
        let field = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (message, details) = (field("msg"), field("details"));
        if !message.is_empty() {
            return if details.is_empty() { message } else { format!("{message}; {details}") };
        }
    }
    let text = String::from_utf8_lossy(if stderr.is_empty() { stdout } else { stderr }).trim().to_owned();
    if text.is_empty() { status.to_string() } else { text }
}
