//! Metrics of the process, and of what is stored.

use std::fmt::Write;

use store::{KeyRange, RangeOptions};

use crate::core::Core;

/// Clock ticks per second of `/proc` (`USER_HZ`, fixed on Linux).
const TICKS: f64 = 100.0;
/// Bytes of a page.
const PAGE: u64 = 4096;

/// Adds them to `out`.
pub fn render(core: &Core, out: &mut String) {
    let _ = writeln!(
        out,
        "# HELP kubernetes_build_info A metric with a constant '1' value labeled by version.\n\
         # TYPE kubernetes_build_info gauge\n\
         kubernetes_build_info{{major=\"1\",minor=\"36\",git_version=\"{}\"}} 1",
        base::GIT_VERSION
    );
    let _ = out.write_str(
        "# HELP apiserver_storage_objects Number of stored objects at the time of last check split by kind.\n\
         # TYPE apiserver_storage_objects gauge\n",
    );
    let mut by_group = String::from(
        "# HELP apiserver_resource_objects Number of stored objects at the time of last check split by kind.\n\
         # TYPE apiserver_resource_objects gauge\n",
    );
    let counting = RangeOptions { count_only: true, ..RangeOptions::default() };
    for served in core.registry.resources.load().all() {
        let hub = &served.hub;
        if served.resource.version != hub.version || !hub.has_verb("list") {
            continue;
        }
        let range = KeyRange::prefix(served.key_prefix(None));
        let Ok(found) = core.registry.store.range(&range, counting) else { continue };
        let dot = if hub.group.is_empty() { "" } else { "." };
        let _ = writeln!(
            out,
            "apiserver_storage_objects{{resource=\"{}{dot}{}\"}} {}",
            hub.plural, hub.group, found.count
        );
        let _ = writeln!(
            by_group,
            "apiserver_resource_objects{{group=\"{}\",resource=\"{}\"}} {}",
            hub.group, hub.plural, found.count
        );
    }
    out.push_str(&by_group);
    process(core, out);
}

fn process(core: &Core, out: &mut String) {
    let mut gauge = |name: &str, help: &str, kind: &str, value: f64| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    let start = core.started.as_millisecond() as f64 / 1000.0;
    let words = "Start time of the process since unix epoch in seconds.";
    gauge("process_start_time_seconds", words, "gauge", start);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces; what follows it does not.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
    if let (Some(user), Some(system)) = (field(11), field(12)) {
        let words = "Total user and system CPU time spent in seconds.";
        gauge("process_cpu_seconds_total", words, "counter", (user + system) as f64 / TICKS);
    }
    if let (Some(size), Some(resident)) = (field(20), field(21)) {
        gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", "gauge", size as f64);
        let words = "Resident memory size in bytes.";
        gauge("process_resident_memory_bytes", words, "gauge", (resident * PAGE) as f64);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauge("process_open_fds", "Number of open file descriptors.", "gauge", open.count() as f64);
    }
}
