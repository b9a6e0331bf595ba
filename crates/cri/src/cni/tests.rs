//! The runner with plugins that write down what they were given.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// Writes its input and environment to a log, and prints the file `NAME.out` beside itself.
const PLUGIN: &str = r#"#!/bin/sh
me=$(basename "$0"); dir=$(dirname "$0")
echo "$me $CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS" >> "$dir/log"
cat >> "$dir/log"; echo >> "$dir/log"
if [ "$CNI_COMMAND" = ADD ] && [ -f "$dir/$me.out" ]; then cat "$dir/$me.out"; fi
if [ -f "$dir/$me.fail" ]; then cat "$dir/$me.fail"; exit 1; fi
"#;

struct Fixture {
    dir: tempfile::TempDir,
    cni: Cni,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["conf", "bin"] {
            fs::create_dir(path(name)).unwrap();
        }
        for name in ["first", "second"] {
            let file = path("bin").join(name);
            fs::write(&file, PLUGIN).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let conf = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
            {"type": "first", "ipam": {"a": 1}},
            {"type": "second", "capabilities": {"portMappings": true, "bandwidth": false}},
        ]});
        fs::write(path("conf").join("10-pods.conflist"), conf.to_string()).unwrap();
        let result =
            json!({"cniVersion": "1.0.0", "ips": [{"address": "fd00::2/64"}, {"address": "10.1.2.3/24"}]});
        fs::write(path("bin").join("first.out"), result.to_string()).unwrap();
        let config = CniConfig { conf_dir: path("conf"), bin_dirs: vec![path("bin")], template: None };
        let cni = Cni::new(config, path("cache")).unwrap();
        Self { cni, dir }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("bin/log")).unwrap_or_default()
    }

    fn pod(&self) -> Attachment<'static> {
        Attachment {
            sandbox_id: "sb1",
            netns: Some(Path::new("/run/ns")),
            pod_name: "web",
            pod_namespace: "default",
            pod_uid: "u1",
            capabilities: Map::from_iter([
                ("portMappings".to_owned(), json!([{"hostPort": 80}])),
                ("bandwidth".to_owned(), json!({"ingressRate": 1})),
            ]),
        }
    }
}

#[tokio::test]
async fn plugins_are_chained_and_undone_in_reverse() {
    let fixture = Fixture::new();
    fixture.cni.ready().unwrap();
    let result = fixture.cni.add(&fixture.pod()).await.unwrap();
    assert_eq!(result.ips, ["10.1.2.3", "fd00::2"]);
    let log = fixture.log();
    assert!(
        log.contains("first ADD sb1 /run/ns eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web")
    );
    let second: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(second["prevResult"]["ips"][1]["address"], "10.1.2.3/24");
    assert_eq!(second["runtimeConfig"], json!({"portMappings": [{"hostPort": 80}]}));
    assert_eq!(second["name"], "pods");
    assert!(second.get("capabilities").is_none());

    // The configuration may be gone by the time the pod ends.
    fs::remove_file(fixture.dir.path().join("conf/10-pods.conflist")).unwrap();
    fs::remove_file(fixture.dir.path().join("bin/log")).unwrap();
    fixture.cni.del(&Attachment { netns: None, ..fixture.pod() }).await.unwrap();
    let log = fixture.log();
    let calls: Vec<&str> = log.lines().filter(|l| l.contains(" DEL ")).map(|l| &l[..12]).collect();
    assert!(calls[0].starts_with("second DEL") && calls[1].starts_with("first DEL"), "{log}");
    assert!(log.contains("prevResult"));
    fixture.cni.del(&fixture.pod()).await.unwrap();
    assert_eq!(log, fixture.log(), "a second DEL has nothing to do");
}

#[tokio::test]
async fn a_failure_is_undone_and_says_what_the_plugin_said() {
    let fixture = Fixture::new();
    let bin = fixture.dir.path().join("bin");
    fs::write(bin.join("second.fail"), r#"{"code":11,"msg":"no ports","details":"80 is taken"}"#).unwrap();
    let error = fixture.cni.add(&fixture.pod()).await.unwrap_err().to_string();
    assert_eq!(error, r#"plugin type="second" failed (add): no ports; 80 is taken"#);
    assert!(fixture.log().contains("second DEL"));
    fs::remove_file(bin.join("second.fail")).unwrap();
    fixture.cni.del(&fixture.pod()).await.unwrap();
    assert!(fixture.log().contains("first DEL"));
}

#[tokio::test]
async fn a_network_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let conf_dir = dir.path().join("net.d");
    let template = r#"{"name":"n","plugins":[{"type":"x","cidr":"{{.PodCIDR}}"}]}"#.to_owned();
    let config = CniConfig { conf_dir: conf_dir.clone(), bin_dirs: Vec::new(), template: Some(template) };
    let cni = Cni::new(config, dir.path().join("cache")).unwrap();
    assert!(
        cni.ready().unwrap_err().to_string().starts_with("cni plugin not initialized: no network config")
    );
    cni.set_pod_cidr("10.244.0.0/24").unwrap();
    assert_eq!(load(&conf_dir).unwrap().plugins[0]["cidr"], "10.244.0.0/24");
    assert!(cni.ready().unwrap_err().to_string().contains("failed to find plugin \"x\""));
}
