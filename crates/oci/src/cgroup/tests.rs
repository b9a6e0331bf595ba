//! What can be tested without a hierarchy: detection, conversion, device lists and their program; and, as root, a
//! group of this machine.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;

use super::device_program::{Insn, assemble};
use super::device_rules::{DeviceList, MAKE, READ, WRITE, with_defaults};
use super::*;
use crate::spec::DeviceRule;

#[test]
fn version_1_is_found_beside_an_empty_version_2() {
    let text = "30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                32 24 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    let found = Hierarchies::parse(text).unwrap();
    assert_eq!(found.version(), Version::V1);
    let names: Vec<&str> = found.roots().map(|(name, _)| name).collect();
    assert_eq!(names, ["cpu", "cpuacct", "memory", "name=systemd"]);
    assert_eq!(found.root("cpuacct").unwrap(), Path::new("/sys/fs/cgroup/cpu,cpuacct"));
}

#[test]
fn version_2_is_found_alone() {
    let found = Hierarchies::parse("25 20 0:22 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n").unwrap();
    assert_eq!(found.version(), Version::V2);
    assert_eq!(found.root("memory").unwrap(), Path::new("/sys/fs/cgroup"));
    assert!(Hierarchies::parse("").is_err());
}

#[test]
fn paths_stay_below_the_roots() {
    let found = Hierarchies::parse("25 20 0:22 / /cg rw - cgroup2 cgroup2 rw\n").unwrap();
    let group = Cgroup::new(found.clone(), "/a/b/").unwrap();
    assert_eq!(group.dir("memory").unwrap(), Path::new("/cg/a/b"));
    for bad in ["", "/", "/a/../b", "a//b"] {
        assert!(Cgroup::new(found.clone(), bad).is_err(), "{bad:?}");
    }
}

#[test]
fn limits_convert_to_version_2() {
    let resources: Resources = serde_json::from_value(json!({
        "memory": {"limit": 1000, "swap": 1500, "reservation": 500},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1"},
        "pids": {"limit": 10},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
        "unified": {"memory.high": "900"},
    }))
    .unwrap();
    let expected = [
        ("memory.swap.max", "500"),
        ("memory.max", "1000"),
        ("memory.low", "500"),
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0-1"),
        ("pids.max", "10"),
        ("hugetlb.2MB.max", "4096"),
        ("memory.high", "900"),
    ];
    let expected: Vec<(String, String)> =
        expected.iter().map(|(f, v)| ((*f).to_owned(), (*v).to_owned())).collect();
    assert_eq!(v2::settings(&resources).unwrap(), expected);
    let shares = [(2, 1), (102, 17), (1024, 100), (262_144, 10_000)];
    for (shares, weight) in shares {
        assert_eq!(v2::weight_of_shares(shares), weight, "{shares}");
    }
}

fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
    DeviceRule { allow, kind: kind.into(), major: Some(major), minor: Some(minor), access: access.into() }
}

/// Runs a device program on one question.
fn ask(program: &[Insn], block: bool, major: u32, minor: u32, access: u32) -> bool {
    let context = [access << 16 | if block { 1 } else { 2 }, major, minor];
    let mut registers = [0_u32; 16];
    let mut pc = 0;
    loop {
        let i = program[pc];
        pc += 1;
        let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
        let jump = |yes: bool| if yes { i.offset as usize } else { 0 };
        match i.code {
            0x61 => registers[to] = context[i.offset as usize / 4],
            0xbc => registers[to] = registers[from],
            0x54 => registers[to] &= i.immediate as u32,
            0x74 => registers[to] >>= i.immediate,
            0xb7 => registers[to] = i.immediate as u32,
            0x56 => pc += jump(registers[to] != i.immediate as u32),
            0x16 => pc += jump(registers[to] == i.immediate as u32),
            0x95 => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        }
    }
}

