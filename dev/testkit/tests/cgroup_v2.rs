//! A node on cgroup v2 and Debian's kernel: pods keep to their limits, and leave nothing behind.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::vm::{Disk, Kernel, Vm};
use testkit::{busybox, can_run, corten_binary};

/// Emulated, everything takes some twenty times as long.
const LIMIT: Duration = Duration::from_secs(600);
const MIB: u64 = 1 << 20;

const STORY: &str = r#"
try preflight corten preflight
try up corten up --node-name vm
try import corten image import /images/busybox.tar
export KUBECONFIG=/var/lib/corten/kubeconfig
try apply kubectl apply -f /pods.json
try ready kubectl wait --for=condition=Ready pod/limited pod/burst --timeout=100s
uid=$(kubectl get pod limited -o 'jsonpath={.metadata.uid}')
pods=/sys/fs/cgroup/corten/kubepods
pod=$pods/pod$uid
try groups find $pods -type d
try pod.memory cat $pod/memory.max
try pod.cpu cat $pod/cpu.max
try pod.weight cat $pod/cpu.weight
id=$(kubectl get pod limited -o 'jsonpath={.status.containerStatuses[0].containerID}')
container=$(find $pod -type d -name "*${id#*://}*")
try memory cat $container/memory.max
try swap cat $container/memory.swap.max
try cpu cat $container/cpu.max
try pids cat $container/pids.max
try together cat $container/memory.oom.group
try inside kubectl exec limited -- sh -c 'cat /proc/self/cgroup; ls /sys/fs/cgroup'
try device kubectl exec limited -- sh -c 'mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk'
try null kubectl exec limited -- sh -c 'echo > /dev/null && head -c 4 /dev/urandom | wc -c'
try service kubectl exec burst -- wget -q -O - http://10.96.0.80/
try killed kubectl wait --for=jsonpath={.status.phase}=Failed pod/hungry --timeout=100s
try hungry kubectl get pod hungry -o json
try stats kubectl get --raw /api/v1/nodes/vm/proxy/stats/summary
try log tail -n 60 /var/lib/corten/log/server.log
try stop corten down
try left sh -c "find /sys/fs/cgroup/corten -type d 2>/dev/null"
try delete corten down --delete
try gone test ! -e /sys/fs/cgroup/corten
try mounts grep -c corten /proc/mounts
"#;

#[test]
fn pods_keep_to_their_limits_on_cgroup_v2() {
    if !can_run() {
        return;
    }
    let kernel = match Kernel::fetch(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(kernel) => kernel,
        Err(error) => return println!("skipped, no virtual machine: {error:#}"),
    };
    let folder = tempfile::Builder::new().prefix("corten-vm-").tempdir().expect("a folder");
    let disk = Disk::new(&kernel, folder.path()).unwrap();
    disk.add_program(&corten_binary(), "usr/bin/corten").unwrap();
    disk.add_program(&testkit::find_program("kubectl").unwrap(), "usr/bin/kubectl").unwrap();
    let image =
        busybox(folder.path(), "test.local/busybox:1", &[("index.html", "hello\n")], &["sleep", "3600"]);
    disk.add(&image.tar, "images/busybox.tar").unwrap();
    disk.write("pods.json", &objects().to_string()).unwrap();
    let mut vm = Vm::boot(&kernel, &disk, folder.path(), STORY, LIMIT).unwrap();

    starts(&mut vm);
    limits(&mut vm);
    isolation(&mut vm);
    out_of_memory(&mut vm);
    statistics(&mut vm);
    leaves_nothing(&mut vm);
}

fn objects() -> Value {
    let pod = |name: &str, command: &[&str], limits: Value, requests: Value| {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main",
                    "image": "test.local/busybox:1",
                    "command": command,
                    "resources": {"limits": limits, "requests": requests},
                }],
            },
        })
    };
    let serve = ["httpd", "-f", "-h", "/"];
    json!({"apiVersion": "v1", "kind": "List", "items": [
        pod("limited", &serve, json!({"cpu": "500m", "memory": "64Mi"}), json!({})),
        pod("burst", &["sleep", "3600"], json!({"memory": "64Mi"}), json!({"cpu": "100m", "memory": "32Mi"})),
        // The greedy process is not the container's first: the kernel is asked to end them all.
        pod("hungry", &["sh", "-c", "tail /dev/zero; sleep 3600"], json!({"memory": "24Mi"}), json!({})),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "limited"},
            "spec": {"clusterIP": "10.96.0.80", "selector": {"app": "limited"}, "ports": [{"port": 80}]},
        },
    ]})
}

fn starts(vm: &mut Vm) {
    let preflight = vm.ok("preflight");
    assert!(preflight.contains("version 2") && !preflight.contains("MISSING"), "{preflight}");
    vm.ok("up");
    assert_eq!(vm.ok("import"), "imported test.local/busybox:1");
    vm.ok("apply");
    vm.ok("ready");
}

fn limits(vm: &mut Vm) {
    let memory = (64 * MIB).to_string();
    assert_eq!(vm.ok("pod.memory"), memory);
    assert_eq!(vm.ok("pod.cpu"), "50000 100000");
    // 512 shares of version 1.
    assert_eq!(vm.ok("pod.weight"), "59");
    assert_eq!(vm.ok("memory"), memory);
    assert_eq!(vm.ok("cpu"), "50000 100000");
    assert_eq!(vm.ok("together"), "1");
    let swap = vm.finding("swap");
    assert!(swap.status != 0 || swap.text == "0", "swap beyond memory: {}", swap.text);
    let pids = vm.ok("pids");
    assert!(pids == "max" || pids.parse::<u64>().is_ok(), "{pids}");
}

fn isolation(vm: &mut Vm) {
    let inside = vm.ok("inside");
    assert!(inside.starts_with("0::/\n"), "a cgroup namespace of its own: {inside}");
    assert!(inside.contains("memory.max"), "its own cgroup is mounted: {inside}");
    let device = vm.finding("device");
    assert!(device.status != 0 && device.text.contains("not permitted"), "a disk was read: {}", device.text);
    assert_eq!(vm.ok("null"), "4");
    assert_eq!(vm.ok("service"), "hello");
}

fn out_of_memory(vm: &mut Vm) {
    vm.ok("killed");
    let pod: Value = serde_json::from_str(&vm.ok("hungry")).expect("kubectl prints JSON");
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{ended}");
}

fn statistics(vm: &mut Vm) {
    let summary: Value = serde_json::from_str(&vm.ok("stats")).expect("the kubelet answers JSON");
    let pods = summary["pods"].as_array().expect("pods");
    let limited = pods.iter().find(|pod| pod["podRef"]["name"] == "limited").expect("the pod has statistics");
    let working_set = limited["containers"][0]["memory"]["workingSetBytes"].as_u64().expect("a number");
    assert!((1..=64 * MIB).contains(&working_set), "{working_set}");
    let usage = limited["containers"][0]["cpu"]["usageCoreNanoSeconds"].as_u64();
    assert!(usage.is_some_and(|ns| ns > 0), "{usage:?}");
}

fn leaves_nothing(vm: &mut Vm) {
    vm.ok("stop");
    assert_eq!(vm.finding("left").text, "", "groups are left");
    vm.ok("delete");
    vm.ok("gone");
    assert_eq!(vm.finding("mounts").text, "0");
}
