//! `corten up`: starts a cluster in the background and returns when it can be used.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use crate::layout::Layout;
use crate::notify::{PIPE, READY};
use crate::say::say;
use crate::settings::{Settings, Wishes, check_port};
use crate::{clusters, lock, preflight};

/// How many lines of the server's log are shown when it does not come up.
const LOG_TAIL: usize = 5;

/// Starts the cluster `name` in `layout`, or finds it running.
pub fn up(name: &str, layout: &Layout, wishes: &Wishes) -> anyhow::Result<()> {
    preflight::require()?;
    layout.create()?;
    let settings = Settings::read_or_create(layout, name, wishes)?;
    if let Some(pid) = lock::holder(layout)? {
        say!("cluster {name} runs already (process {pid})");
        return {
            print_usage(layout);
            Ok(())
        };
    }
    check_ports(&settings)?;
    clusters::note(&settings, layout)?;
    say!("starting cluster {name} in {}", layout.data().display());
    let (mut server, reader) = spawn(name, layout)?;
    for line in reader.lines() {
        match line.context("read the server's progress")?.as_str() {
            READY => {
                return {
                    print_usage(layout);
                    Ok(())
                };
            }
            progress => say!("  {progress}"),
        }
    }
    let status = server.wait().context("wait for the server")?;
    bail!("the server stopped ({status}): {}", tail(layout))
}

/// Says at once which port is taken, before anything is started.
pub fn check_ports(settings: &Settings) -> anyhow::Result<()> {
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    check_port(any(settings.secure_port), "--secure-port")?;
    check_port(any(settings.kubelet_port), "--kubelet-port")
}

fn print_usage(layout: &Layout) {
    say!("export KUBECONFIG={}", layout.kubeconfig().display());
}

/// Starts the server as a process of its own session; its progress comes over a pipe.
fn spawn(name: &str, layout: &Layout) -> anyhow::Result<(Child, BufReader<std::io::PipeReader>)> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(layout.server_log())
        .with_context(|| format!("open {}", layout.server_log().display()))?;
    let fd = writer.as_raw_fd();
    let called = std::env::current_exe().context("find the corten binary")?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(called)
        .args(["server", "--name", name, "--data-dir"])
        .arg(layout.data())
        .env(PIPE, fd.to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // SAFETY: between fork and exec only async-signal-safe system calls are made.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            libc::fcntl(fd, libc::F_SETFD, 0);
            Ok(())
        });
    }
    let child = command.spawn().context("start the server")?;
    Ok((child, BufReader::new(reader)))
}

fn tail(layout: &Layout) -> String {
    let text = std::fs::read_to_string(layout.server_log()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    // The last error says it best; without one, what was printed last.
    match lines.iter().rev().find_map(|line| line.strip_prefix("error: ")) {
        Some(error) => error.to_owned(),
        None => lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n"),
    }
}
