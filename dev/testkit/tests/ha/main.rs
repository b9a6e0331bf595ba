//! Control planes of several machines: what goes on when one of them dies or is cut off while a deployment rolls.

#![allow(clippy::unwrap_used)] // a story ends at the first thing that goes wrong

mod servers;
mod writes;

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use servers::Server;
use testkit::{Lan, Output, busybox, can_run, wait_until};
use writes::Writes;

const IMAGE: &str = "example.local/sleep:v1";
const REPLICAS: usize = 4;

/// A deployment of pods that end at once, in its `version`.
fn deployment(version: &str) -> serde_json::Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": REPLICAS, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "c", "image": IMAGE, "env": [{"name": "VERSION", "value": version}]}],
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": {"app": "web"}},
                    }],
                },
            },
        },
    })
}

/// Waits until all of `version` run, and nothing else.
fn rolled_out(server: &Server, version: &str) {
    let all = |text: &str| {
        let versions: Vec<&str> = text.split_whitespace().collect();
        versions.len() == REPLICAS && versions.iter().all(|one| *one == version)
    };
    server.until("get pods -l app=web -o jsonpath={.items[*].spec.containers[0].env[0].value}", all);
    let ready = REPLICAS.to_string();
    server.until("get deployment web -o jsonpath={.status.readyReplicas}", |text| text == ready);
    server.until("get deployment web -o jsonpath={.status.updatedReplicas}", |text| text == ready);
}

/// Scales a deployment of no consequence and waits until the controllers have done something about it.
fn controllers_act(server: &Server, name: &str) {
    wait_until("a deployment is made", || {
        let output = server.kubectl(&["create", "deployment", name, "--image=none", "--replicas=0"]);
        if output.status.success() || output.stderr.contains("AlreadyExists") {
            Ok(())
        } else {
            Err(output.stderr)
        }
    });
    server.until(&format!("get replicasets -l app={name} -o name"), |text| !text.is_empty());
}

/// Each pod is reached from one of them by its address, and the service by its name from each of them.
fn pods_reach_each_other(server: &Server) {
    let names = server.k("get pods -l app=web -o jsonpath={.items[*].metadata.name}");
    let addresses = server.k("get pods -l app=web -o jsonpath={.items[*].status.podIP}");
    let first = names.split(' ').next().unwrap();
    let by_address = addresses.split(' ').map(|address| (first, format!("{address}:8080")));
    let by_name = names.split(' ').map(|name| (name, "web.default.svc.cluster.local".to_owned()));
    for (pod, target) in by_address.chain(by_name) {
        let url = format!("http://{target}/");
        wait_until(&format!("{pod} reaches {url}"), || {
            let output = server.kubectl(&["exec", pod, "--", "wget", "-qO-", &url]);
            if output.stdout == "hello" { Ok(()) } else { Err(output.stdout + &output.stderr) }
        });
    }
}

fn endpoints(server: &Server, hosts: &[u8]) {
    let wanted: Vec<String> = hosts.iter().map(|host| format!("198.51.100.{host}")).collect();
    server.until("get endpointslice kubernetes -o jsonpath={.endpoints[*].addresses[0]}", |text| {
        text.split_whitespace().eq(wanted.iter().map(String::as_str))
    });
}

/// The arguments with which a machine joins, from what the first one prints.
fn join_words(server: &Server) -> Vec<String> {
    let line = server.corten(&["token", "create", "--control-plane", "--print-join-command"]).output().ok();
    line.split_whitespace().skip(2).map(str::to_owned).collect()
}

fn as_strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn etcdctl(server: &Server, words: &[&str]) -> Output {
    let (ca, certificate, key) = (
        server.file("pki/etcd/ca.crt"),
        server.file("pki/etcd/healthcheck-client.crt"),
        server.file("pki/etcd/healthcheck-client.key"),
    );
    let fixed = [
        "etcdctl",
        "--endpoints",
        "https://127.0.0.1:2379",
        "--cacert",
        &ca,
        "--cert",
        &certificate,
        "--key",
        &key,
    ];
    server.machine().run(&[&fixed, words].concat()).output()
}

