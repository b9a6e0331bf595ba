//! A user's first session: deploy, expose, scale, roll, look inside, take down.

#![allow(clippy::unwrap_used)] // a story ends at the first thing that goes wrong

use serde_json::json;
use testkit::{Cluster, Registry, busybox, can_run, wait_until};

/// A web server that says which version it is and on which pod.
fn web(folder: &std::path::Path, tag: &str) -> testkit::Image {
    let page = format!(
        "#!/bin/sh\nmkdir -p /www && echo {tag} > /www/index.html && hostname > /www/name\nexec httpd -f -v -p 8080 -h /www\n"
    );
    busybox(folder, &format!("example.local/web:{tag}"), &[("serve", &page)], &["/bin/sh", "/serve"])
}

#[test]
fn a_first_session() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    let folder = cluster.folder().to_owned();
    deploy(&cluster, &folder);
    services(&cluster);
    look_inside(&cluster);
    roll(&cluster, &folder);
    pull(&cluster, &folder);
    objects(&cluster);
    down_and_up(&cluster);
}

fn deploy(cluster: &Cluster, folder: &std::path::Path) {
    assert_eq!(cluster.k("get nodes -o jsonpath={.items[*].metadata.name}"), "node-1");
    for tag in ["v1", "v2"] {
        let said = cluster.import(&web(folder, tag));
        assert!(said.contains(&format!("example.local/web:{tag}")), "{said}");
    }
    let listed = cluster.corten(&["image", "ls"]).output().ok();
    assert!(listed.contains("example.local/web:v1"), "{listed}");
    cluster.k("create deployment web --image=example.local/web:v1 --replicas=3");
    cluster.k("expose deployment web --port 80 --target-port 8080");
    let status = cluster.k("rollout status deployment web --timeout=60s");
    assert!(status.contains("successfully rolled out"), "{status}");
    let pods = cluster.k("get pods -l app=web --no-headers");
    assert_eq!(
        pods.lines().filter(|line| line.contains("1/1") && line.contains("Running")).count(),
        3,
        "{pods}"
    );
}

fn services(cluster: &Cluster) {
    let address = cluster.k("get service web -o jsonpath={.spec.clusterIP}");
    let url = format!("http://{address}/");
    wait_until("the service answers from the host", || {
        let output = cluster.machine().run(&["curl", "-sf", "--max-time", "2", &url]).output();
        if output.stdout.trim() == "v1" { Ok(()) } else { Err(format!("{output:?}")) }
    });
    let from_pod = cluster
        .k("run client --image=example.local/web:v1 --restart=Never --rm -i --quiet --command -- \
         wget -qO- http://web.default.svc.cluster.local/");
    assert_eq!(from_pod.trim(), "v1");
    let pod = cluster.k("get pods -l app=web -o jsonpath={.items[0].metadata.name}");
    let hairpin = cluster.k(&format!("exec {pod} -- wget -qO- http://web/"));
    assert_eq!(hairpin.trim(), "v1");
}

fn look_inside(cluster: &Cluster) {
    let pod = cluster.k("get pods -l app=web -o jsonpath={.items[0].metadata.name}");
    assert_eq!(cluster.k(&format!("exec {pod} -- cat /www/name")), pod);
    let failed = cluster.kubectl(&["exec", &pod, "--", "sh", "-c", "exit 7"]).output();
    assert_eq!(failed.status.code(), Some(7), "{failed:?}");
    let typed = cluster.kubectl(&["exec", "-i", &pod, "--", "cat"]).input("typed\n").output().ok();
    assert_eq!(typed, "typed");
    // httpd -v writes a line per request.
    wait_until("the log has the requests", || {
        let log = cluster.k(&format!("logs {pod}"));
        if log.contains("response:200") || !log.is_empty() { Ok(()) } else { Err(log) }
    });
    let copied = cluster.folder().join("copied");
    let target = copied.to_string_lossy().into_owned();
    cluster.kubectl(&["cp", &format!("{pod}:/www/name"), &target]).output().ok();
    assert_eq!(std::fs::read_to_string(copied).unwrap().trim(), pod);
    let described = cluster.k(&format!("describe pod {pod}"));
    for word in ["Successfully assigned", "Started", "example.local/web:v1"] {
        assert!(described.contains(word), "{described}");
    }
    port_forward(cluster, &pod);
}

fn port_forward(cluster: &Cluster, pod: &str) {
    let mut forward = cluster.kubectl(&["port-forward", &format!("pod/{pod}"), "18080:8080"]).spawn();
    wait_until("the forwarded port answers", || {
        let output =
            cluster.machine().run(&["curl", "-sf", "--max-time", "2", "http://127.0.0.1:18080/"]).output();
        if output.stdout.trim() == "v1" { Ok(()) } else { Err(format!("{output:?}")) }
    });
    forward.kill().unwrap();
    forward.wait().unwrap();
}

