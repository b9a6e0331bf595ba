//! Wrong use gets one clear sentence and a non-zero exit.

#![allow(clippy::unwrap_used)] // a story ends at the first thing that goes wrong

use testkit::{Cluster, Run, busybox, can_run, corten_binary, wait_until};

fn corten(words: &[&str]) -> String {
    let binary = corten_binary().to_string_lossy().into_owned();
    let said = Run::new(&[&[binary.as_str()], words].concat()).output().err();
    said.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn the_command_line_says_what_is_wrong() {
    if !can_run() {
        return;
    }
    assert!(corten(&["up", "--colour"]).contains("'--colour'"), "names the unknown flag");
    assert!(corten(&["kube-scheduler", "--nonsense"]).contains("'--nonsense'"));
    let name = corten(&["up", "--name", "No Name", "--data-dir", "/tmp/corten-none"]);
    assert!(name.contains("is no name for a cluster"), "{name}");
    let _ = std::fs::remove_dir_all("/tmp/corten-none");
    let absent = corten(&["down", "--name", "absent", "--data-dir", "/tmp/corten-absent"]);
    assert_eq!(absent, "error: there is no cluster absent in /tmp/corten-absent");
}

#[test]
fn what_stands_in_the_way_is_named() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new();
    taken_port(&cluster);
    other_version(&cluster);
    let broken = cluster.folder().join("broken.tar");
    std::fs::write(&broken, b"not a tar archive").unwrap();
    println!("{}", cluster.start().ok());
    let said = cluster.corten(&["image", "import", &broken.to_string_lossy()]).output().err();
    assert!(said.starts_with("error: ") && said.contains("broken.tar"), "{said}");
    impossible_mount(&cluster);
}

fn taken_port(cluster: &Cluster) {
    let mut holder = cluster.machine().run(&["busybox", "nc", "-l", "-p", "6443"]).spawn();
    wait_until("the port is taken", || {
        let listening = cluster.machine().run(&["cat", "/proc/net/tcp"]).output().stdout;
        let other = cluster.machine().run(&["cat", "/proc/net/tcp6"]).output().stdout;
        if listening.contains(":192B") || other.contains(":192B") { Ok(()) } else { Err(listening) }
    });
    let said = cluster.start().err();
    assert_eq!(said, "error: port 6443 is taken by another process; choose another with --secure-port");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

fn other_version(cluster: &Cluster) {
    let file = cluster.data_dir().join("cluster.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    let said = cluster.start().err();
    assert!(said.contains("has format 2, this version of corten reads format 1"), "{said}");
    std::fs::write(&file, text).unwrap();
}

fn impossible_mount(cluster: &Cluster) {
    let image = busybox(cluster.folder(), "example.local/sleep:v1", &[], &["/bin/sleep", "1000"]);
    cluster.import(&image);
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stuck"},
        "spec": {
            "containers": [{"name": "c", "image": "example.local/sleep:v1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "hostPath": {"path": "/nowhere/at/all", "type": "Directory"}}],
        },
    });
    cluster.apply(&pod);
    wait_until("the mount's failure is told", || {
        let events = cluster.k("get events --field-selector involvedObject.name=stuck");
        if events.contains("FailedMount") && events.contains("/nowhere/at/all") {
            Ok(())
        } else {
            Err(events)
        }
    });
}

/// A disk that can be filled: the data directory is a small file system of its own.
#[test]
fn a_full_disk_is_said_and_survived() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new();
    let data = cluster.data_dir();
    std::fs::create_dir_all(&data).unwrap();
    let target = data.to_string_lossy().into_owned();
    Run::new(&["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", &target]).output().ok();
    println!("{}", cluster.start().ok());
    let image = busybox(cluster.folder(), "example.local/sleep:v1", &[], &["/bin/sleep", "1000"]);
    let content = cluster.folder().join("content");
    std::fs::write(&content, "x".repeat(700_000)).unwrap();
    let argument = format!("--from-file=a={}", content.display());
    let filler = data.join("filler");
    let full =
        std::io::copy(&mut std::io::repeat(0), &mut std::fs::File::create(&filler).unwrap()).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(28), "{full}");
    let said = cluster.corten(&["image", "import", &image.tar.to_string_lossy()]).output().err();
    assert!(said.starts_with("error: ") && said.contains("No space left on device"), "{said}");
    // The store has some room set aside; then it refuses, and says why.
    let refusal = (0..60).find_map(|number| {
        let output = cluster.kubectl(&["create", "configmap", &format!("big-{number}"), &argument]).output();
        (!output.status.success()).then_some(output.stderr)
    });
    let refusal = refusal.expect("a full disk refuses writes");
    assert!(refusal.contains("no space left"), "{refusal}");
    assert!(cluster.k("get configmaps -o name").contains("configmap/big-0"), "reading goes on");
    std::fs::remove_file(filler).unwrap();
    wait_until("writes are taken again", || {
        let output = cluster.kubectl(&["create", "configmap", "after"]).output();
        if output.status.success() { Ok(()) } else { Err(output.stderr) }
    });
    cluster.import(&image);
}
