//! Mount options of the specification.

use nix::mount::MsFlags;

use crate::error::{Error, Result};
use crate::sys;

/// What the options of one mount come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// `MOUNT_ATTR_*` to set and to clear on the mount.
    pub(super) set: u64,
    pub(super) clear: u64,
    /// The same for everything below as well.
    pub(super) recursive_set: u64,
    pub(super) recursive_clear: u64,
    /// Propagation types in the order given; true if for everything below as well.
    pub(super) propagation: Vec<(u64, bool)>,
    /// `rbind`.
    pub(super) recursive_bind: bool,
    /// For the file system itself.
    pub(super) data: Vec<String>,
}

/// Attributes that have a positive and a negative option: the attribute, the option that sets it, the one that
/// clears it.
const ATTRIBUTES: [(u64, &str, &str); 6] = [
    (sys::MOUNT_ATTR_RDONLY, "ro", "rw"),
    (sys::MOUNT_ATTR_NOSUID, "nosuid", "suid"),
    (sys::MOUNT_ATTR_NODEV, "nodev", "dev"),
    (sys::MOUNT_ATTR_NOEXEC, "noexec", "exec"),
    (sys::MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
    (sys::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
];
/// Which say what is so anyway.
const NOTHING: [&str; 9] =
    ["bind", "defaults", "async", "nomand", "loud", "silent", "noiversion", "nolazytime", "norelatime"];

impl MountOptions {
    pub(super) fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option)?;
        }
        Ok(parsed)
    }

    fn add(&mut self, option: &str) -> Result<()> {
        if NOTHING.contains(&option) {
            return Ok(());
        }
        match option {
            "rbind" => self.recursive_bind = true,
            "remount" => return Err(Error::Unsupported("mount option remount".to_owned())),
            "shared" | "rshared" => self.propagate(MsFlags::MS_SHARED, option),
            "slave" | "rslave" => self.propagate(MsFlags::MS_SLAVE, option),
            "private" | "rprivate" => self.propagate(MsFlags::MS_PRIVATE, option),
            "unbindable" | "runbindable" => self.propagate(MsFlags::MS_UNBINDABLE, option),
            "relatime" | "atime" => self.access_time(0, false),
            "noatime" => self.access_time(sys::MOUNT_ATTR_NOATIME, false),
            "strictatime" | "nostrictatime" => {
                let mode = if option == "strictatime" { sys::MOUNT_ATTR_STRICTATIME } else { 0 };
                self.access_time(mode, false);
            }
            "rrelatime" | "ratime" => self.access_time(0, true),
            "rnoatime" => self.access_time(sys::MOUNT_ATTR_NOATIME, true),
            "rstrictatime" => self.access_time(sys::MOUNT_ATTR_STRICTATIME, true),
            _ if self.add_attribute(option) => {}
            _ => self.data.push(option.to_owned()),
        }
        Ok(())
    }

    fn propagate(&mut self, kind: MsFlags, option: &str) {
        self.propagation.push((kind.bits(), option.starts_with('r')));
    }

    fn access_time(&mut self, mode: u64, recursive: bool) {
        let (set, clear) = self.words(recursive);
        *clear |= sys::MOUNT_ATTR_ATIME;
        *set = *set & !sys::MOUNT_ATTR_ATIME | mode;
    }

    fn words(&mut self, recursive: bool) -> (&mut u64, &mut u64) {
        if recursive {
            (&mut self.recursive_set, &mut self.recursive_clear)
        } else {
            (&mut self.set, &mut self.clear)
        }
    }

    /// `ro`, and `rro` for everything below as well. The last of contradicting options holds.
    fn add_attribute(&mut self, option: &str) -> bool {
        for (name, recursive) in [(Some(option), false), (option.strip_prefix('r'), true)] {
            let Some(name) = name else { continue };
            for (bit, yes, no) in ATTRIBUTES {
                if name == yes || name == no {
                    let (set, clear) = self.words(recursive);
                    *(if name == yes { &mut *set } else { &mut *clear }) |= bit;
                    *(if name == yes { clear } else { set }) &= !bit;
                    return true;
                }
            }
        }
        false
    }
}

/// The flags for `linux.rootfsPropagation`.
pub(super) fn root_propagation(text: &str) -> Result<MsFlags> {
    Ok(match text {
        "" | "rslave" => MsFlags::MS_SLAVE | MsFlags::MS_REC,
        "slave" => MsFlags::MS_SLAVE,
        "private" => MsFlags::MS_PRIVATE,
        "rprivate" => MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        "shared" => MsFlags::MS_SHARED,
        "rshared" => MsFlags::MS_SHARED | MsFlags::MS_REC,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        "runbindable" => MsFlags::MS_UNBINDABLE | MsFlags::MS_REC,
        other => return Err(Error::Invalid(format!("linux.rootfsPropagation {other:?}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        MountOptions::parse(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn options_become_attributes_and_data() {
        let parsed = parse(&["nosuid", "noexec", "nodev", "ro", "mode=755", "size=65536k", "newinstance"]);
        let set =
            sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NOEXEC | sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_RDONLY;
        assert_eq!((parsed.set, parsed.clear), (set, 0));
        assert_eq!(parsed.data, ["mode=755", "size=65536k", "newinstance"]);
    }

    #[test]
    fn the_last_of_contradicting_options_holds() {
        let parsed = parse(&["ro", "rw", "noatime", "strictatime"]);
        assert_eq!(parsed.set, sys::MOUNT_ATTR_STRICTATIME);
        assert_eq!(parsed.clear, sys::MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_ATIME);
    }

    #[test]
    fn recursive_forms_are_told_apart() {
        let parsed = parse(&["rbind", "rprivate", "rro", "rslave"]);
        assert!(parsed.recursive_bind);
        assert_eq!((parsed.set, parsed.recursive_set), (0, sys::MOUNT_ATTR_RDONLY));
        let private = (MsFlags::MS_PRIVATE.bits(), true);
        assert_eq!(parsed.propagation, [private, (MsFlags::MS_SLAVE.bits(), true)]);
        assert!(MountOptions::parse(&["remount".to_owned()]).is_err());
    }
}
