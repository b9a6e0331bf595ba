//! What a cluster takes while nothing happens.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use testkit::Cluster;

use super::{Row, megabytes, pods};

/// How long a cluster is left alone before it counts as idle.
const SETTLE: Duration = Duration::from_secs(15);
/// How long CPU time is counted.
const WATCHED: Duration = Duration::from_secs(60);

/// Memory and CPU of all processes, first without pods, then with some.
pub fn measure(binary: &Path) -> anyhow::Result<Vec<Row>> {
    let cluster = Cluster::up();
    let mut rows = idle(binary, &cluster, "no pods")?;
    pods::import(&cluster);
    cluster.apply(&pods::list("idle"));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]).output().ok();
    rows.extend(idle(binary, &cluster, &format!("{} pods", pods::COUNT))?);
    Ok(rows)
}

fn idle(binary: &Path, cluster: &Cluster, when: &str) -> anyhow::Result<Vec<Row>> {
    std::thread::sleep(SETTLE);
    let processes = processes(binary, &cluster.data_dir())?;
    let (before, memory) = (cpu_ticks(&processes)?, memory(&processes)?);
    std::thread::sleep(WATCHED);
    let ticks = cpu_ticks(&processes)?.saturating_sub(before);
    // SAFETY: sysconf takes a number and has no other preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let share = ticks as f64 / per_second as f64 / WATCHED.as_secs_f64() * 100.0;
    Ok(vec![
        Row::new(
            format!("idle memory (PSS), {when}"),
            format!("{} in {} processes", megabytes(memory), processes.len()),
        ),
        Row::new(format!("idle CPU, {when}"), format!("{share:.2}% of a core")),
    ])
}

/// The processes of the binary whose command line names the cluster's directory: the server and its shims.
fn processes(binary: &Path, data: &Path) -> anyhow::Result<Vec<u32>> {
    let binary = binary.canonicalize().with_context(|| format!("find {}", binary.display()))?;
    let data = data.to_string_lossy().into_owned();
    let ids =
        fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours = |pid: &u32| {
        let folder = Path::new("/proc").join(pid.to_string());
        let words = fs::read(folder.join("cmdline")).unwrap_or_default();
        fs::read_link(folder.join("exe")).is_ok_and(|exe| exe == binary)
            && String::from_utf8_lossy(&words).contains(&data)
    };
    let found: Vec<u32> = ids.filter(ours).collect();
    if found.is_empty() {
        bail!("no process of the cluster runs");
    }
    Ok(found)
}

/// Bytes of memory, shared pages divided among those who share them.
fn memory(processes: &[u32]) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in processes {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("a line Pss")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().context("Pss in kB")?;
        sum += kilobytes * 1024;
    }
    Ok(sum)
}

/// CPU time in the kernel's ticks, of user and system together.
fn cpu_ticks(processes: &[u32]) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in processes {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // The name of the program is in parentheses and may hold blanks; times are the 14th and 15th field.
        let (_, fields) = text.rsplit_once(')').context("a name in parentheses")?;
        let times = fields.split_whitespace().skip(11).take(2);
        sum += times.map(|time| time.parse::<u64>().unwrap_or(0)).sum::<u64>();
    }
    Ok(sum)
}
