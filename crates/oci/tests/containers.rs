//! Whole containers through the command line, made from busybox as root.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};
use support::{Fixture, PROGRAM, show, text};

fn push(list: &mut Value, value: Value) {
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().unwrap().push(value);
}

#[test]
fn exit_codes_output_and_environment_pass_through() {
    let Some(f) = Fixture::new() else { return };
    f.bundle("c", "echo out $A $HOME $(pwd) $(hostname) $$; echo err >&2; exit 7", |s| {
        s["process"]["env"] = json!(["PATH=/bin", "A=b"]);
        s["process"]["cwd"] = json!("/made/for/it");
    });
    let output = f.run("c");
    assert_eq!(text(&output.stdout), "out b /root /made/for/it box 1");
    assert_eq!(text(&output.stderr), "err");
    assert_eq!(output.status.code(), Some(7));
    assert!(f.fails(&["state", "c"]).contains("does not exist"));
}

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
fn paths_are_masked_and_protected() {
    let Some(f) = Fixture::new() else { return };
    let script = "wc -c < /proc/keys; ls /sys/firmware | wc -l; touch /sys/firmware/x || echo ro1; \
                  echo 1 > /proc/sys/kernel/shmmax || echo ro2; touch /x || echo ro3; touch /dev/shm.x && echo rw; \
                  touch /tmp/x && echo tmp";
    let out = f.output("c", script, |s| {
        s["root"]["readonly"] = json!(true);
        push(&mut s["mounts"], json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    });
    assert_eq!(out, "0\n0\nro1\nro2\nro3\nrw\ntmp");
}

#[test]
fn dev_has_the_usual_and_no_other_device_may_be_used() {
    let Some(f) = Fixture::new() else { return };
    let script = "ls /dev; readlink /dev/ptmx; echo x > /dev/null && echo null; head -c 4 /dev/zero | wc -c; \
                  mknod /dev/mem2 c 1 1 && echo made; head -c 1 /dev/mem2 || echo denied; \
                  mknod /dev/k c 1 11; head -c 1 /dev/kmsg2 | wc -c";
    let out = f.output("c", script, |s| {
        s["linux"]["devices"] =
            json!([{"path": "/dev/kmsg2", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600}]);
    });
    let expected = "core fd full kmsg2 mqueue null ptmx pts random stderr stdin stdout tty urandom zero";
    let lines: Vec<&str> = out.lines().collect();
    let names: Vec<&str> = lines.iter().take_while(|l| **l != "pts/ptmx").copied().collect();
    assert_eq!(
        names.into_iter().filter(|n| *n != "core").collect::<Vec<_>>().join(" "),
        expected.replace("core ", "")
    );
    let rest: Vec<&str> = lines.iter().skip_while(|l| **l != "pts/ptmx").skip(1).copied().collect();
    assert_eq!(rest, ["null", "4", "made", "denied", "1"], "{out}");
}

#[test]
fn bind_mounts_do_not_lead_out_and_keep_their_options() {
    let Some(f) = Fixture::new() else { return };
    let (data, victim) = (f.path("data"), f.path("victim"));
    for dir in [&data, &victim] {
        std::fs::create_dir_all(dir.join("sub")).unwrap();
    }
    std::fs::write(f.path("file"), "content").unwrap();
    let bind = |source: &Path, destination: &str, options: &[&str]| json!({"destination": destination, "type": "bind", "source": show(source), "options": options});
    f.bundle("c", "true", |_| {});
    symlink(&victim, f.rootfs("c").join("leads-out")).unwrap();
    symlink("../../../../../../../../..", f.rootfs("c").join("up")).unwrap();
    let script = "cat /etc/resolv.conf; touch /ro/x || echo ro; touch /rw/x && echo rw; ls /leads-out/in; \
                  touch /ro/sub/x || echo below; grep ' /rw ' /proc/self/mounts | grep -c nodev";
    let out = f.output("c", script, |s| {
        push(&mut s["mounts"], bind(&f.path("file"), "/etc/resolv.conf", &["rbind", "rprivate", "ro"]));
        push(&mut s["mounts"], bind(&data, "/ro", &["rbind", "rprivate", "rro"]));
        push(&mut s["mounts"], bind(&data, "/rw", &["rbind", "rprivate", "nodev"]));
        push(&mut s["mounts"], bind(&data, "/leads-out/in", &["rbind"]));
        push(&mut s["mounts"], bind(&data, "/up/inside", &["rbind"]));
    });
    assert_eq!(out, "contentro\nrw\nsub\nx\nbelow\n1");
    assert!(std::fs::read_dir(&victim).unwrap().count() == 1, "nothing was made outside");
    assert!(!Path::new("/inside").exists());
    assert!(f.rootfs("c").join("inside").exists());
}

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

fn wait_stopped(f: &Fixture, id: &str) {
    let pid = f.state(id)["pid"].as_i64().unwrap();
    while pid != 0 && f.state(id)["status"] != "stopped" {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_life_from_created_to_deleted() {
    let Some(f) = Fixture::new() else { return };
    f.bundle("c", "trap 'exit 3' USR1; touch /started; sleep 1000 & wait", |s| {
        s["annotations"] = json!({"a": "b"});
    });
    f.create("c");
    let state = f.state("c");
    assert_eq!((&state["status"], &state["annotations"]["a"]), (&json!("created"), &json!("b")));
    assert!(f.fails(&["create", "--bundle", &show(&f.path("c")), "c"]).contains("exists already"));
    assert!(f.fails(&["delete", "c"]).contains("not stopped"));
    let executable = format!("/proc/{}/exe", state["pid"]);
    let executable = nix::sys::statvfs::statvfs(executable.as_str()).unwrap();
    let read_only = nix::sys::statvfs::FsFlags::ST_RDONLY;
    assert!(executable.flags().contains(read_only), "the runtime cannot be overwritten from inside");
    f.ok(&["start", "c"]);
    assert_eq!(f.state("c")["status"], "running");
    assert!(f.fails(&["start", "c"]).contains("already running"));
    f.ok(&["pause", "c"]);
    assert_eq!(f.state("c")["status"], "paused");
    f.ok(&["resume", "c"]);
    while !f.rootfs("c").join("started").exists() {
        std::thread::yield_now();
    }
    assert_eq!(f.ok(&["ps", "--format", "json", "c"]).matches(',').count(), 1, "the shell and its sleep");
    f.ok(&["kill", "c", "USR1"]);
    wait_stopped(&f, "c");
    assert!(f.fails(&["kill", "c", "TERM"]).contains("not running"));
    assert!(f.fails(&["start", "c"]).contains("stopped"));
    f.ok(&["delete", "c"]);
    f.ok(&["delete", "--force", "c"]);
    assert!(f.fails(&["delete", "c"]).contains("does not exist"));
}

fn process(f: &Fixture, name: &str, args: &[&str]) -> String {
    let path = f.path(name);
    let value = json!({"args": args, "cwd": "/", "env": ["PATH=/bin", "X=y"], "user": {"uid": 0, "gid": 0}});
    std::fs::write(&path, value.to_string()).unwrap();
    show(&path)
}

#[test]
fn exec_joins_everything() {
    let Some(f) = Fixture::new() else { return };
    f.bundle("c", "echo mine > /tmp/file; sleep 1000", |s| {
        push(&mut s["linux"]["namespaces"], json!({"type": "cgroup"}));
        s["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"}]});
    });
    f.create("c");
    let init = format!("/proc/{}/ns", f.state("c")["pid"]);
    f.ok(&["start", "c"]);
    let script = "cat /tmp/file; echo $X; chmod 1 /tmp/file; hostname; for n in pid net ipc uts mnt cgroup; do \
                  readlink /proc/self/ns/$n; done; exit 5";
    let file = process(&f, "p1", &["sh", "-c", script]);
    let output = f.oci(&["exec", "--process", &file, "c"]);
    let mut expected = vec!["mine".to_owned(), "y".to_owned(), "box".to_owned()];
    for name in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        expected.push(show(&std::fs::read_link(format!("{init}/{name}")).unwrap()));
    }
    assert_eq!(text(&output.stdout).lines().collect::<Vec<_>>(), expected);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("not permitted"), "the filter holds for exec too");
    let file = process(&f, "p2", &["nope"]);
    let output = f.oci(&["exec", "--process", &file, "c"]);
    let expected =
        "exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH";
    assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(255));
    let (file, pid_file) = (process(&f, "p3", &["sleep", "1000"]), f.path("pid"));
    let mut command =
        f.command(&["exec", "--detach", "--pid-file", &show(&pid_file), "--process", &file, "c"]);
    assert!(command.stdout(std::process::Stdio::null()).status().unwrap().success());
    let pid = std::fs::read_to_string(pid_file).unwrap();
    assert!(f.ok(&["ps", "c"]).lines().any(|line| line == pid));
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
fn hooks_run_in_their_places() {
    let Some(f) = Fixture::new() else { return };
    let trace = f.path("trace");
    let hook = |name: &str| {
        let script = format!(
            "read state; echo {name} $(echo $state | grep -o '\"status\":\"[a-z]*\"') >> {}",
            show(&trace)
        );
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    f.bundle("c", "cat /started", |s| {
        let inside = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo hook > /started"], "env": ["PATH=/bin"]}]);
        s["hooks"] = json!({"prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "createContainer": hook("createContainer"), "startContainer": inside, "poststart": hook("poststart"),
            "poststop": hook("poststop")});
    });
    let output = f.run("c");
    assert_eq!(text(&output.stdout), "hook", "{}", text(&output.stderr));
    let trace = std::fs::read_to_string(&trace).unwrap();
    let creating = "\"status\":\"creating\"";
    let expected = [
        format!("prestart {creating}"),
        format!("createRuntime {creating}"),
        format!("createContainer {creating}"),
        "poststart \"status\":\"running\"".to_owned(),
        "poststop \"status\":\"stopped\"".to_owned(),
    ];
    assert_eq!(trace.lines().collect::<Vec<_>>(), expected);
    f.bundle("d", "true", |s| {
        s["hooks"] =
            json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 9"]}]});
    });
    let error = f.fails(&["create", "--bundle", &show(&f.path("d")), "d"]);
    assert!(error.contains("createRuntime hook /bin/sh: exit status: 9, stderr: no"), "{error}");
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

#[test]
fn nothing_is_inherited_but_standard_streams() {
    let Some(f) = Fixture::new() else { return };
    f.bundle("c", "exec ls /proc/self/fd", |_| {});
    let open = std::fs::File::open("/etc/passwd").unwrap();
    // SAFETY: duplicates onto a number of the child's that nothing else has.
    let mut command = f.command(&["run", "--bundle", &show(&f.path("c")), "c"]);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&open);
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
fn what_is_not_supported_is_refused_by_name() {
    let Some(f) = Fixture::new() else { return };
    let table: [(fn(&mut Value), &str); 5] = [
        (|s| push(&mut s["linux"]["namespaces"], json!({"type": "user"})), "not supported: user namespaces"),
        (|s| s["linux"]["intelRdt"] = json!({"closID": "x"}), "not supported: linux.intelRdt"),
        (
            |s| s["process"]["scheduler"] = json!({"policy": "SCHED_OTHER"}),
            "not supported: process.scheduler",
        ),
        (|s| push(&mut s["mounts"][0]["options"], json!("idmap")), "not supported: id-mapped mounts (/proc)"),
        (|s| s["linux"]["sysctl"] = json!({"vm.swappiness": "1"}), "is not in a separate kernel namespace"),
    ];
    for (edit, expected) in table {
        f.bundle("c", "true", edit);
        let error = f.fails(&["create", "--bundle", &show(&f.path("c")), "c"]);
        assert!(error.contains(expected), "{error}");
    }
    let error = text(
        &std::process::Command::new(PROGRAM)
            .args(["--systemd-cgroup", "state", "c"])
            .output()
            .unwrap()
            .stderr,
    );
    assert!(error.contains("not supported: --systemd-cgroup"), "{error}");
}

#[test]
fn errors_go_to_the_log_in_json() {
    let Some(f) = Fixture::new() else { return };
    let log = f.path("log");
    let output =
        f.command(&["--log", &show(&log), "--log-format", "json", "state", "nope"]).output().unwrap();
    assert!(!output.status.success() && output.stderr.is_empty());
    let line: Value = serde_json::from_str(&std::fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(
        (&line["level"], &line["msg"]),
        (&json!("error"), &json!("container \"nope\" does not exist"))
    );
}
