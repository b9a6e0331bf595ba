//! Logs, attached sessions and terminals.

use serde_json::json;
use shim::{AttachRequest, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{PATIENCE, exit_of, fixture, fixtures, read_all, read_until, wait_for_log};

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
