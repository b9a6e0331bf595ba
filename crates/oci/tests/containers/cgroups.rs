//! Limits, and how a container sees its own cgroup.

use serde_json::json;

use crate::support::{Fixture, PROGRAM, push, show, text, wait_stopped};

#[test]
fn memory_and_task_limits_hold() {
    let Some(f) = Fixture::new() else { return };
    f.bundle("m", "head -c 200m /dev/zero | tail", |s| {
        s["linux"]["resources"]["memory"] = json!({"limit": 16 << 20});
    });
    f.create("m");
    f.ok(&["start", "m"]);
    wait_stopped(&f, "m");
    let group =
        oci::cgroup::Cgroup::new(oci::cgroup::Hierarchies::detect().unwrap(), &format!("{}/m", f.cgroup));
    let group = group.unwrap();
    assert!(group.oom_kills() > 0);
    f.ok(&["delete", "m"]);
    assert!(!group.exists());
    f.bundle("p", "for i in $(seq 20); do sleep 5 & done; echo not reached", |s| {
        s["linux"]["resources"]["pids"] = json!({"limit": 8});
    });
    let output = f.run("p");
    assert!(text(&output.stderr).contains("can't fork"), "{}", text(&output.stderr));
}

#[test]
fn limits_are_updated() {
    let Some(f) = Fixture::new() else { return };
    f.bundle("c", "sleep 1000", |s| {
        s["linux"]["resources"]["memory"] = json!({"limit": 64 << 20, "swap": 64 << 20});
        s["linux"]["resources"]["cpu"] = json!({"shares": 512, "quota": 20000, "period": 100_000});
    });
    f.create("c");
    let file = f.path("update");
    std::fs::write(
        &file,
        json!({"pids": {"limit": 33}, "memory": {"limit": 128 << 20, "swap": 128 << 20}}).to_string(),
    )
    .unwrap();
    f.ok(&["update", "--resources", &show(&file), "c"]);
    let group =
        oci::cgroup::Cgroup::new(oci::cgroup::Hierarchies::detect().unwrap(), &format!("{}/c", f.cgroup));
    let group = group.unwrap();
    let read = |controller: &str, file: &str| {
        text(&std::fs::read(group.dir(controller).unwrap().join(file)).unwrap())
    };
    assert_eq!(read("pids", "pids.max"), "33");
    match group.version() {
        oci::cgroup::Version::V1 => {
            assert_eq!(read("memory", "memory.limit_in_bytes"), (128 << 20).to_string());
            assert_eq!(read("cpu", "cpu.shares"), "512");
            assert_eq!(read("cpu", "cpu.cfs_quota_us"), "20000");
        }
        oci::cgroup::Version::V2 => {
            assert_eq!(read("memory", "memory.max"), (128 << 20).to_string());
            assert_eq!(read("cpu", "cpu.max"), "20000 100000");
        }
    }
}

#[test]
fn cgroups_are_visible_in_the_container() {
    let Some(f) = Fixture::new() else { return };
    for (id, private) in [("c", true), ("d", false)] {
        let out =
            f.output(id, "ls /sys/fs/cgroup; find /sys/fs/cgroup -name pids.max -exec cat {} \\;", |s| {
                s["process"]["args"][2] = json!(
                    "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; \
                       touch /sys/fs/cgroup/x 2>/dev/null || echo ro"
                );
                s["linux"]["resources"]["pids"] = json!({"limit": 77});
                push(
                    &mut s["mounts"],
                    json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
                );
                if private {
                    push(&mut s["linux"]["namespaces"], json!({"type": "cgroup"}));
                }
            });
        assert_eq!(out, "77\nro", "cgroup namespace: {private}");
    }
}

/// In a mount namespace that shows version 2 alone, whatever the machine has. Controllers that version 1 holds are
/// missing there; devices, freezing and killing are not.
#[test]
fn containers_run_on_cgroup_v2() {
    let Some(f) = Fixture::new() else { return };
    let script = "head -c1 /dev/mem2 || echo denied; grep -c cgroup2 /proc/self/mounts; cat /proc/self/cgroup | tail -1; \
                  touch /sys/fs/cgroup/x 2>/dev/null || echo ro; echo x > /dev/null && echo null; exit 4";
    f.bundle("c", script, |s| {
        s["linux"]["devices"] = json!([{"path": "/dev/mem2", "type": "c", "major": 1, "minor": 1}]);
        push(
            &mut s["mounts"],
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
        );
        push(&mut s["linux"]["namespaces"], json!({"type": "cgroup"}));
    });
    let inside = format!(
        "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup || exit 77; \
         {PROGRAM} --root {root} run --bundle {bundle} c; code=$?; rmdir /sys/fs/cgroup/{group}; exit $code",
        root = show(&f.path("root")),
        bundle = show(&f.path("c")),
        group = f.cgroup,
    );
    let output = std::process::Command::new("unshare").args(["-m", "sh", "-c", &inside]).output().unwrap();
    if output.status.code() == Some(77) {
        println!("skipped: cgroup2 cannot be mounted here");
        return;
    }
    assert_eq!(text(&output.stdout), "denied\n1\n0::/\nro\nnull", "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(4));
}
