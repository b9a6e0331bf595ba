//! Numbers from cgroup files, of both versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proto::cri::v1 as cri;

use super::{psi, value};

/// Numbers above this mean "no limit" on cgroup v1.
const V1_UNLIMITED: u64 = 1 << 62;

/// What a cgroup has used; `None` where the kernel does not say.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct CgroupUsage {
    pub cpu_ns: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Not used of late, and free to be taken back.
    pub inactive_file_bytes: u64,
    pub rss_bytes: Option<u64>,
    pub memory_limit_bytes: Option<u64>,
    pub page_faults: Option<u64>,
    pub major_page_faults: Option<u64>,
    pub swap_bytes: Option<u64>,
    pub swap_limit_bytes: Option<u64>,
    pub processes: Option<u64>,
    pub cpu_psi: Option<cri::PsiStats>,
    pub memory_psi: Option<cri::PsiStats>,
    pub io_psi: Option<cri::PsiStats>,
}

impl CgroupUsage {
    /// Reads the directories of a cgroup by controller; the single key `""` is version 2.
    pub fn read(dirs: &BTreeMap<String, PathBuf>) -> Self {
        match dirs.get("") {
            Some(dir) => Self::read_v2(dir),
            None => Self::read_v1(dirs),
        }
    }

    fn read_v2(dir: &Path) -> Self {
        let stat = table(&dir.join("memory.stat"));
        let limit = |name: &str| number(&dir.join(name));
        Self {
            cpu_ns: table(&dir.join("cpu.stat")).get("usage_usec").map(|us| us * 1000),
            memory_bytes: number(&dir.join("memory.current")),
            inactive_file_bytes: stat.get("inactive_file").copied().unwrap_or(0),
            rss_bytes: stat.get("anon").copied(),
            memory_limit_bytes: limit("memory.max"),
            page_faults: stat.get("pgfault").copied(),
            major_page_faults: stat.get("pgmajfault").copied(),
            swap_bytes: number(&dir.join("memory.swap.current")),
            swap_limit_bytes: limit("memory.swap.max"),
            processes: number(&dir.join("pids.current")),
            cpu_psi: psi::read(&dir.join("cpu.pressure")),
            memory_psi: psi::read(&dir.join("memory.pressure")),
            io_psi: psi::read(&dir.join("io.pressure")),
        }
    }

    fn read_v1(dirs: &BTreeMap<String, PathBuf>) -> Self {
        let file = |controller: &str, name: &str| number(&dirs.get(controller)?.join(name));
        let stat = dirs.get("memory").map(|dir| table(&dir.join("memory.stat"))).unwrap_or_default();
        let memory = file("memory", "memory.usage_in_bytes");
        let with_swap = file("memory", "memory.memsw.usage_in_bytes");
        let limit = file("memory", "memory.limit_in_bytes").filter(|l| *l < V1_UNLIMITED);
        let swap_limit = file("memory", "memory.memsw.limit_in_bytes").filter(|l| *l < V1_UNLIMITED);
        Self {
            cpu_ns: file("cpuacct", "cpuacct.usage").or_else(|| file("cpu", "cpuacct.usage")),
            memory_bytes: memory,
            inactive_file_bytes: stat.get("total_inactive_file").copied().unwrap_or(0),
            rss_bytes: stat.get("total_rss").copied(),
            memory_limit_bytes: limit,
            page_faults: stat.get("total_pgfault").copied(),
            major_page_faults: stat.get("total_pgmajfault").copied(),
            swap_bytes: with_swap.zip(memory).map(|(both, memory)| both.saturating_sub(memory)),
            swap_limit_bytes: swap_limit.zip(limit).map(|(both, memory)| both.saturating_sub(memory)),
            processes: file("pids", "pids.current"),
            ..Self::default()
        }
    }

    /// CRI's form.
    pub fn memory(&self, now: i64) -> Option<cri::MemoryUsage> {
        let usage = self.memory_bytes?;
        let working_set = usage.saturating_sub(self.inactive_file_bytes);
        Some(cri::MemoryUsage {
            timestamp: now,
            working_set_bytes: value(Some(working_set)),
            available_bytes: value(self.memory_limit_bytes.map(|limit| limit.saturating_sub(working_set))),
            usage_bytes: value(Some(usage)),
            rss_bytes: value(self.rss_bytes),
            page_faults: value(self.page_faults),
            major_page_faults: value(self.major_page_faults),
            psi: self.memory_psi,
        })
    }

    /// CRI's form.
    pub fn swap(&self, now: i64) -> Option<cri::SwapUsage> {
        let used = self.swap_bytes?;
        Some(cri::SwapUsage {
            timestamp: now,
            swap_available_bytes: value(self.swap_limit_bytes.map(|limit| limit.saturating_sub(used))),
            swap_usage_bytes: value(Some(used)),
        })
    }

    /// CRI's form.
    pub fn io(&self, now: i64) -> Option<cri::IoUsage> {
        self.io_psi.map(|psi| cri::IoUsage { timestamp: now, psi: Some(psi) })
    }
}

/// A file with one number; `max` is none.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A file of lines with a name and a number.
fn table(path: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn version_two() {
        let dir = tree(&[
            ("cpu.stat", "usage_usec 5\nuser_usec 3\n"),
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 400\ninactive_file 300\npgfault 7\n"),
            ("pids.current", "3\n"),
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
            ),
        ]);
        let usage = CgroupUsage::read(&BTreeMap::from([(String::new(), dir.path().to_owned())]));
        assert_eq!((usage.cpu_ns, usage.processes), (Some(5000), Some(3)));
        let memory = usage.memory(1).unwrap();
        assert_eq!(memory.working_set_bytes.unwrap().value, 700);
        assert!(memory.available_bytes.is_none());
        let some = usage.cpu_psi.unwrap().some.unwrap();
        assert_eq!((some.total, some.avg10), (9000, 1.5));
    }

    #[test]
    fn version_one() {
        let dir = tree(&[
            ("cpuacct/cpuacct.usage", "77\n"),
            ("memory/memory.usage_in_bytes", "1000\n"),
            ("memory/memory.memsw.usage_in_bytes", "1200\n"),
            ("memory/memory.limit_in_bytes", "2000\n"),
            ("memory/memory.stat", "rss 1\ntotal_rss 400\ntotal_inactive_file 300\n"),
        ]);
        let dirs = ["cpuacct", "memory"].iter().map(|c| ((*c).to_owned(), dir.path().join(c))).collect();
        let usage = CgroupUsage::read(&dirs);
        assert_eq!((usage.cpu_ns, usage.rss_bytes), (Some(77), Some(400)));
        assert_eq!(usage.memory(1).unwrap().available_bytes.unwrap().value, 1300);
        assert_eq!(usage.swap(1).unwrap().swap_usage_bytes.unwrap().value, 200);
        assert_eq!(CgroupUsage::read(&BTreeMap::new()), CgroupUsage::default());
    }
}
