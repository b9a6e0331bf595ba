//! Sandboxes with real containers, with every OCI runtime that the machine has.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use shim::{AttachRequest, ContainerPhase, Error, ErrorKind, Event, ExecRequest, Shim, TerminalSize};
use support::{Fixture, PATIENCE, exit_of, fixture, fixtures, process};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// Reads until what has come contains `wanted`.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), wanted: &str) -> String {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    let read = async {
        while !text.contains(wanted) {
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "the stream ended after {text:?}");
            text.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    };
    if tokio::time::timeout(PATIENCE, read).await.is_err() {
        panic!("{wanted:?} did not come, but {text:?}");
    }
    text
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("no end").unwrap();
    text
}

fn exec_request(f: &Fixture, id: &str, args: &[&str], tty: bool) -> ExecRequest {
    let mut process = process(args);
    process["terminal"] = json!(tty);
    ExecRequest { container_id: f.id(id), process, stdin: true, stdout: true, stderr: !tty, tty }
}

#[tokio::test]
async fn a_container_from_creation_to_deletion() {
    for f in fixtures() {
        let shim = f.start().await;
        let (state, mut events) = shim.subscribe().await.unwrap();
        assert!(state.ready && state.containers.is_empty());
        let id = f.id("c");
        let request = f.bundle("c", "echo out; echo err >&2; printf begun; exit 7", |_| {});
        let created = shim.create_container(request.clone()).await.unwrap();
        assert_eq!(created.phase, ContainerPhase::Created);
        assert!(created.pid > 0 && created.created_at_ns > 0);
        assert!(created.cgroups.values().all(|dir| dir.exists()) && !created.cgroups.is_empty());
        let error = shim.create_container(request).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::AlreadyExists));
        let started = shim.start_container(&id).await.unwrap();
        assert!(started.started_at_ns > 0);
        let exit = exit_of(&mut events, &id).await;
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
        let line = |stream: &str, tag: &str, text: &str| (stream.into(), tag.into(), text.into());
        let mut log = f.log("c");
        log.sort();
        let expected = [line("stderr", "F", "err"), line("stdout", "F", "out"), line("stdout", "P", "begun")];
        assert_eq!(log, expected, "{:?}", f.runtime);
        let file = shim.dir().join("containers").join(&id).join("state.json");
        let stored: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!((&stored["phase"], &stored["exit"]["code"]), (&json!("exited"), &json!(7)));
        assert_eq!(shim.start_container(&id).await.unwrap_err().kind(), Some(ErrorKind::FailedPrecondition));
        shim.kill(&id, 15, false).await.unwrap();
        let last = shim.delete_container(&id, false).await.unwrap();
        assert_eq!(last.exit, Some(exit));
        assert!(!file.exists() && created.cgroups.values().all(|dir| !dir.exists()));
        assert!(shim.delete_container(&id, false).await.unwrap_err().is_not_found());
        shim.shutdown().await.unwrap();
        assert!(events.next().await.is_none());
        assert!(matches!(shim.state().await, Err(Error::Gone { .. })));
    }
}