/// Three servers whose deployment rolls twice: one is killed meanwhile with its member, then the machine of another is
/// cut off. Both come back.
fn faults(lan: &Lan, one: &mut Server, two: &Arc<Server>, three: &Arc<Server>) {
    let command = ["/bin/httpd", "-f", "-p", "8080", "-h", "/www"];
    let image = busybox(&one.folder(), IMAGE, &[("www/index.html", "hello")], &command);
    for server in [&*one, two, three] {
        server.import(&image);
    }
    one.apply(&deployment("v1"));
    rolled_out(two, "v1");
    one.k("expose deployment web --port 80 --target-port 8080");
    pods_reach_each_other(two);
    endpoints(three, &[10, 11, 12]);
    let writes = Writes::start(&[two.clone(), three.clone()]);

    println!("a server with its member is killed, while the deployment rolls");
    two.apply(&deployment("v2"));
    one.kill();
    let killed = Instant::now();
    wait_until("a survivor takes writes", || {
        let output = two.kubectl(&["create", "configmap", "after-death"]);
        if output.status.success() || output.stderr.contains("exists") { Ok(()) } else { Err(output.stderr) }
    });
    println!("writes go on after {:?}", killed.elapsed());
    controllers_act(three, "after-death");
    println!("controllers go on after {:?}", killed.elapsed());
    endpoints(three, &[11, 12]);
    println!("the endpoints follow after {:?}", killed.elapsed());
    one.start_again();
    one.ready();
    rolled_out(one, "v2");
    endpoints(one, &[10, 11, 12]);

    println!("a machine is cut off, while the deployment rolls");
    lan.cut(11);
    let cut = Instant::now();
    wait_until("the others take writes", || {
        let output = one.kubectl(&["create", "configmap", "after-cut"]);
        if output.status.success() || output.stderr.contains("exists") { Ok(()) } else { Err(output.stderr) }
    });
    println!("writes go on after {:?}", cut.elapsed());
    one.apply(&deployment("v3"));
    controllers_act(three, "after-cut");
    println!("controllers go on after {:?}", cut.elapsed());
    let alone = two.kubectl(&["create", "configmap", "from-alone"]);
    assert!(!alone.status.success(), "a machine alone takes no writes");
    endpoints(three, &[10, 12]);
    lan.heal(11);
    rolled_out(two, "v3");
    endpoints(two, &[10, 11, 12]);

    let answered = writes.stop();
    let kept = one.k("get configmaps -o name");
    for name in &answered {
        assert!(
            kept.lines().any(|line| line == format!("configmap/{name}")),
            "{name} was answered and is gone"
        );
    }
    println!("{} writes were answered", answered.len());
    assert!(answered.len() > 5, "{answered:?}");
    let sets = one.k("get replicasets -l app=web -o name");
    assert_eq!(sets.lines().count(), 3, "one for each version:\n{sets}");
}

#[test]
fn servers_with_members_of_their_own_outlive_one_of_them() {
    if !can_run() {
        return;
    }
    if testkit::find_program("etcdctl").is_none() {
        return println!("skipped, needs etcd-client");
    }
    let lan = Arc::new(Lan::new());
    let started = Instant::now();
    let [mut one, mut two, mut three] = [10, 11, 12].map(|host| Server::new(&lan, host));
    one.start(&[]);
    one.ready();
    one.k("create configmap from-before");
    one.kill();
    println!("the only server becomes the first of several");
    one.start(&["--cluster-init"]);
    one.ready();
    one.k("get configmap from-before");
    println!("the first server is ready after {:?}", started.elapsed());
    let join = join_words(&one);
    join_with_a_crash(&one, &mut two, &join);
    three.start(&as_strs(&join));
    three.ready();
    println!("three servers are ready after {:?}", started.elapsed());
    let (two, three) = (Arc::new(two), Arc::new(three));
    faults(&lan, &mut one, &two, &three);
    replaced(&lan, &one, &two, three);
    println!("the whole story took {:?}", started.elapsed());
}

#[test]
fn servers_on_an_etcd_of_debian_outlive_one_of_them() {
    if !can_run() {
        return;
    }
    if testkit::find_program("etcd").is_none() {
        return println!("skipped, needs etcd-server");
    }
    let lan = Arc::new(Lan::new());
    let started = Instant::now();
    let [mut one, mut two, mut three] = [10, 11, 12].map(|host| Server::new(&lan, host));
    let hosts = [10, 11, 12];
    for server in [&mut one, &mut two, &mut three] {
        server.start_etcd(&hosts);
    }
    let urls = hosts.map(|host| format!("http://198.51.100.{host}:2379")).join(",");
    one.start(&["--etcd-servers", &urls]);
    one.ready();
    let mut join = join_words(&one);
    join.extend(["--etcd-servers".to_owned(), urls]);
    for server in [&mut two, &mut three] {
        server.start(&as_strs(&join));
        server.ready();
    }
    println!("three servers are ready after {:?}", started.elapsed());
    let (two, three) = (Arc::new(two), Arc::new(three));
    faults(&lan, &mut one, &two, &three);
    println!("the whole story took {:?}", started.elapsed());
}

/// A machine joins, dies in the middle of it, and joins by the same command.
fn join_with_a_crash(first: &Server, server: &mut Server, join: &[String]) {
    server.start(&as_strs(join));
    wait_until("the member is added", || {
        let list = etcdctl(first, &["member", "list"]);
        if list.stdout.lines().count() == 2 { Ok(()) } else { Err(list.stdout + &list.stderr) }
    });
    server.kill();
    server.start(&as_strs(join));
    server.ready();
}

/// A machine dies for good: its member is removed, and another one takes its place.
fn replaced(lan: &Arc<Lan>, one: &Server, two: &Server, dead: Arc<Server>) {
    let dead = Arc::into_inner(dead).expect("nobody else has it");
    let node = dead.node();
    drop(dead);
    let list = etcdctl(one, &["member", "list"]).ok();
    let line = list.lines().find(|line| line.contains(&node)).unwrap();
    let id = line.split(',').next().unwrap();
    wait_until("the dead member is removed", || {
        let output = etcdctl(one, &["member", "remove", id]);
        if output.status.success() { Ok(()) } else { Err(output.stderr) }
    });
    one.k(&format!("delete node {node}"));
    let mut four = Server::new(lan, 13);
    four.start(&as_strs(&join_words(one)));
    four.ready();
    endpoints(two, &[10, 11, 13]);
    let members = etcdctl(&four, &["member", "list"]).ok();
    assert_eq!(members.lines().filter(|line| line.contains("started")).count(), 3, "{members}");
}
