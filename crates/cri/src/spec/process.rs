//! The process of a container, and of commands executed in it.

use proto::cri::v1::security_profile::ProfileType;
use serde_json::{Value, json};

use super::SpecInput;
use super::capabilities::Capabilities;
use crate::error::{Error, Result};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const TERMINAL_TYPE: &str = "TERM=xterm";
const APPARMOR_LOCALHOST: &str = "localhost/";

/// The container's own process.
pub fn build(input: &SpecInput<'_>, capabilities: &Capabilities, label: Option<String>) -> Result<Value> {
    let security = input.security();
    let mut process = json!({
        "terminal": input.config.tty,
        "user": {
            "uid": input.user.uid,
            "gid": input.user.gid,
            "additionalGids": input.user.groups,
        },
        "args": arguments(input)?,
        "env": environment(input),
        "cwd": working_dir(input)?,
        "capabilities": capabilities.to_json(),
        "noNewPrivileges": security.is_some_and(|s| s.no_new_privs),
    });
    if let Some(score) = oom_score(input) {
        process["oomScoreAdj"] = score.into();
    }
    if let Some(profile) = apparmor(input)? {
        process["apparmorProfile"] = profile.into();
    }
    if let Some(label) = label {
        process["selinuxLabel"] = label.into();
    }
    Ok(process)
}

/// A command in a running container: as its own process, with other arguments and maybe a terminal.
pub fn exec_process(container: &Value, command: &[String], tty: bool) -> Result<Value> {
    let mut process = container.get("process").cloned().unwrap_or_else(|| json!({}));
    if command.is_empty() {
        return Err(Error::InvalidArgument("no command specified".to_owned()));
    }
    process["args"] = json!(command);
    process["terminal"] = tty.into();
    if tty && let Some(Value::Array(env)) = process.get_mut("env") {
        set_variable_json(env, TERMINAL_TYPE);
    }
    Ok(process)
}

fn set_variable_json(env: &mut Vec<Value>, variable: &str) {
    let name = variable.split('=').next().unwrap_or_default();
    env.retain(|known| known.as_str().is_none_or(|k| k.split('=').next() != Some(name)));
    env.push(variable.into());
}

/// CRI's command replaces the image's entrypoint and command; CRI's args alone replace the command.
fn arguments(input: &SpecInput<'_>) -> Result<Vec<String>> {
    let (config, image) = (input.config, input.image);
    let command = if config.command.is_empty() { &image.entrypoint } else { &config.command };
    let use_image_args = config.command.is_empty() && config.args.is_empty();
    let args = if use_image_args { &image.cmd } else { &config.args };
    let all: Vec<String> = command.iter().chain(args).cloned().collect();
    if all.is_empty() {
        return Err(Error::InvalidArgument("no command specified".to_owned()));
    }
    Ok(all)
}

fn environment(input: &SpecInput<'_>) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    set_variable(&mut env, DEFAULT_PATH.to_owned());
    if input.config.tty {
        set_variable(&mut env, TERMINAL_TYPE.to_owned());
    }
    if !input.files.hostname.is_empty() {
        set_variable(&mut env, format!("HOSTNAME={}", input.files.hostname));
    }
    input.image.env.iter().for_each(|variable| set_variable(&mut env, variable.clone()));
    for variable in &input.config.envs {
        set_variable(&mut env, format!("{}={}", variable.key, variable.value));
    }
    env
}

fn set_variable(env: &mut Vec<String>, variable: String) {
    let name = variable.split('=').next().unwrap_or_default();
    match env.iter_mut().find(|known| known.split('=').next() == Some(name)) {
        Some(known) => *known = variable,
        None => env.push(variable),
    }
}

fn working_dir(input: &SpecInput<'_>) -> Result<String> {
    let asked = [&input.config.working_dir, &input.image.working_dir];
    let dir = asked.into_iter().find(|dir| !dir.is_empty()).map_or("/", String::as_str);
    if dir.starts_with('/') { Ok(dir.to_owned()) } else { Ok(format!("/{dir}")) }
}

/// The score asked for; where we lack the right to lower it, the lowest that we may give.
fn oom_score(input: &SpecInput<'_>) -> Option<i64> {
    let asked = input.config.linux.as_ref()?.resources.as_ref()?.oom_score_adj;
    Some(asked.clamp(input.host.min_oom_score_adj, 1000))
}

fn apparmor(input: &SpecInput<'_>) -> Result<Option<String>> {
    let Some(security) = input.security().filter(|_| !input.privileged()) else { return Ok(None) };
    let Some(profile) = &security.apparmor else { return Ok(None) };
    if profile.profile_type() != ProfileType::Localhost {
        return Ok(None);
    }
    if !input.host.apparmor {
        return Err(Error::InvalidArgument("apparmor is not supported".to_owned()));
    }
    let name = profile.localhost_ref.trim_start_matches(APPARMOR_LOCALHOST);
    Ok(Some(name.to_owned()))
}