#[tokio::test]
async fn programs_that_are_missing_are_named() {
    for f in fixtures() {
        let shim = f.start().await;
        let request = f.bundle("c", "", |s| s["process"]["args"] = json!(["nope"]));
        let error = match shim.create_container(request).await {
            Err(error) => error,
            Ok(_) => shim.start_container(&f.id("c")).await.unwrap_err(),
        };
        assert_eq!(error.kind(), Some(ErrorKind::Runtime));
        let text = error.to_string();
        assert!(text.contains("nope") && text.contains("executable file"), "{text}");
        if f.runtime.len() == 2 {
            let expected = "OCI runtime create failed: unable to start container process: \
                            exec: \"nope\": executable file not found in $PATH";
            assert_eq!(text, expected);
            assert!(shim.state().await.unwrap().containers.is_empty());
        }
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_container_is_seen_at_once() {
    for f in fixtures() {
        let shim = f.start().await;
        let (_, mut events) = shim.subscribe().await.unwrap();
        let script = "trap 'exit 4' TERM; echo ready; sleep 1000 & wait";
        for (name, signal, code) in [("a", 15, 4), ("b", 9, 137)] {
            let mut request = f.bundle(name, script, |_| {});
            request.stdin = true;
            let state = f.run(&shim, request).await;
            wait_for_log(&f, name, "ready").await;
            if signal == 9 {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(state.pid), nix::sys::signal::SIGKILL)
                    .unwrap();
            } else {
                shim.kill(&f.id(name), signal, false).await.unwrap();
            }
            let exit = exit_of(&mut events, &f.id(name)).await;
            assert_eq!((exit.code, exit.signal), (code, (signal == 9).then_some(9)));
        }
        shim.shutdown().await.unwrap();
    }
}

async fn wait_for_log(f: &Fixture, name: &str, wanted: &str) {
    let wait = async {
        while !f.log_text(name).contains(wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the log does not have it");
}

#[tokio::test]
async fn want_of_memory_is_told() {
    for f in fixtures() {
        let shim = f.start().await;
        let (_, mut events) = shim.subscribe().await.unwrap();
        let script = "head -c 300m /dev/zero | tail; exit 1";
        let request = f.bundle("c", script, |s| {
            s["linux"]["resources"]["memory"] = json!({"limit": 24 << 20, "swap": 24 << 20});
        });
        f.run(&shim, request).await;
        assert!(exit_of(&mut events, &f.id("c")).await.oom_killed, "{:?}", f.runtime);
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn commands_run_in_containers() {
    for f in fixtures() {
        let shim = f.start().await;
        f.run(&shim, f.bundle("c", "sleep 1000", |_| {})).await;
        let script = "read line; echo got $line; echo err >&2; exit 3";
        let mut session = shim.exec(exec_request(&f, "c", &["sh", "-c", script], false)).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(b"hello\n").await.unwrap();
        drop(stdin);
        assert_eq!(read_all(session.stdout.as_mut().unwrap()).await, "got hello\n");
        assert_eq!(read_all(session.stderr.as_mut().unwrap()).await, "err\n");
        assert_eq!(session.wait().await.unwrap().code, 3);
        assert_eq!(session.wait().await.unwrap().code, 3);
        let missing = shim.exec(exec_request(&f, "c", &["nope"], false)).await.unwrap_err().to_string();
        assert!(missing.contains("executable file"), "{missing}");
        // What nobody waits for any more is killed.
        let session = shim.exec(exec_request(&f, "c", &["sleep", "999"], false)).await.unwrap();
        let stat = format!("/proc/{}", session.pid);
        drop(session);
        let gone = async {
            while std::path::Path::new(&stat).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("the command lives on");
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn commands_run_to_their_end() {
    let Some(f) = fixture() else { return };
    let shim = f.start().await;
    f.run(&shim, f.bundle("c", "sleep 1000", |_| {})).await;
    let id = f.id("c");
    let run = |script: &'static str, limit: Option<u64>| {
        let shim = shim.clone();
        let id = id.clone();
        async move { shim.exec_sync(&id, process(&["sh", "-c", script]), limit.map(Duration::from_millis)).await }
    };
    let output = run("echo a; echo b >&2; exit 9", Some(60_000)).await.unwrap();
    assert_eq!((output.exit.code, &output.stdout[..], &output.stderr[..]), (9, &b"a\n"[..], &b"b\n"[..]));
    let output = run("head -c 20m /dev/zero", None).await.unwrap();
    assert_eq!((output.exit.code, output.stdout.len()), (0, shim::EXEC_SYNC_OUTPUT_LIMIT));
    let output = run("sleep 1000 & echo done", None).await.unwrap();
    assert_eq!(output.stdout, b"done\n", "a child that keeps the pipe open does not keep the caller");
    assert!(matches!(run("sleep 1000", Some(50)).await, Err(Error::Timeout(_))));
    let both = tokio::join!(run("echo 1", None), run("echo 2", None));
    assert_eq!((both.0.unwrap().stdout, both.1.unwrap().stdout), (b"1\n".to_vec(), b"2\n".to_vec()));
    let error = shim.exec_sync("nope", process(&["true"]), None).await.unwrap_err();
    assert!(error.is_not_found());
    shim.shutdown().await.unwrap();
}

#[tokio::test]
async fn terminals_have_a_size_and_log() {
    for f in fixtures() {
        let shim = f.start().await;
        let (_, mut events) = shim.subscribe().await.unwrap();
        let script =
            "stty -echo; echo ready; read x; stty size; tty 2>/dev/null || readlink /proc/self/fd/0; exit 2";
        let mut request = f.bundle("c", script, |s| s["process"]["terminal"] = json!(true));
        request.stdin = true;
        f.run(&shim, request).await;
        let wanted = AttachRequest { container_id: f.id("c"), stdin: true, stdout: true, stderr: true };
        let mut session = shim.attach(wanted).await.unwrap();
        assert!(session.tty && session.stderr.is_none());
        wait_for_log(&f, "c", "ready").await;
        shim.resize(&f.id("c"), TerminalSize { width: 123, height: 45 }).await.unwrap();
        session.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
        read_until(session.stdout.as_mut().unwrap(), "45 123").await;
        assert_eq!(exit_of(&mut events, &f.id("c")).await.code, 2);
        let log = std::fs::read_to_string(f.path("c.log")).unwrap();
        assert!(log.contains(" stdout F 45 123\r\n"), "{log:?}");
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn commands_have_terminals() {
    for f in fixtures() {
        let shim = f.start().await;
        f.run(&shim, f.bundle("c", "sleep 1000", |_| {})).await;
        let script = "stty -echo; echo ready; read x; stty size; exit 6";
        let mut session = shim.exec(exec_request(&f, "c", &["sh", "-c", script], true)).await.unwrap();
        let mut stdout = session.stdout.take().unwrap();
        read_until(&mut stdout, "ready").await;
        session.resize(TerminalSize { width: 99, height: 11 }).unwrap();
        session.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
        assert!(read_all(&mut stdout).await.contains("11 99"));
        assert_eq!(session.wait().await.unwrap().code, 6);
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn several_clients_attach() {
    let Some(f) = fixture() else { return };
    let shim = f.start().await;
    let (_, mut events) = shim.subscribe().await.unwrap();
    let mut request = f.bundle("c", "while read x; do echo got $x; echo err $x >&2; done; echo end", |_| {});
    (request.stdin, request.stdin_once) = (true, true);
    f.run(&shim, request).await;
    let wanted = |stdin| AttachRequest { container_id: f.id("c"), stdin, stdout: true, stderr: true };
    let mut writer = shim.attach(wanted(true)).await.unwrap();
    let mut reader = shim.attach(wanted(false)).await.unwrap();
    writer.stdin.as_mut().unwrap().write_all(b"one\n").await.unwrap();
    for session in [&mut writer, &mut reader] {
        assert_eq!(read_until(session.stdout.as_mut().unwrap(), "one\n").await, "got one\n");
        assert_eq!(read_until(session.stderr.as_mut().unwrap(), "one\n").await, "err one\n");
    }
    // The first session with standard input is the last: its end is the input's.
    drop(writer);
    assert_eq!(read_all(reader.stdout.as_mut().unwrap()).await, "end\n");
    assert_eq!(exit_of(&mut events, &f.id("c")).await.code, 0);
    assert_eq!(f.log_text("c").matches("one").count(), 2);
    shim.shutdown().await.unwrap();
}

#[tokio::test]
async fn standard_input_stays_open_unless_it_is_closed() {
    let Some(f) = fixture() else { return };
    let shim = f.start().await;
    let (_, mut events) = shim.subscribe().await.unwrap();
    let mut request = f.bundle("c", "cat", |_| {});
    request.stdin = true;
    f.run(&shim, request).await;
    for text in ["a", "b"] {
        let wanted = AttachRequest { container_id: f.id("c"), stdin: true, stdout: true, stderr: false };
        let mut session = shim.attach(wanted).await.unwrap();
        session.stdin.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
        assert_eq!(read_until(session.stdout.as_mut().unwrap(), text).await, text);
    }
    shim.close_stdin(&f.id("c")).await.unwrap();
    assert_eq!(exit_of(&mut events, &f.id("c")).await.code, 0);
    assert_eq!(f.log("c"), [("stdout".to_owned(), "P".to_owned(), "ab".to_owned())]);
    shim.shutdown().await.unwrap();
}

#[tokio::test]
async fn logs_rotate_and_keep_everything() {
    let Some(f) = fixture() else { return };
    let shim = f.start().await;
    let (_, mut events) = shim.subscribe().await.unwrap();
    let mut request =
        f.bundle("c", "echo before; read x; echo after; head -c 40000 /dev/zero | tr '\\0' x", |_| {});
    request.stdin = true;
    std::os::unix::fs::symlink("busybox", request.bundle.join("rootfs/bin/tr")).unwrap();
    f.run(&shim, request).await;
    wait_for_log(&f, "c", "before").await;
    std::fs::rename(f.path("c.log"), f.path("c.log.1")).unwrap();
    shim.reopen_log(&f.id("c")).await.unwrap();
    shim.close_stdin(&f.id("c")).await.unwrap();
    exit_of(&mut events, &f.id("c")).await;
    let tags: Vec<(String, usize)> = f.log("c").into_iter().map(|(_, tag, text)| (tag, text.len())).collect();
    let piece = ("P".to_owned(), 16 << 10);
    assert_eq!(tags, [("F".to_owned(), 5), piece.clone(), piece, ("P".to_owned(), 40_000 - (32 << 10))]);
    shim.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_slow_client_holds_the_container_up_and_loses_nothing() {
    let Some(f) = fixture() else { return };
    let shim = f.start().await;
    let (_, mut events) = shim.subscribe().await.unwrap();
    let mut request = f.bundle("c", "read x; head -c 3m /dev/zero", |_| {});
    (request.stdin, request.log_path) = (true, None);
    f.run(&shim, request).await;
    let wanted = AttachRequest { container_id: f.id("c"), stdin: true, stdout: true, stderr: false };
    let mut session = shim.attach(wanted).await.unwrap();
    session.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    let mut bytes = Vec::new();
    let read = session.stdout.as_mut().unwrap().read_to_end(&mut bytes);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    assert_eq!(bytes.len(), 3 << 20);
    assert_eq!(exit_of(&mut events, &f.id("c")).await.code, 0);
    shim.shutdown().await.unwrap();
}

#[tokio::test]
async fn namespaces_are_the_pods() {
    for f in fixtures() {
        let mut config = f.config();
        config.shared_pid = true;
        config.sysctls = [("kernel.shmmax".to_owned(), "54321".to_owned())].into();
        let shim = f.start_with(&config).await;
        let (state, mut events) = shim.subscribe().await.unwrap();
        let path = |path: &Option<std::path::PathBuf>| json!(path.as_ref().unwrap());
        let join = |s: &mut Value| {
            s["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"},
                {"type": "pid", "path": path(&state.pid_ns)}, {"type": "ipc", "path": path(&state.ipc_ns)},
                {"type": "uts", "path": path(&state.uts_ns)}]);
        };
        f.run(&shim, f.bundle("a", "sleep 1234", join)).await;
        let script =
            "hostname; cat /proc/sys/kernel/shmmax; ps | grep -c '[s]leep 1234'; ls /proc/1/root/ | wc -l";
        f.run(&shim, f.bundle("b", script, join)).await;
        exit_of(&mut events, &f.id("b")).await;
        let lines: Vec<(String, String)> = f.log("b").into_iter().map(|(s, _, t)| (s, t)).collect();
        let out: Vec<&str> = lines.iter().filter(|(s, _)| s == "stdout").map(|(_, t)| t.as_str()).collect();
        assert_eq!(out, ["pod", "54321", "1", "0"], "{:?}", f.runtime);
        // The namespace's first process is the sandbox: without it nothing runs.
        let pid_ns = state.pid_ns.unwrap();
        let init: i32 = pid_ns.iter().nth(2).unwrap().to_str().unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::SIGKILL).unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.push(match tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap() {
                Event::ContainerExited { exit, .. } => format!("exit {}", exit.code),
                Event::SandboxDown { .. } => "down".to_owned(),
            });
        }
        seen.sort();
        assert_eq!(seen, ["down", "exit 137"]);
        assert!(!shim.state().await.unwrap().ready);
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_shim_outlives_its_client_and_is_found_again() {
    let Some(f) = fixture() else { return };
    let shim = f.start().await;
    let pid = shim.state().await.unwrap().shim_pid;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    assert_ne!(fields[1], std::process::id().to_string(), "nobody's child");
    assert_ne!(fields[3], nix::unistd::getsid(None).unwrap().to_string(), "a session of its own");
    let mut request = f.bundle("c", "read x; exit 5", |_| {});
    request.stdin = true;
    f.run(&shim, request).await;
    drop(shim);
    let found = shim::scan(f.shim_dir().parent().unwrap()).unwrap();
    assert_eq!(found, [f.shim_dir()]);
    let shim = Shim::connect(&found[0]).await.unwrap();
    let (state, mut events) = shim.subscribe().await.unwrap();
    assert_eq!(state.containers[&f.id("c")].phase, ContainerPhase::Running);
    shim.close_stdin(&f.id("c")).await.unwrap();
    assert_eq!(exit_of(&mut events, &f.id("c")).await.code, 5);
    drop((shim, events));
    // The exit is there for whoever comes later.
    let shim = Shim::connect(&found[0]).await.unwrap();
    let state = shim.state().await.unwrap();
    assert_eq!(state.containers[&f.id("c")].exit.as_ref().unwrap().code, 5);
    assert!(matches!(shim::clean_up_dead(&found[0]).await, Err(Error::Protocol(_))));
    shim.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_a_killed_shim_leaves_is_cleaned_up() {
    for mut f in fixtures() {
        if f.runtime.len() == 2 {
            // The client is no part of the one binary here.
            f.runtime[0] = support::program();
        }
        let shim = f.start().await;
        let (state, mut events) = shim.subscribe().await.unwrap();
        f.run(&shim, f.bundle("done", "exit 3", |_| {})).await;
        exit_of(&mut events, &f.id("done")).await;
        let running = f.run(&shim, f.bundle("runs", "sleep 1000", |_| {})).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(state.shim_pid), nix::sys::signal::SIGKILL)
            .unwrap();
        assert!(tokio::time::timeout(PATIENCE, events.next()).await.unwrap().is_none());
        assert!(Shim::connect(shim.dir()).await.unwrap_err().is_gone());
        let left = shim::clean_up_dead(shim.dir()).await.unwrap();
        let codes: Vec<(String, i32)> =
            left.iter().map(|c| (c.container.id.clone(), c.exit.as_ref().unwrap().code)).collect();
        assert!(codes.contains(&(f.id("done"), 3)) && codes.contains(&(f.id("runs"), 255)), "{codes:?}");
        assert!(!std::path::Path::new(&format!("/proc/{}/exe", running.pid)).exists());
        assert!(running.cgroups.values().all(|dir| !dir.exists()), "{:?}", f.runtime);
        shim::clean_up_dead(shim.dir()).await.unwrap();
    }
}

#[tokio::test]
async fn shutdown_ends_everything() {
    for f in fixtures() {
        let shim = f.start().await;
        let a = f.run(&shim, f.bundle("a", "sleep 1000", |_| {})).await;
        let b = shim.create_container(f.bundle("b", "sleep 1000", |_| {})).await.unwrap();
        shim.shutdown().await.unwrap();
        for state in [a, b] {
            assert!(state.cgroups.values().all(|dir| !dir.exists()), "{:?}", f.runtime);
        }
        shim.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_shim_that_cannot_start_says_why() {
    let Some(f) = fixture() else { return };
    let mut config = f.config();
    config.sysctls = [("kernel.no_such_thing".to_owned(), "1".to_owned())].into();
    let program = [support::program(), "shim".to_owned()];
    let error = Shim::start(&program, &f.shim_dir(), &config).await.unwrap_err().to_string();
    assert!(error.starts_with("start shim: set sysctl kernel.no_such_thing"), "{error}");
    assert!(Shim::connect(&f.shim_dir()).await.unwrap_err().is_gone());
}

#[tokio::test]
async fn limits_are_updated() {
    for f in fixtures() {
        let shim = f.start().await;
        let state = f.run(&shim, f.bundle("c", "sleep 1000", |_| {})).await;
        shim.update_container(&f.id("c"), json!({"pids": {"limit": 44}})).await.unwrap();
        let dir = state.cgroups.get("pids").or_else(|| state.cgroups.get("")).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("pids.max")).unwrap().trim(), "44");
        shim.shutdown().await.unwrap();
    }
}
