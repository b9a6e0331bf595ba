//! Mounting and unmounting.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Error, Result};

/// An overlay to mount.
#[derive(Debug)]
pub struct OverlayMount {
    /// The directory that `lower` is relative to: the options of one mount must fit into a page.
    pub base: PathBuf,
    /// Read-only directories, the uppermost first; at least one.
    pub lower: Vec<PathBuf>,
    /// The writable directory and the kernel's working directory beside it; without, the mount is read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Where.
    pub target: PathBuf,
    /// Need not survive a crash of the machine.
    pub volatile: bool,
}

impl OverlayMount {
    /// Mounts it.
    pub fn mount(self) -> Result<()> {
        fs::create_dir_all(&self.target).map_err(Error::io("make", &self.target))?;
        if self.upper.is_none() && self.lower.len() == 1 {
            return self.bind_single();
        }
        let target = self.target.clone();
        // The working directory is the thread's own after unshare(CLONE_FS), so nobody else sees the change.
        let thread = std::thread::Builder::new().name("overlay-mount".to_owned());
        let failed = Error::io("start a thread to mount", &target);
        let handle = thread.spawn(move || self.mount_in_own_directory()).map_err(failed)?;
        handle.join().map_err(|_| Error::Internal(format!("mounting {} panicked", target.display())))?
    }

    fn mount_in_own_directory(self) -> Result<()> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)
            .map_err(Error::errno("unshare the working directory"))?;
        nix::unistd::chdir(&self.base).map_err(Error::errno(format!("enter {}", self.base.display())))?;
        let options = self.options();
        let flags = if self.upper.is_some() { MsFlags::empty() } else { MsFlags::MS_RDONLY };
        mount(Some("overlay"), &self.target, Some("overlay"), flags, Some(options.as_str())).map_err(
            |errno| {
                let hint = match errno {
                    nix::Error::ENODEV => " (the kernel has no overlayfs)",
                    nix::Error::EINVAL => {
                        " (is the data directory itself on overlayfs? put it on a disk or tmpfs)"
                    }
                    _ => "",
                };
                Error::errno(format!("mount overlay on {}{hint}", self.target.display()))(errno)
            },
        )
    }

    fn options(&self) -> String {
        let lower: Vec<String> = self.lower.iter().map(|p| escape(p)).collect();
        let mut options = format!("lowerdir={}", lower.join(":"));
        if let Some((upper, work)) = &self.upper {
            options += &format!(",upperdir={},workdir={}", escape(upper), escape(work));
            // Renaming a directory of a lower layer must work as on a disk, but whiteouts must stay simple.
            options += ",index=off";
            if self.volatile {
                options += ",volatile";
            }
        }
        options
    }

    /// overlayfs wants two directories at least, so that a single one is bound.
    fn bind_single(&self) -> Result<()> {
        let source = self.base.join(&self.lower[0]);
        let doing = || format!("bind {} on {}", source.display(), self.target.display());
        mount(Some(&source), &self.target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(Error::errno(doing()))?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &self.target, None::<&str>, flags, None::<&str>).map_err(Error::errno(doing()))
    }
}

/// Colons and commas separate directories and options.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

/// Unmounts `target`, at once or as soon as nobody uses it any more; not an error if nothing is mounted there.
pub fn unmount(target: &Path) -> Result<()> {
    loop {
        match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => return Ok(()),
            Err(errno) => return Err(Error::errno(format!("unmount {}", target.display()))(errno)),
        }
    }
}

/// Unmounts everything at or below `root`, the innermost first.
pub fn unmount_below(root: &Path) -> Result<()> {
    let mut found: Vec<PathBuf> = mount_points()?.into_iter().filter(|p| p.starts_with(root)).collect();
    found.sort();
    found.iter().rev().try_for_each(|path| unmount(path))
}

/// True if something is mounted exactly there.
pub fn is_mounted(target: &Path) -> Result<bool> {
    Ok(mount_points()?.iter().any(|p| p == target))
}

fn mount_points() -> Result<Vec<PathBuf>> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(Error::io("read", table))?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(|p| PathBuf::from(unescape(p))).collect())
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Writes out everything of the file system that `path` is on.
pub fn sync_filesystem(path: &Path) -> Result<()> {
    let dir = File::open(path).map_err(Error::io("open", path))?;
    // SAFETY: the descriptor is open.
    match unsafe { libc::syncfs(dir.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(Error::io("sync the file system of", path)(std::io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_escaped() {
        let overlay = OverlayMount {
            base: "/b".into(),
            lower: vec!["2/fs".into(), "1/fs".into()],
            upper: Some(("/a:b,c/u".into(), "/w".into())),
            target: "/t".into(),
            volatile: true,
        };
        assert_eq!(
            overlay.options(),
            "lowerdir=2/fs:1/fs,upperdir=/a\\:b\\,c/u,workdir=/w,index=off,volatile"
        );
    }
}
