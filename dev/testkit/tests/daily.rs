//! What a user does day by day: look in by terminal, edit, roll, run jobs, drain a node; and clusters side by side.

#![allow(clippy::unwrap_used)] // a story ends at the first thing that goes wrong

use serde_json::json;
use testkit::{Cluster, busybox, can_run, wait_until};

const IMAGE: &str = "example.local/tool:v1";

#[test]
fn a_users_day() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    for tag in ["v1", "v2"] {
        let name = format!("example.local/tool:{tag}");
        cluster.import(&busybox(cluster.folder(), &name, &[], &["/bin/sleep", "100000"]));
    }
    piped_and_typed(&cluster);
    look_in(&cluster);
    debug(&cluster);
    edit_and_roll(&cluster);
    jobs(&cluster);
    questions(&cluster);
    static_pod(&cluster);
    drain(&cluster);
    side_by_side(&cluster);
}

/// Input reaches a container and its end ends it; a terminal is one.
fn piped_and_typed(cluster: &Cluster) {
    let words = ["run", "piped", "--image", IMAGE, "--restart=Never", "--rm", "-i", "-q", "--", "cat"];
    assert_eq!(cluster.kubectl(&words).input("carried\n").output().ok(), "carried");
    let line = format!("run typed --image={IMAGE} --restart=Never --rm -it -- sh");
    if let Some(said) = cluster.typed(&line, &["tty; echo sum=$((40+2))", "exit"]) {
        assert!(said.stdout.contains("/dev/pts/") && said.stdout.contains("sum=42"), "{said:?}");
    }
}

fn look_in(cluster: &Cluster) {
    let script = "i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.2; done";
    let words = ["run", "ticker", "--image", IMAGE, "--restart=Never", "--", "sh", "-c", script];
    cluster.kubectl(&words).output().ok();
    cluster.k("wait --for=condition=Ready pod/ticker --timeout=30s");
    if let Some(said) = cluster.typed("exec -it ticker -- sh -c 'tty; exit 3'", &[]) {
        assert!(said.stdout.contains("/dev/pts/"), "{said:?}");
        assert_eq!(said.status.code(), Some(3), "{said:?}");
    }
    let attached = cluster.machine().run(&[
        "timeout",
        "2",
        "kubectl",
        "--kubeconfig",
        &cluster.data_dir().join("kubeconfig").to_string_lossy(),
        "attach",
        "ticker",
    ]);
    let seen = attached.env("HOME", cluster.folder()).output().stdout;
    assert!(seen.lines().filter(|line| line.starts_with("tick ")).count() > 2, "{seen}");
    let last = cluster.k("logs ticker --tail=1");
    assert!(last.starts_with("tick ") && last.lines().count() == 1, "{last}");
    let told = cluster.k("run told --image=example.local/tool:v1 --restart=Always -- sh -c exit");
    assert_eq!(told, "pod/told created");
    cluster
        .kubectl(&["run", "failing", "--image", IMAGE, "--", "sh", "-c", "echo once; exit 3"])
        .output()
        .ok();
    wait_until("the container runs again", || {
        let line = "get pod failing -o jsonpath={.status.containerStatuses[0].restartCount}";
        let count = cluster.k(line);
        if count.parse::<u32>().is_ok_and(|count| count > 0) { Ok(()) } else { Err(count) }
    });
    assert_eq!(cluster.k("logs failing --previous"), "once");
    cluster.k("delete pod told failing --grace-period=0 --force");
}

/// An ephemeral container sees the processes of the one it is for.
fn debug(cluster: &Cluster) {
    let words = ["debug", "ticker", "--image", IMAGE, "--attach=false", "--target=ticker", "-c", "look"];
    cluster.kubectl(&[&words[..], &["--", "ps"]].concat()).output().ok();
    wait_until("the ephemeral container has run", || {
        let log = cluster.kubectl(&["logs", "ticker", "-c", "look"]).output().stdout;
        if log.contains("echo tick") { Ok(()) } else { Err(log) }
    });
    // A copy of a pod with another container that sees its processes.
    let copy = ["debug", "ticker", "--copy-to=copied", "--share-processes", "--attach=false", "-c", "look"];
    let copy = [&copy[..], &["--image", IMAGE, "--", "sleep", "1000"]].concat();
    cluster.kubectl(&copy).output().ok();
    cluster.k("wait --for=condition=Ready pod/copied --timeout=30s");
    assert!(cluster.k("exec copied -c look -- ps").contains("echo tick"));
    // A pod in the node's own namespaces, with its file system.
    let node = ["debug", "node/node-1", "--attach=false", "--image", IMAGE, "--", "ls", "/host/etc/hostname"];
    let said = cluster.kubectl(&node).output().ok();
    let said = said.split_whitespace().find(|word| word.starts_with("node-debugger-")).unwrap_or_default();
    wait_until("the node's file is seen", || {
        let log = cluster.kubectl(&["logs", said]).output();
        if log.stdout.trim() == "/host/etc/hostname" { Ok(()) } else { Err(log.stderr) }
    });
    // Files go in as well as out.
    let file = cluster.folder().join("carried");
    std::fs::write(&file, "carried").unwrap();
    cluster.kubectl(&["cp", &file.to_string_lossy(), "ticker:/tmp/carried"]).output().ok();
    assert_eq!(cluster.k("exec ticker -- cat /tmp/carried"), "carried");
    cluster.k(&format!("delete pod ticker copied {said} --grace-period=1"));
}