fn roll(cluster: &Cluster, folder: &std::path::Path) {
    let _ = folder;
    cluster.k("set image deployment/web web=example.local/web:v2");
    cluster.k("rollout status deployment web --timeout=60s");
    let images = cluster.k("get pods -l app=web --field-selector=status.phase=Running -o jsonpath={.items[*].spec.containers[0].image}");
    assert!(images.split(' ').any(|image| image == "example.local/web:v2"), "{images}");
    let address = cluster.k("get service web -o jsonpath={.spec.clusterIP}");
    let url = format!("http://{address}/");
    wait_until("the new version answers", || {
        let output = cluster.machine().run(&["curl", "-sf", "--max-time", "2", &url]).output();
        if output.stdout.trim() == "v2" { Ok(()) } else { Err(format!("{output:?}")) }
    });
    cluster.k("rollout undo deployment/web");
    cluster.k("rollout status deployment web --timeout=60s");
    cluster.k("scale deployment web --replicas=1");
    wait_until("one pod is left", || {
        let pods = cluster.k("get pods -l app=web --no-headers");
        if pods.lines().count() == 1 { Ok(()) } else { Err(pods) }
    });
}

fn pull(cluster: &Cluster, folder: &std::path::Path) {
    let Some(registry) = Registry::start(cluster.machine(), folder) else { return };
    let image = busybox(folder, "pulled:v1", &[("mark", "pulled")], &["/bin/sleep", "1000"]);
    registry.push(cluster.machine(), folder, &image, "team/pulled", "v1");
    let name = format!("{}/team/pulled:v1", registry.address);
    cluster.k(&format!("run pulled --image={name} --restart=Never"));
    cluster.k("wait --for=condition=Ready pod/pulled --timeout=60s");
    assert_eq!(cluster.k("exec pulled -- cat /mark"), "pulled");
    let id = cluster.k("get pod pulled -o jsonpath={.status.containerStatuses[0].imageID}");
    assert!(id.contains(&Registry::digest(&image)), "{id}");
    cluster.k(&format!("run absent --image={}/team/absent:v1 --restart=Never", registry.address));
    wait_until("the missing image is reported", || {
        let reason =
            cluster.k("get pod absent -o jsonpath={.status.containerStatuses[0].state.waiting.reason}");
        if reason == "ErrImagePull" || reason == "ImagePullBackOff" { Ok(()) } else { Err(reason) }
    });
    cluster.k("delete pod pulled absent --grace-period=1");
}

fn objects(cluster: &Cluster) {
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}});
    assert_eq!(cluster.apply(&manifest), "configmap/settings created");
    assert_eq!(cluster.apply(&manifest), "configmap/settings unchanged");
    let changed = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "2"}});
    let diff = cluster.kubectl(&["diff", "-f", "-"]).input(changed.to_string()).output();
    assert_eq!(diff.status.code(), Some(1), "{diff:?}");
    assert!(diff.stdout.contains("+  a: \"2\""), "{}", diff.stdout);
    let applied = cluster
        .kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"])
        .input(changed.to_string());
    assert_eq!(applied.output().ok(), "configmap/settings serverside-applied");
    cluster.k("label configmap settings tier=low");
    cluster.k("annotate configmap settings note=kept");
    cluster.k(r#"patch configmap settings --type=merge -p {"data":{"b":"3"}}"#);
    assert_eq!(
        cluster.k("get configmap settings -o jsonpath={.data.a}{.data.b}{.metadata.labels.tier}"),
        "23low"
    );
    let explained = cluster.k("explain deployment.spec.replicas");
    assert!(explained.contains("replicas"), "{explained}");
    assert!(cluster.k("api-resources").contains("deployments"));
    let job = cluster.k("create job once --image=example.local/web:v1 -- echo done");
    assert!(job.contains("created"), "{job}");
    cluster.k("wait --for=condition=Complete job/once --timeout=60s");
    assert_eq!(cluster.k("logs job/once"), "done");
    cluster.k("delete job once");
}

fn down_and_up(cluster: &Cluster) {
    cluster.corten(&["down"]).output().ok();
    let stopped = cluster.corten(&["status"]).output();
    assert!(stopped.stdout.contains("stopped"), "{stopped:?}");
    cluster.start().ok();
    assert_eq!(cluster.k("get configmap settings -o jsonpath={.data.a}"), "2");
    cluster.k("rollout status deployment web --timeout=60s");
    cluster.until("get pods -l app=web -o jsonpath={.items[*].status.phase}", "Running");
    let again = cluster.start().ok();
    assert!(again.contains("runs already"), "{again}");
}
