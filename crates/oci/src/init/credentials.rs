//! The process becomes its user.

use std::io;
use std::os::fd::BorrowedFd;

use nix::sys::stat::{Mode, SFlag, makedev, umask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::capabilities::Sets;
use crate::error::{Context, Result};
use crate::log::Log;
use crate::spec::Process;

const DEFAULT_UMASK: u32 = 0o022;

/// Changes user, groups and capabilities, for good.
pub(super) fn become_user(process: &Process, log: &Log) -> Result<()> {
    let user = &process.user;
    let sets = Sets::wanted(process.capabilities.as_ref(), log)?;
    own_streams(user.uid);
    sets.apply_bounding()?;
    keep_capabilities(true)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups).doing(|| "set supplementary groups".to_owned())?;
    setresgid(gid, gid, gid).doing(|| format!("become group {gid}"))?;
    setresuid(uid, uid, uid).doing(|| format!("become user {uid}"))?;
    keep_capabilities(false)?;
    sets.apply()?;
    umask(Mode::from_bits_truncate(user.umask.unwrap_or(DEFAULT_UMASK)));
    Ok(())
}

fn keep_capabilities(keep: bool) -> Result<()> {
    // SAFETY: takes numbers only.
    match unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep), 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).doing(|| "keep capabilities over a change of user".to_owned()),
    }
}

/// Gives the standard streams to the user, so that a program may open `/dev/stdout`. The null device is everybody's,
/// and some files cannot be given away, which is no reason to fail.
fn own_streams(uid: u32) {
    for stream in 0..=2 {
        // SAFETY: the standard streams are open in this process until exec.
        let stream = unsafe { BorrowedFd::borrow_raw(stream) };
        let Ok(found) = nix::sys::stat::fstat(stream) else { continue };
        let is_character = found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits();
        let is_null = is_character && found.st_rdev == makedev(1, 3);
        if !is_null && found.st_uid != uid {
            let _ = nix::unistd::fchown(stream, Some(Uid::from_raw(uid)), None);
        }
    }
}
