//! Capability sets.

use std::io;

use crate::error::{Context, Result};
use crate::log::Log;
use crate::spec::Capabilities;

/// In the kernel's order, from 0.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The sets as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sets {
    pub(super) bounding: u64,
    pub(super) effective: u64,
    pub(super) inheritable: u64,
    pub(super) permitted: u64,
    pub(super) ambient: u64,
}

/// struct __user_cap_header_struct.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// struct __user_cap_data_struct, of which there are two: low and high half.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

impl Sets {
    /// The sets to be, as far as this process can give them. What it lacks itself, or the kernel does not know, is
    /// left out with a warning, as runc does.
    pub(super) fn wanted(wanted: Option<&Capabilities>, log: &Log) -> Result<Self> {
        let none = Capabilities::default();
        let wanted = wanted.unwrap_or(&none);
        let own = current().doing(|| "read the process's capabilities".to_owned())?;
        let mut missing = Vec::new();
        let mut bits = |names: &[String]| {
            let mut set = 0;
            for name in names {
                match number(name).map(|n| 1_u64 << n).filter(|bit| own & bit != 0) {
                    Some(bit) => set |= bit,
                    None if missing.contains(name) => {}
                    None => missing.push(name.clone()),
                }
            }
            set
        };
        let mut sets = Self {
            bounding: bits(&wanted.bounding),
            effective: bits(&wanted.effective),
            inheritable: bits(&wanted.inheritable),
            permitted: bits(&wanted.permitted),
            ambient: bits(&wanted.ambient),
        };
        // The kernel raises only what is in both; as in runc the rest is no error.
        let raisable = sets.inheritable & sets.permitted;
        if sets.ambient & !raisable != 0 {
            log.warning("ambient capabilities that are not inheritable and permitted are left out");
            sets.ambient &= raisable;
        }
        if !missing.is_empty() {
            log.warning(&format!("capabilities unknown or not held, left out: {}", missing.join(", ")));
        }
        Ok(sets)
    }

    /// Gives up what is not in the bounding set; needs CAP_SETPCAP still.
    pub(super) fn apply_bounding(&self) -> Result<()> {
        for number in (0..u64::BITS).filter(|n| self.bounding & 1 << n == 0) {
            // SAFETY: takes numbers only.
            let in_set = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) };
            if in_set < 0 {
                // Past the last one that the kernel knows.
                return Ok(());
            }
            // SAFETY: takes numbers only.
            if in_set == 1 && unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } != 0 {
                return Err(io::Error::last_os_error()).doing(|| format!("drop capability {number}"));
            }
        }
        Ok(())
    }

    /// Takes the other sets.
    pub(super) fn apply(&self) -> Result<()> {
        let half = |shift: u32| Data {
            effective: (self.effective >> shift) as u32,
            permitted: (self.permitted >> shift) as u32,
            inheritable: (self.inheritable >> shift) as u32,
        };
        let header = Header { version: VERSION_3, pid: 0 };
        let data = [half(0), half(32)];
        // SAFETY: header and data live until the call returns, and version 3 means two data.
        if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } != 0 {
            return Err(io::Error::last_os_error()).doing(|| "set capabilities".to_owned());
        }
        // SAFETY: takes numbers only.
        let cleared = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
        if cleared != 0 {
            return Err(io::Error::last_os_error()).doing(|| "clear ambient capabilities".to_owned());
        }
        for number in (0..u64::BITS).filter(|n| self.ambient & 1 << n != 0) {
            // SAFETY: takes numbers only.
            let raised =
                unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) };
            if raised != 0 {
                let name = NAMES.get(number as usize).unwrap_or(&"?");
                return Err(io::Error::last_os_error())
                    .doing(|| format!("raise ambient capability CAP_{name}"));
            }
        }
        Ok(())
    }
}

fn number(name: &str) -> Option<usize> {
    let name = name.strip_prefix("CAP_")?;
    NAMES.iter().position(|known| *known == name)
}

/// What the process may put in force.
fn current() -> io::Result<u64> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: header and data live until the call returns, and version 3 means two data.
    if unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        assert_eq!(number("CAP_CHOWN"), Some(0));
        assert_eq!(number("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(number("CAP_AUDIT_READ"), Some(37));
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("SYS_ADMIN"), None);
    }
}
