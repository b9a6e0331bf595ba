//! `corten down`: stops a cluster with its pods, and on request removes every trace of it.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use base::TaskScope;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use proto::cri::v1::{ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};

use crate::layout::Layout;
use crate::say::say;
use crate::settings::Settings;
use crate::{clusters, lock, node, runtime};

/// How long a server may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked whether the runtime listens: only the kernel knows, and tells nobody.
const START_PAUSE: Duration = Duration::from_millis(5);
/// How long all tasks of our own runtime may take to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// Stops the cluster `name` in `layout`. With `delete`, removes its data and whatever it made on this machine.
pub fn down(name: &str, layout: &Layout, delete: bool) -> anyhow::Result<()> {
    let Some(settings) = Settings::read(layout)? else {
        if delete && layout.data().exists() {
            return remove_half_made(name, layout);
        }
        bail!("there is no cluster {name} in {}", layout.data().display());
    };
    if settings.name != name {
        bail!("{} holds the cluster {}, not {name}", layout.data().display(), settings.name);
    }
    if let Some(pid) = lock::holder(layout)? {
        stop(pid)?;
    }
    // Held to the end, so that nobody starts the cluster again meanwhile.
    let held = lock::wait(layout)?;
    let stopped = stop_pods(&settings, layout)?;
    node::remove_network(&settings)?;
    node::remove_cgroups(&settings)?;
    say!("cluster {name} stopped, {stopped} pods ended");
    if delete {
        unmount_below(layout.data())?;
        drop(held);
        std::fs::remove_dir_all(layout.data())
            .with_context(|| format!("remove {}", layout.data().display()))?;
        clusters::forget(name);
        say!("cluster {name} removed");
    }
    Ok(())
}

/// A first start that failed early may have left an empty directory of ours.
fn remove_half_made(name: &str, layout: &Layout) -> anyhow::Result<()> {
    let ours = |entry: std::fs::DirEntry| {
        ["pki", "run", "log", "kubeconfigs", "cni"].contains(&&*entry.file_name().to_string_lossy())
    };
    let all_ours = std::fs::read_dir(layout.data())?.flatten().all(ours);
    if !all_ours {
        bail!("{} is no data directory of a cluster; it is left alone", layout.data().display());
    }
    std::fs::remove_dir_all(layout.data())?;
    clusters::forget(name);
    Ok(())
}

/// Asks the process to stop and waits until it has; kills it when it takes too long.
fn stop(pid: i32) -> anyhow::Result<()> {
    if pid <= 0 {
        bail!("the lock names no process");
    }
    let Some(process) = open_process(pid) else { return Ok(()) };
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        // SAFETY: a plain system call on a descriptor that we own; the descriptor cannot mean another process.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, 0, 0) };
        if has_ended(&process)? {
            return Ok(());
        }
        eprintln!("process {pid} did not stop within {} s", STOP_LIMIT.as_secs());
    }
    bail!("process {pid} cannot be stopped")
}

fn open_process(pid: i32) -> Option<OwnedFd> {
    // SAFETY: a plain system call; a non-negative result is a new descriptor of ours.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

fn has_ended(process: &OwnedFd) -> anyhow::Result<bool> {
    use std::os::fd::AsFd;
    let limit = PollTimeout::try_from(STOP_LIMIT).context("wait for the server")?;
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut polled, limit).context("wait for the server")? > 0)
}

/// Runs the container runtime once more, alone, and has it stop and remove every pod.
fn stop_pods(settings: &Settings, layout: &Layout) -> anyhow::Result<usize> {
    if !layout.cri().exists() {
        return Ok(0);
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    tokio.block_on(async {
        let scope = TaskScope::new("down");
        // The socket of the server that has stopped would refuse us.
        let _ = std::fs::remove_file(layout.cri_socket());
        let server = node::start_runtime(settings, layout, &scope)?;
        while !layout.cri_socket().exists() && !server.is_finished() {
            tokio::time::sleep(START_PAUSE).await;
        }
        let stopped = stop_all(&layout.cri_socket()).await;
        scope.shutdown(SHUTDOWN_LIMIT).await;
        match server.await {
            Ok(Err(error)) => Err(error),
            _ => stopped,
        }
    })
}

async fn stop_all(socket: &Path) -> anyhow::Result<usize> {
    let mut runtime = RuntimeServiceClient::new(runtime::connect(socket).await?);
    let said = |status: tonic::Status| anyhow::anyhow!("{}", status.message());
    let all =
        runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.map_err(said)?.into_inner().items;
    let mut stops = tokio::task::JoinSet::new();
    let count = all.len();
    for sandbox in all {
        let mut runtime = runtime.clone();
        stops.spawn(async move {
            let pod_sandbox_id = sandbox.id;
            runtime
                .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() })
                .await?;
            runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await
        });
    }
    while let Some(ended) = stops.join_next().await {
        ended?.map_err(said)?;
    }
    Ok(count)
}

/// Unmounts everything below `folder`, the deepest first.
fn unmount_below(folder: &Path) -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    below.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in below {
        nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH)
            .with_context(|| format!("unmount {}", point.display()))?;
    }
    Ok(())
}

/// Mount points have blanks and backslashes as octal numbers.
fn unescape(text: &str) -> PathBuf {
    let plain =
        text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    PathBuf::from(plain)
}
