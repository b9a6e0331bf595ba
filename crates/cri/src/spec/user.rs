//! Who a container runs as: numbers, and names that only its image knows.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use proto::cri::v1::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The largest /etc/passwd or /etc/group that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A user in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// Further groups; the primary one may be among them.
    pub groups: Vec<u32>,
}

struct PasswdEntry {
    name: String,
    uid: u32,
    gid: u32,
}

/// Works out the user of a container: what the security context says, else `image_user` (`user[:group]`), else root.
/// Names are looked up in the image mounted at `rootfs`.
pub fn resolve(
    security: Option<&LinuxContainerSecurityContext>,
    image_user: &str,
    rootfs: &Path,
) -> Result<ResolvedUser> {
    let passwd = read_inside(rootfs, "etc/passwd")?;
    let group = read_inside(rootfs, "etc/group")?;
    resolve_with(security, image_user, &passwd, &group)
}

fn resolve_with(
    security: Option<&LinuxContainerSecurityContext>,
    image_user: &str,
    passwd: &str,
    group: &str,
) -> Result<ResolvedUser> {
    let asked_uid = security.and_then(|s| s.run_as_user.as_ref()).map(|v| v.value);
    let asked_name = security.map(|s| s.run_as_username.as_str()).filter(|n| !n.is_empty());
    let asked_gid = security.and_then(|s| s.run_as_group.as_ref()).map(|v| v.value);
    if asked_gid.is_some() && asked_uid.is_none() && asked_name.is_none() {
        return Err(Error::InvalidArgument("run_as_group is specified without run_as_user".to_owned()));
    }
    let text = match (asked_uid, asked_name) {
        (Some(uid), _) => uid.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => image_user.to_owned(),
    };
    let (user_text, group_text) = text.split_once(':').unwrap_or((text.as_str(), ""));
    let entry = find_user(user_text, passwd)?;
    let gid = match (asked_gid, group_text) {
        (Some(gid), _) => id(gid)?,
        (None, "") => entry.gid,
        (None, name) => find_group(name, group)?,
    };
    let mut groups = Vec::new();
    let strict = security.is_some_and(|s| s.supplemental_groups_policy() == SupplementalGroupsPolicy::Strict);
    if !strict && !entry.name.is_empty() {
        groups.extend(groups_of(&entry.name, group));
    }
    for supplemental in security.map(|s| s.supplemental_groups.as_slice()).unwrap_or_default() {
        groups.push(id(*supplemental)?);
    }
    // The primary group is listed too, as containerd does: the kernel treats both alike, `id` shows it once.
    groups.insert(0, gid);
    let mut seen = std::collections::HashSet::new();
    groups.retain(|g| seen.insert(*g));
    Ok(ResolvedUser { uid: entry.uid, gid, groups })
}

fn id(number: i64) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::InvalidArgument(format!("{number} is not a user or group id")))
}

/// A user by number or name; a number need not be in the file, and then has group 0.
fn find_user(text: &str, passwd: &str) -> Result<PasswdEntry> {
    let mut entries = passwd.lines().filter_map(passwd_entry);
    if text.is_empty() {
        return find_user("0", passwd);
    }
    if let Ok(uid) = text.parse::<u32>() {
        let found = entries.find(|e| e.uid == uid);
        return Ok(found.unwrap_or(PasswdEntry { name: String::new(), uid, gid: 0 }));
    }
    entries.find(|e| e.name == text).ok_or_else(|| {
        Error::InvalidArgument(format!("unable to find user {text}: no matching entries in passwd file"))
    })
}

fn passwd_entry(line: &str) -> Option<PasswdEntry> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(PasswdEntry { name, uid, gid })
}

fn find_group(text: &str, group: &str) -> Result<u32> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    group
        .lines()
        .find(|line| line.split(':').next() == Some(text))
        .and_then(|line| line.split(':').nth(2)?.parse().ok())
        .ok_or_else(|| {
            Error::InvalidArgument(format!("unable to find group {text}: no matching entries in group file"))
        })
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let member = |line: &&str| line.split(':').nth(3).is_some_and(|m| m.split(',').any(|m| m.trim() == user));
    group.lines().filter(member).filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect()
}

/// Reads a file of an image, following links as the container would. An image need not have it.
fn read_inside(rootfs: &Path, path: &str) -> Result<String> {
    let failed = |errno| Error::errno(format!("read /{path} of the image"))(errno);
    let root = nix::fcntl::open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(failed)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(&root, path, how) {
        Ok(file) => File::from(file),
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(failed(errno)),
    };
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", Path::new(path)))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use proto::cri::v1::Int64Value;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/app:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\napp:x:1000:\nwheel:x:10:root,app\nextra:x:20:app\n";

    fn check(
        image: &str,
        security: Option<LinuxContainerSecurityContext>,
    ) -> Result<(u32, u32, Vec<u32>), String> {
        resolve_with(security.as_ref(), image, PASSWD, GROUP)
            .map(|u| (u.uid, u.gid, u.groups))
            .map_err(|e| e.to_string())
    }

    fn asked(uid: i64) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            run_as_user: Some(Int64Value { value: uid }),
            supplemental_groups: vec![500],
            ..Default::default()
        }
    }

    #[test]
    fn users_of_images() {
        assert_eq!(check("", None), Ok((0, 0, vec![0, 10])));
        assert_eq!(check("app", None), Ok((1000, 1000, vec![1000, 10, 20])));
        assert_eq!(check("app:wheel", None), Ok((1000, 10, vec![10, 20])));
        assert_eq!(check("77:88", None), Ok((77, 88, vec![88])));
        assert!(check("nobody", None).unwrap_err().contains("no matching entries in passwd file"));
        assert!(check("app:none", None).unwrap_err().contains("no matching entries in group file"));
    }

    #[test]
    fn the_security_context_decides() {
        assert_eq!(check("app:wheel", Some(asked(1000))), Ok((1000, 1000, vec![1000, 10, 20, 500])));
        assert_eq!(check("app", Some(asked(4242))), Ok((4242, 0, vec![0, 500])));
        let mut strict = asked(1000);
        strict.set_supplemental_groups_policy(SupplementalGroupsPolicy::Strict);
        assert_eq!(check("", Some(strict)), Ok((1000, 1000, vec![1000, 500])));
        let group = LinuxContainerSecurityContext {
            run_as_group: Some(Int64Value { value: 7 }),
            ..Default::default()
        };
        assert!(check("", Some(group)).unwrap_err().contains("without run_as_user"));
        let group =
            LinuxContainerSecurityContext { run_as_group: Some(Int64Value { value: 7 }), ..asked(1000) };
        assert_eq!(check("", Some(group)), Ok((1000, 7, vec![7, 10, 20, 500])));
    }

    #[test]
    fn a_passwd_that_points_outside_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        std::fs::write(dir.path().join("passwd"), "evil:x:1:1::/:/").unwrap();
        std::os::unix::fs::symlink("../../passwd", dir.path().join("root/etc/passwd")).unwrap();
        assert_eq!(read_inside(&dir.path().join("root"), "etc/passwd").unwrap(), "");
    }
}
