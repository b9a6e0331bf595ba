//! What the command finds itself to be: its program, user, privileges, descriptors and limits.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Fixture, show, text};

#[test]
fn programs_that_cannot_run_are_named() {
    let Some(f) = Fixture::new() else { return };
    let table: [(&[&str], &str); 4] = [
        (&["nope"], "unable to start container process: exec: \"nope\": executable file not found in $PATH"),
        (&["/bin/nope"], "exec: \"/bin/nope\": stat /bin/nope: no such file or directory"),
        (&["/etc/passwd"], "exec: \"/etc/passwd\": permission denied"),
        (&["/tmp"], "exec: \"/tmp\": is a directory"),
    ];
    for (args, expected) in table {
        f.bundle_of("c", args, |_| {});
        let error = f.fails(&["create", "--bundle", &show(&f.path("c")), "c"]);
        assert!(error.contains(expected), "{error}");
        assert!(f.fails(&["state", "c"]).contains("does not exist"), "nothing is left");
    }
    std::fs::write(f.rootfs("c").join("bin/text"), "no program").unwrap();
    std::fs::set_permissions(f.rootfs("c").join("bin/text"), std::fs::Permissions::from_mode(0o755)).unwrap();
    f.bundle_of("c", &["/bin/text"], |_| {});
    f.create("c");
    assert!(f.fails(&["start", "c"]).contains("exec /bin/text: exec format error"));
}

#[test]
fn users_groups_and_limits() {
    let Some(f) = Fixture::new() else { return };
    let script =
        "id -u; id -g; id -G; echo $HOME; touch /tmp/f; stat -c %a /tmp/f; ulimit -n; echo x > /dev/stderr";
    let edit = |s: &mut Value| {
        s["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o077});
        s["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    };
    f.bundle("c", script, edit);
    std::fs::set_permissions(f.rootfs("c").join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let output = f.run("c");
    assert_eq!(text(&output.stdout), "1000\n1001\n1001 5 6\n/tmp\n600\n100");
    assert_eq!(text(&output.stderr), "x", "a user may open its standard streams");
}

#[test]
fn capabilities_are_what_is_asked_for() {
    let Some(f) = Fixture::new() else { return };
    let script = "grep -E 'Cap|NoNew' /proc/self/status | cut -f2 | while read x; do echo $x; done";
    let chown = json!(["CAP_CHOWN", "CAP_KILL"]);
    let out = f.output("c", script, |s| {
        s["process"]["capabilities"] = json!({"bounding": chown, "effective": ["CAP_CHOWN"], "permitted": chown,
            "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]});
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    // Inheritable, permitted, effective, bounding, ambient; after the exec only the ambient ones are in force.
    let one = "0000000000000001";
    assert_eq!(out.lines().collect::<Vec<_>>(), [one, one, one, "0000000000000021", one, "1"]);
    let out = f.output("d", script, |s| {
        s["process"]["capabilities"] = Value::Null;
        s["process"]["noNewPrivileges"] = json!(false);
    });
    let none = "0000000000000000";
    assert_eq!(out.lines().collect::<Vec<_>>(), [none, none, none, none, none, "0"]);
}

#[test]
fn seccomp_blocks_calls_with_and_without_new_privileges() {
    let Some(f) = Fixture::new() else { return };
    for (id, no_new_privileges) in [("c", true), ("d", false)] {
        let script = "mkdir /x; echo $?; touch /y; echo $?; grep Seccomp: /proc/self/status";
        f.bundle(id, script, |s| {
            s["process"]["noNewPrivileges"] = json!(no_new_privileges);
            s["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["mkdir", "mkdirat", "not_a_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]});
        });
        let output = f.run(id);
        assert_eq!(text(&output.stdout), "1\n0\nSeccomp:\t2");
        assert!(text(&output.stderr).contains("No space left"), "{}", text(&output.stderr));
    }
}

#[test]
fn sysctls_scores_and_loopback() {
    let Some(f) = Fixture::new() else { return };
    let script = "cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/oom_score_adj; \
                  ip -o link show lo | grep -c UP";
    let out = f.output("c", script, |s| {
        s["linux"]["sysctl"] = json!({"kernel.shmmax": "12345", "net.ipv4.ip_unprivileged_port_start": "7"});
        s["process"]["oomScoreAdj"] = json!(500);
    });
    assert_eq!(out, "12345\n7\n500\n1");
}

#[test]
fn nothing_is_inherited_but_standard_streams() {
    let Some(f) = Fixture::new() else { return };
    f.bundle("c", "exec ls /proc/self/fd", |_| {});
    let open = std::fs::File::open("/etc/passwd").unwrap();
    let mut command = f.command(&["run", "--bundle", &show(&f.path("c")), "c"]);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&open);
    // SAFETY: duplicates onto a number of the child's that nothing else has.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
            if libc::dup2(fd, 9) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    let output = command.output().unwrap();
    // The fourth is the directory that ls reads.
    assert_eq!(text(&output.stdout), "0\n1\n2\n3");
}

#[test]
fn namespaces_are_joined_by_path() {
    let Some(f) = Fixture::new() else { return };
    f.bundle("a", "sleep 1000", |_| {});
    f.create("a");
    let pid = f.state("a")["pid"].as_i64().unwrap();
    f.ok(&["start", "a"]);
    let path = |kind: &str| format!("/proc/{pid}/ns/{kind}");
    let script =
        "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; ps | grep -c '[s]leep 1000'; hostname";
    let out = f.output("b", script, |s| {
        s["hostname"] = json!("");
        s["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid", "path": path("pid")},
            {"type": "network", "path": path("net")}, {"type": "ipc", "path": path("ipc")},
            {"type": "uts", "path": path("uts")}]);
    });
    let link = |kind: &str| show(&std::fs::read_link(path(kind)).unwrap());
    assert_eq!(out.lines().collect::<Vec<_>>(), [&link("net"), &link("ipc"), "1", "box"]);
}