#[test]
fn denied_by_default_devices_need_a_rule_for_all_they_want() {
    let rules =
        [rule(false, "a", -1, -1, "rwm"), rule(true, "c", 10, 229, "rw"), rule(true, "b", 8, -1, "r")];
    let program = assemble(&DeviceList::from_rules(&with_defaults(&rules)).unwrap());
    assert!(ask(&program, false, 1, 3, READ | WRITE), "null is a default");
    assert!(ask(&program, false, 136, 7, READ | WRITE), "terminals are");
    assert!(ask(&program, true, 99, 99, MAKE), "making nodes is");
    assert!(ask(&program, false, 10, 229, READ | WRITE));
    assert!(!ask(&program, false, 10, 229, READ | MAKE), "each exception alone must cover it");
    assert!(ask(&program, true, 8, 1, READ));
    assert!(!ask(&program, true, 8, 1, WRITE));
    assert!(!ask(&program, false, 8, 1, READ), "another type");
    assert!(!ask(&program, false, 1, 1, READ), "mem");
}

#[test]
fn allowed_by_default_devices_are_denied_for_any_they_want() {
    let rules = [rule(true, "a", -1, -1, "rwm"), rule(false, "b", 8, 0, "w")];
    let program = assemble(&DeviceList::from_rules(&rules).unwrap());
    assert!(ask(&program, true, 8, 0, READ));
    assert!(!ask(&program, true, 8, 0, READ | WRITE));
    assert!(ask(&program, true, 8, 1, READ | WRITE));
}

/// A group with processes in it, gone at the test's end however that comes.
struct Made {
    group: Cgroup,
    outermost: Cgroup,
    children: Vec<std::process::Child>,
}

impl Made {
    fn new(hierarchies: Hierarchies, name: &str, below: &str) -> Self {
        let outer = format!("/corten-test-{}-{name}", std::process::id());
        let group = Cgroup::new(hierarchies.clone(), &format!("{outer}{below}")).unwrap();
        Self { group, outermost: Cgroup::new(hierarchies, &outer).unwrap(), children: Vec::new() }
    }

    fn spawn(&mut self, command: &mut std::process::Command) -> &mut std::process::Child {
        self.children.push(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        self.children.last_mut().unwrap()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = self.group.freeze(false);
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.outermost.remove();
    }
}

#[test]
fn a_group_of_this_machine_is_made_limited_and_removed() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let mut made = Made::new(Hierarchies::detect().unwrap(), "own", "");
    let group = made.group.clone();
    let resources = json!({"pids": {"limit": 10}, "memory": {"limit": 33_554_432},
        "devices": [{"allow": false, "access": "rwm"}]});
    let resources: Resources = serde_json::from_value(resources).unwrap();
    group.create().unwrap();
    group.apply(&resources).unwrap();
    group.apply_devices(&resources).unwrap();
    let pid = made.spawn(std::process::Command::new("sleep").arg("1000")).id() as i32;
    group.add_process(pid).unwrap();
    assert_eq!(group.processes().unwrap(), [pid]);
    group.freeze(true).unwrap();
    assert!(group.is_frozen());
    group.freeze(false).unwrap();
    assert_eq!(group.stats().pids, Some(1));
    drop(made);
    assert!(!group.exists());
}

/// A hierarchy of version 2 on this machine, though its controllers may be with version 1.
fn some_version_2() -> Option<Hierarchies> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" - cgroup2 ")).collect();
    if lines.is_empty() {
        println!("skipped: no cgroup2 is mounted");
    }
    Hierarchies::parse(&lines.join("\n")).ok()
}

#[test]
fn version_2_freezes_kills_and_guards_devices() {
    let Some(hierarchies) = some_version_2() else { return };
    let mut made = Made::new(hierarchies, "v2", "/inner");
    let group = made.group.clone();
    group.create().unwrap();
    let rules = json!({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c",
        "major": 10, "minor": 200, "access": "rw"}]});
    let resources: Resources = serde_json::from_value(rules).unwrap();
    // Twice: the second program takes the first one's place.
    group.apply_devices(&resources).unwrap();
    group.apply_devices(&resources).unwrap();
    let procs = group.dir("").unwrap().join("cgroup.procs");
    let script =
        format!("echo 0 > {}; cat /dev/null && head -c1 /dev/kmsg; exec sleep 1000", procs.display());
    let child = made.spawn(std::process::Command::new("sh").args(["-c", &script]).stderr(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("kmsg") && line.contains("not permitted"), "{line}");
    group.freeze(true).unwrap();
    assert!(group.is_frozen());
    group.kill_all().unwrap();
    assert!(group.processes().unwrap().is_empty());
    drop(made);
    assert!(!group.exists());
}
