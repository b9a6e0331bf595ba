//! Architectures and their numbers of system calls.

use crate::error::{Error, Result};

/// One line per call: its name, and its number on x86_64, x86, aarch64 and arm, `-` where it does not exist.
const TABLE: &str = include_str!("syscalls.txt");

/// An architecture whose calls a process on this machine may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X86,
    Aarch64,
    Arm,
}

#[cfg(target_arch = "x86_64")]
const NATIVE: Arch = Arch::X86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: Arch = Arch::Aarch64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("system call numbers are known for x86_64 and aarch64 only");

impl Arch {
    /// `AUDIT_ARCH_*`.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xC000_003E,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xC000_00B7,
            Self::Arm => 0x4000_0028,
        }
    }

    pub(super) fn is_64_bit(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// The number of a call, if the architecture has it.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let column = match self {
            Self::X86_64 => 0,
            Self::X86 => 1,
            Self::Aarch64 => 2,
            Self::Arm => 3,
        };
        let line = TABLE.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.split(' ').nth(column)?.parse().ok()
    }
}

/// The architectures that a profile means: this machine's, and of those named the ones that it can run. x32 is
/// accepted but has no block of its own: its calls get ENOSYS, as from kernels built without it.
pub(super) fn wanted(names: &[String]) -> Result<Vec<Arch>> {
    let mut wanted = vec![NATIVE];
    for name in names {
        let arch = match name.strip_prefix("SCMP_ARCH_") {
            Some("X86") if NATIVE == Arch::X86_64 => Arch::X86,
            Some("ARM") if NATIVE == Arch::Aarch64 => Arch::Arm,
            Some(_) => continue,
            None => return Err(Error::Invalid(format!("seccomp architecture {name:?}"))),
        };
        if !wanted.contains(&arch) {
            wanted.push(arch);
        }
    }
    Ok(wanted)
}
