//! Network namespaces that outlive every process in them: files that they are mounted on.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, Result};
use crate::snapshots::unmount;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes a new network namespace with its loopback up, mounted on the new file `path`. Blocks.
pub fn create(path: &Path) -> Result<()> {
    File::create(path).map_err(Error::io("make", path))?;
    let target = path.to_owned();
    // unshare changes the calling thread alone; that thread must end before anybody else uses it.
    on_own_thread("netns-create", move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(Error::errno("make a network namespace"))?;
        loopback_up().map_err(|source| Error::Io { doing: "bring up loopback".to_owned(), source })?;
        let source = Path::new("/proc/thread-self/ns/net");
        let doing = format!("mount a network namespace on {}", target.display());
        mount(Some(source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(Error::errno(doing))
    })
}

/// Removes what [`create`] made; not an error if it is gone.
pub fn remove(path: &Path) -> Result<()> {
    unmount(path)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// True if a network namespace is mounted there; after a restart of the machine it is an ordinary empty file.
pub fn is_live(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

/// Connects to a port of the pod's `localhost`. Blocks for up to 20 s.
pub fn connect_localhost(netns: Option<&Path>, port: u16) -> Result<TcpStream> {
    inside(netns, move || {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let connected = TcpStream::connect_timeout(&v4, CONNECT_TIMEOUT)
            .or_else(|first| TcpStream::connect_timeout(&v6, CONNECT_TIMEOUT).map_err(|_| first));
        connected.map_err(|source| Error::Io { doing: format!("connect to localhost:{port}"), source })
    })
}

/// The text of `/proc/net/dev` in a namespace. Blocks.
pub fn interface_counters(netns: Option<&Path>) -> Result<String> {
    inside(netns, || {
        let path = Path::new("/proc/thread-self/net/dev");
        std::fs::read_to_string(path).map_err(Error::io("read", path))
    })
}

fn inside<T: Send + 'static>(
    netns: Option<&Path>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let netns: Option<PathBuf> = netns.map(Path::to_owned);
    on_own_thread("netns-visit", move || {
        if let Some(path) = netns {
            let file = File::open(&path).map_err(Error::io("open", &path))?;
            setns(file, CloneFlags::CLONE_NEWNET)
                .map_err(Error::errno(format!("enter the network namespace {}", path.display())))?;
        }
        work()
    })
}

fn on_own_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    let thread = thread.map_err(|source| Error::Io { doing: "start a thread".to_owned(), source })?;
    thread.join().map_err(|_| Error::Internal(format!("thread {name} panicked")))?
}

fn loopback_up() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: ifreq is plain data, and zeros are a valid value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request lives longer than the call, and is of the type that it expects.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_lives_on_its_file() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ns");
        create(&path).unwrap();
        assert!(is_live(&path));
        let counters = interface_counters(Some(&path)).unwrap();
        assert!(counters.contains("lo:") && counters.lines().count() == 3, "{counters}");
        let refused = connect_localhost(Some(&path), 1).unwrap_err().to_string();
        assert!(refused.contains("refused"), "{refused}");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!is_live(&path) && !path.exists());
    }
}
