//! System call filters: the default profile, and profiles of the node's administrator.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proto::cri::v1::security_profile::ProfileType;
use serde_json::{Value, json};

use super::SpecInput;
use super::seccomp_calls::{ALLOWED, ALLOWED_ON_ARM, ALLOWED_ON_X86, BY_CAPABILITY};
use crate::error::{Error, Result};

const LOCALHOST_PREFIX: &str = "localhost/";
const ALLOW: &str = "SCMP_ACT_ALLOW";
const ERRNO: &str = "SCMP_ACT_ERRNO";
/// The flags of clone that make namespaces (CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET).
const CLONE_NAMESPACES: u64 = 0x7E02_0000;
const AF_VSOCK: u64 = 40;
/// Execution domains that change nothing of importance: Linux, UNAME26, ADDR_NO_RANDOMIZE's absence, and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x20000, 0x20008, 0xffff_ffff];
/// The keys of a profile that the runtime specification knows.
const PROFILE_KEYS: [&str; 7] = [
    "defaultAction",
    "defaultErrnoRet",
    "architectures",
    "flags",
    "listenerPath",
    "listenerMetadata",
    "syscalls",
];

/// `linux.seccomp` for a container; `None` is unconfined.
pub fn build(input: &SpecInput<'_>, bounding: &BTreeSet<&'static str>) -> Result<Option<Value>> {
    let Some(security) = input.security().filter(|_| !input.privileged()) else { return Ok(None) };
    let Some(profile) = &security.seccomp else { return Ok(None) };
    match profile.profile_type() {
        ProfileType::Unconfined => Ok(None),
        ProfileType::RuntimeDefault => Ok(Some(default_profile(bounding))),
        ProfileType::Localhost => load(&profile.localhost_ref).map(Some),
    }
}

fn load(reference: &str) -> Result<Value> {
    let path = Path::new(reference.strip_prefix(LOCALHOST_PREFIX).unwrap_or(reference));
    if !path.is_absolute() {
        return Err(Error::InvalidArgument(format!("seccomp profile {reference:?} is not an absolute path")));
    }
    let failed = |e: &dyn std::fmt::Display| {
        Error::InvalidArgument(format!("cannot load seccomp profile {:?}: {e}", path.display().to_string()))
    };
    let text = fs::read(path).map_err(|e| failed(&e))?;
    let mut profile: serde_json::Map<String, Value> =
        serde_json::from_slice(&text).map_err(|e| failed(&e))?;
    profile.retain(|key, _| PROFILE_KEYS.contains(&key.as_str()));
    if !profile.contains_key("defaultAction") {
        return Err(failed(&"it has no defaultAction"));
    }
    Ok(Value::Object(profile))
}

/// Everything is refused but what programs need and what the container's capabilities allow it anyway.
fn default_profile(bounding: &BTreeSet<&'static str>) -> Value {
    let x86 = cfg!(target_arch = "x86_64");
    let own = if x86 { ALLOWED_ON_X86 } else { ALLOWED_ON_ARM };
    let mut calls = vec![
        allow(ALLOWED),
        allow(own),
        json!({"names": ["socket"], "action": ALLOW,
            "args": [{"index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE"}]}),
    ];
    for persona in PERSONALITIES {
        calls.push(json!({"names": ["personality"], "action": ALLOW,
            "args": [{"index": 0, "value": persona, "op": "SCMP_CMP_EQ"}]}));
    }
    for (capability, names) in BY_CAPABILITY {
        if bounding.contains(capability) {
            calls.push(allow(names));
        }
    }
    if !bounding.contains("CAP_SYS_ADMIN") {
        calls.push(json!({"names": ["clone"], "action": ALLOW,
            "args": [{"index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}));
        // Its flags are in memory, where a filter cannot see them; libraries fall back to clone.
        calls.push(json!({"names": ["clone3"], "action": ERRNO, "errnoRet": libc::ENOSYS}));
    }
    let architectures: &[&str] = if x86 {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    } else {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    };
    json!({
        "defaultAction": ERRNO,
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures,
        "syscalls": calls,
    })
}

fn allow(names: &[&str]) -> Value {
    json!({"names": names, "action": ALLOW})
}
