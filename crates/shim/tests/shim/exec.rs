//! Commands in containers.

use std::time::Duration;

use serde_json::json;
use shim::{Error, ExecRequest, TerminalSize};
use tokio::io::AsyncWriteExt;

use crate::support::{Fixture, PATIENCE, fixture, fixtures, process, read_all, read_until};

fn exec_request(f: &Fixture, id: &str, args: &[&str], tty: bool) -> ExecRequest {
    let mut process = process(args);
    process["terminal"] = json!(tty);
    ExecRequest { container_id: f.id(id), process, stdin: true, stdout: true, stderr: !tty, tty }
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
