//! From created to deleted, exec, hooks, and what users are told.

use serde_json::{Value, json};

use crate::support::{Fixture, PROGRAM, push, show, text, wait_stopped};

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
fn what_is_not_supported_is_refused_by_name() {
    let Some(f) = Fixture::new() else { return };
    type Edit = fn(&mut Value);
    let table: [(Edit, &str); 5] = [
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