fn edit_and_roll(cluster: &Cluster) {
    cluster.k(&format!("create deployment tool --image={IMAGE} --replicas=1"));
    cluster.k("rollout status deployment tool --timeout=30s");
    let edit =
        cluster.kubectl(&["edit", "deployment", "tool"]).env("EDITOR", "sed -i s/replicas:.1/replicas:\\ 2/");
    assert_eq!(edit.output().ok(), "deployment.apps/tool edited");
    cluster.until("get deployment tool -o jsonpath={.spec.replicas}", "2");
    cluster.k("set image deployment/tool tool=example.local/tool:v2");
    cluster.k("rollout status deployment tool --timeout=30s");
    cluster.k("rollout pause deployment tool");
    cluster.k("set env deployment/tool COLOUR=red");
    cluster.k("set resources deployment/tool --limits=cpu=200m,memory=64Mi");
    cluster.k("rollout resume deployment tool");
    cluster.k("rollout status deployment tool --timeout=30s");
    let history = cluster.k("rollout history deployment tool");
    assert_eq!(history.lines().filter(|line| line.starts_with(['1', '2', '3'])).count(), 3, "{history}");
    let image = "get deployment tool -o jsonpath={.spec.template.spec.containers[0].image}";
    cluster.k("rollout undo deployment tool --to-revision=1");
    assert_eq!(cluster.k(image), IMAGE);
    cluster.k("rollout restart deployment tool");
    cluster.k("rollout status deployment tool --timeout=30s");
    let scaled = cluster.k("autoscale deployment tool --min=1 --max=3 --cpu-percent=50");
    assert!(scaled.contains("autoscaled"), "{scaled}");
    cluster.k("delete hpa tool");
}

fn jobs(cluster: &Cluster) {
    let schedule = "--schedule=0 0 1 1 *";
    let words = ["create", "cronjob", "yearly", "--image", IMAGE, schedule, "--", "echo", "done"];
    cluster.kubectl(&words).output().ok();
    cluster.k("create job now --from=cronjob/yearly");
    cluster.k("wait --for=condition=Complete job/now --timeout=30s");
    assert_eq!(cluster.k("logs job/now"), "done");
    cluster.k("delete cronjob yearly");
}

fn questions(cluster: &Cluster) {
    assert_eq!(cluster.k("auth can-i create pods"), "yes");
    let refused =
        cluster.kubectl(&["auth", "can-i", "list", "secrets", "--as=system:serviceaccount:default:default"]);
    assert_eq!(refused.output().stdout.trim(), "no");
    assert_eq!(cluster.k("get --raw /healthz"), "ok");
    let told = cluster.kubectl(&["top", "nodes"]).output().err();
    assert!(told.contains("Metrics API not available"), "{told}");
    assert!(cluster.k("explain pod.spec --recursive").contains("ephemeralContainers"));
    for kind in
        ["node", "deployment", "replicaset", "pod", "namespace", "service", "serviceaccount", "clusterrole"]
    {
        let described = cluster.k(&format!("describe {kind}"));
        assert!(described.contains("Name:"), "{kind}\n{described}");
    }
}

/// A manifest in the node's folder becomes a pod with a mirror in the API, and goes with the file.
fn static_pod(cluster: &Cluster) {
    let folder = cluster.data_dir().join("manifests");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("fixed.yaml");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fixed"},
        "spec": {"containers": [{"name": "c", "image": IMAGE, "command": ["sleep", "1000"]}], "terminationGracePeriodSeconds": 1},
    });
    std::fs::write(&file, pod.to_string()).unwrap();
    cluster.until("get pod fixed-node-1 -o jsonpath={.status.phase} --ignore-not-found", "Running");
    std::fs::remove_file(file).unwrap();
    cluster.until("get pod fixed-node-1 --ignore-not-found -o name", "");
}

fn drain(cluster: &Cluster) {
    cluster.k(
        "patch deployment tool -p {\"spec\":{\"template\":{\"spec\":{\"terminationGracePeriodSeconds\":1}}}}",
    );
    cluster.k("rollout status deployment tool --timeout=30s");
    cluster
        .k("drain node-1 --ignore-daemonsets --delete-emptydir-data --force --grace-period=1 --timeout=60s");
    let node = cluster.k("get node node-1 --no-headers");
    assert!(node.contains("Ready,SchedulingDisabled"), "{node}");
    wait_until("the waiting pod says why", || {
        let events = cluster.k("get events --field-selector reason=FailedScheduling");
        if events.contains("0/1 nodes are available: 1 node(s) were unschedulable.") {
            Ok(())
        } else {
            Err(events)
        }
    });
    cluster.k("uncordon node-1");
    cluster.k("rollout status deployment tool --timeout=30s");
}

/// A second cluster on the machine, with the same names of nodes and pods, is another one; it goes without a trace.
fn side_by_side(cluster: &Cluster) {
    let other = Cluster::beside(cluster);
    println!("{}", other.start().ok());
    let image = busybox(other.folder(), IMAGE, &[], &["/bin/sleep", "100000"]);
    other.import(&image);
    assert_eq!(other.k("get pods -o name"), "");
    other.k(&format!("create deployment tool --image={IMAGE}"));
    other.k("rollout status deployment tool --timeout=30s");
    let address = |cluster: &Cluster| cluster.k("get pods -l app=tool -o jsonpath={.items[0].status.podIP}");
    assert_ne!(address(cluster), address(&other));
    let status = cluster.corten(&["status"]).output().ok();
    assert!(status.contains(other.name()), "{status}");
    other.corten(&["down", "--delete"]).output().ok();
    cluster.k("rollout status deployment tool --timeout=30s");
    assert_eq!(cluster.k("get --raw /readyz"), "ok");
}
