//! System call filters: a profile of the specification becomes one classic BPF program.

mod arch;
mod program;

use crate::error::{Context, Error, Result};
use crate::spec::{Seccomp, SeccompArg};
use arch::Arch;
use program::{Condition, Rule};

/// One instruction of classic BPF.
pub type Instruction = libc::sock_filter;

/// The kernel's limit on a program's length (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;
const SECCOMP_SET_MODE_FILTER: libc::c_ulong = 1;

/// A profile made ready to be installed.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Vec<Instruction>,
    flags: libc::c_ulong,
}

impl Filter {
    /// Compiles a profile for this machine. Names of calls that it does not have are skipped, as libseccomp does;
    /// calls newer than any that the profile names get ENOSYS where they would get another error, as runc does, so
    /// that a C library can fall back.
    pub fn compile(profile: &Seccomp) -> Result<Self> {
        if !profile.listener_path.is_empty() || !profile.listener_metadata.is_empty() {
            return Err(Error::Unsupported("seccomp listeners".to_owned()));
        }
        let default = action(&profile.default_action, profile.default_errno_ret)?;
        let mut blocks = Vec::new();
        for arch in arch::wanted(&profile.architectures)? {
            blocks.push((arch, rules_for(profile, arch, default)?));
        }
        let newer = newer_calls_action(&profile.default_action, default);
        let program = program::assemble(&blocks, default, newer);
        if program.len() > MAX_INSTRUCTIONS {
            let length = program.len();
            return Err(Error::Invalid(format!(
                "seccomp profile becomes {length} instructions, the kernel takes {MAX_INSTRUCTIONS}"
            )));
        }
        Ok(Self { program, flags: flags(&profile.flags)? })
    }

    /// Puts the filter in force for this thread, for ever. Needs CAP_SYS_ADMIN or no-new-privileges.
    pub fn install(&self) -> Result<()> {
        let program = libc::sock_fprog {
            len: self.program.len() as u16,
            // The kernel only reads it; the C type lacks const.
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: the program and its instructions live until the call returns.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, self.flags, &raw const program)
        };
        match result {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).doing(|| "install the seccomp filter".to_owned()),
        }
    }
}

/// The kernel's return value for an action.
fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    let data = errno.unwrap_or(libc::EPERM as u32) & 0xffff;
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => libc::SECCOMP_RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => libc::SECCOMP_RET_KILL_PROCESS,
        "SCMP_ACT_TRAP" => libc::SECCOMP_RET_TRAP,
        "SCMP_ACT_ERRNO" => libc::SECCOMP_RET_ERRNO | data,
        "SCMP_ACT_TRACE" => libc::SECCOMP_RET_TRACE | data,
        "SCMP_ACT_LOG" => libc::SECCOMP_RET_LOG,
        "SCMP_ACT_ALLOW" => libc::SECCOMP_RET_ALLOW,
        "SCMP_ACT_NOTIFY" => return Err(Error::Unsupported("seccomp action SCMP_ACT_NOTIFY".to_owned())),
        other => return Err(Error::Invalid(format!("seccomp action {other:?}"))),
    })
}

/// What calls get that are newer than the profile, if not the default action.
fn newer_calls_action(default_name: &str, default: u32) -> u32 {
    match default_name {
        "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" => default,
        _ => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
    }
}

fn flags(names: &[String]) -> Result<libc::c_ulong> {
    let mut flags = 0;
    for name in names {
        flags |= match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => 1,
            "SECCOMP_FILTER_FLAG_LOG" => 2,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 4,
            // Matters only to listeners, which are refused.
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
            other => return Err(Error::Invalid(format!("seccomp flag {other:?}"))),
        };
    }
    Ok(flags)
}

type RulesByNumber = std::collections::BTreeMap<u32, Vec<Rule>>;

fn rules_for(profile: &Seccomp, arch: Arch, default: u32) -> Result<RulesByNumber> {
    let mut rules = RulesByNumber::new();
    for entry in &profile.syscalls {
        let action = action(&entry.action, entry.errno_ret)?;
        let alternatives = alternatives(&entry.args)?;
        for number in entry.names.iter().filter_map(|name| arch.number(name)) {
            let known = rules.entry(number).or_default();
            // A rule that says what happens anyway only names the call, for the sake of `newer`.
            if action != default {
                known.extend(alternatives.iter().map(|c| Rule { conditions: c.clone(), action }));
            }
        }
    }
    for known in rules.values_mut() {
        // A rule without conditions holds for what the conditional ones leave.
        known.sort_by_key(|rule| rule.conditions.is_empty());
    }
    Ok(rules)
}

/// The conditions as alternatives, within each of which all must hold. As in runc, conditions hold together unless two
/// are on the same argument: then each is an alternative.
fn alternatives(args: &[SeccompArg]) -> Result<Vec<Vec<Condition>>> {
    let conditions = args.iter().map(Condition::new).collect::<Result<Vec<_>>>()?;
    let repeated = args.iter().enumerate().any(|(i, a)| args[..i].iter().any(|b| b.index == a.index));
    Ok(if repeated { conditions.into_iter().map(|c| vec![c]).collect() } else { vec![conditions] })
}

#[cfg(test)]
mod tests;
