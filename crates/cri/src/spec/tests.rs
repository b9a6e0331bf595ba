//! Specifications as runtimes see them.

use std::path::Path;

use proto::cri::v1::security_profile::ProfileType;
use proto::cri::v1::{
    Capability, ContainerMetadata, Device, KeyValue, LinuxContainerConfig, LinuxContainerResources, Mount,
    MountPropagation, PodSandboxMetadata, SecurityProfile,
};

use super::*;

fn host() -> HostFacts {
    HostFacts {
        unified_cgroups: false,
        swap_limit: true,
        hugetlb: true,
        capabilities: (1 << 41) - 1,
        min_oom_score_adj: 0,
        apparmor: false,
        selinux: false,
        recursive_read_only: true,
    }
}

fn config(security: LinuxContainerSecurityContext) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "app".to_owned(), attempt: 0 }),
        args: vec!["-v".to_owned()],
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                cpu_shares: 512,
                memory_limit_in_bytes: 1 << 20,
                oom_score_adj: -997,
                ..Default::default()
            }),
            security_context: Some(security),
        }),
        ..Default::default()
    }
}

fn image() -> RunConfig {
    RunConfig {
        entrypoint: vec!["/app".to_owned()],
        cmd: vec!["serve".to_owned()],
        env: vec!["PATH=/bin".to_owned(), "A=1".to_owned()],
        working_dir: "/srv".to_owned(),
        ..Default::default()
    }
}

fn try_spec(config: &ContainerConfig, image: &RunConfig, host: &HostFacts) -> Result<Value> {
    let sandbox = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name: "web".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let namespaces = Namespaces {
        pid: PidNamespace::Own,
        network: Some("/run/netns".into()),
        ipc: Some("/proc/7/ns/ipc".into()),
        uts: None,
    };
    let files = PodFiles {
        hostname: "web".to_owned(),
        hosts: Some("/s/hosts".into()),
        shm: Some("/s/shm".into()),
        ..Default::default()
    };
    build(&SpecInput {
        sandbox_id: "s1",
        config,
        sandbox: &sandbox,
        image,
        image_name: "app:latest",
        user: &ResolvedUser { uid: 1000, gid: 10, groups: vec![10, 20] },
        namespaces: &namespaces,
        files: &files,
        image_mounts: &[],
        cgroups_path: "/kubepods/podx/c1",
        host,
    })
}

fn spec(config: &ContainerConfig) -> Value {
    try_spec(config, &image(), &host()).unwrap()
}

fn options<'a>(spec: &'a Value, destination: &str) -> Vec<&'a str> {
    let mount = spec["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == destination).unwrap();
    mount["options"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect()
}

#[test]
fn the_command_is_merged_with_the_images() {
    let args = |command: &[&str], args: &[&str]| {
        let mut config = config(Default::default());
        config.command = command.iter().map(|s| (*s).to_owned()).collect();
        config.args = args.iter().map(|s| (*s).to_owned()).collect();
        spec(&config)["process"]["args"].clone()
    };
    assert_eq!(args(&[], &[]), json!(["/app", "serve"]));
    assert_eq!(args(&[], &["x"]), json!(["/app", "x"]));
    assert_eq!(args(&["sh"], &[]), json!(["sh"]));
    assert_eq!(args(&["sh"], &["-c"]), json!(["sh", "-c"]));
    let nothing = try_spec(&ContainerConfig::default(), &RunConfig::default(), &host());
    assert_eq!(nothing.unwrap_err().to_string(), "no command specified");
}

#[test]
fn a_plain_container() {
    let mut config = config(LinuxContainerSecurityContext {
        no_new_privs: true,
        readonly_rootfs: true,
        masked_paths: vec!["/proc/kcore".to_owned()],
        readonly_paths: vec!["/proc/sys".to_owned()],
        ..Default::default()
    });
    config.envs = vec![KeyValue { key: "A".to_owned(), value: "2=3".to_owned() }];
    let spec = spec(&config);
    let process = &spec["process"];
    assert_eq!(process["env"], json!(["PATH=/bin", "HOSTNAME=web", "A=2=3"]));
    assert_eq!(process["user"], json!({"uid": 1000, "gid": 10, "additionalGids": [10, 20]}));
    assert_eq!((&process["cwd"], &process["noNewPrivileges"]), (&json!("/srv"), &json!(true)));
    assert_eq!(process["oomScoreAdj"], 0, "clamped to what we may give");
    assert_eq!(process["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    assert!(process["capabilities"].get("inheritable").is_none());
    assert_eq!(spec["root"], json!({"path": "rootfs", "readonly": true}));
    assert_eq!(spec["linux"]["cgroupsPath"], "/kubepods/podx/c1");
    assert_eq!(spec["linux"]["maskedPaths"], json!(["/proc/kcore"]));
    assert_eq!(spec["linux"]["resources"]["memory"], json!({"limit": 1 << 20, "swap": 1 << 20}));
    assert_eq!(spec["linux"]["resources"]["cpu"], json!({"shares": 512}));
    assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], false);
    let kinds: Vec<&str> =
        spec["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["mount", "pid", "network", "ipc"]);
    assert!(options(&spec, "/sys").contains(&"ro"));
    assert_eq!(options(&spec, "/etc/hosts"), ["rbind", "rprivate", "ro"]);
    assert!(spec["linux"].get("seccomp").is_none());
}

#[test]
fn a_privileged_container_has_all_that_we_have() {
    let config = config(LinuxContainerSecurityContext {
        privileged: true,
        seccomp: Some(SecurityProfile::default()),
        masked_paths: vec!["/proc/kcore".to_owned()],
        ..Default::default()
    });
    let host = HostFacts { capabilities: 0b1011, ..host() };
    let spec = try_spec(&config, &image(), &host).unwrap();
    let expect = json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"]);
    assert_eq!(spec["process"]["capabilities"]["effective"], expect);
    assert!(spec["linux"].get("seccomp").is_none() && spec["linux"].get("maskedPaths").is_none());
    assert!(options(&spec, "/sys").contains(&"rw"));
    let devices = spec["linux"]["devices"].as_array().unwrap();
    assert!(devices.iter().any(|d| d["path"] == "/dev/null"), "the host's devices");
    assert_eq!(spec["linux"]["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
}

#[test]
fn capabilities_are_added_and_dropped() {
    let sets = |add: &[&str], drop: &[&str], ambient: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let security = LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                add_capabilities: own(add),
                drop_capabilities: own(drop),
                add_ambient_capabilities: own(ambient),
            }),
            ..Default::default()
        };
        try_spec(&config(security), &image(), &host()).map(|s| s["process"]["capabilities"].clone())
    };
    let only = sets(&["NET_ADMIN"], &["ALL"], &[]).unwrap();
    assert_eq!(only["bounding"], json!(["CAP_NET_ADMIN"]));
    let all_but = sets(&["ALL"], &["sys_admin"], &[]).unwrap();
    assert_eq!(all_but["bounding"].as_array().unwrap().len(), 40);
    let ambient = sets(&[], &["ALL"], &["CAP_NET_BIND_SERVICE"]).unwrap();
    assert_eq!(ambient["ambient"], json!(["CAP_NET_BIND_SERVICE"]));
    assert_eq!(ambient["inheritable"], json!(["CAP_NET_BIND_SERVICE"]));
    assert!(sets(&["NONSENSE"], &[], &[]).unwrap_err().to_string().contains("unknown capability"));
}

#[test]
fn the_default_profile_follows_the_capabilities() {
    let profile = |add: &[&str]| {
        let security = LinuxContainerSecurityContext {
            seccomp: Some(SecurityProfile::default()),
            capabilities: Some(Capability {
                add_capabilities: add.iter().map(|s| (*s).to_owned()).collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        spec(&config(security))["linux"]["seccomp"].clone()
    };
    let rules = |profile: &Value, name: &str| -> Vec<Value> {
        let all = profile["syscalls"].as_array().unwrap().iter();
        all.filter(|r| r["names"].as_array().unwrap().iter().any(|n| n == name)).cloned().collect()
    };
    let plain = profile(&[]);
    assert_eq!(plain["defaultAction"], "SCMP_ACT_ERRNO");
    assert!(rules(&plain, "mount").is_empty() && rules(&plain, "bpf").is_empty());
    assert_eq!(rules(&plain, "read").len(), 1);
    assert_eq!(rules(&plain, "chroot").len(), 1, "SYS_CHROOT is among the defaults");
    assert_eq!(rules(&plain, "clone")[0]["args"][0]["op"], "SCMP_CMP_MASKED_EQ");
    assert_eq!(rules(&plain, "clone3")[0]["errnoRet"], libc::ENOSYS);
    let admin = profile(&["SYS_ADMIN"]);
    assert_eq!(rules(&admin, "mount").len(), 1);
    assert!(rules(&admin, "clone3")[0].get("errnoRet").is_none());
}

#[test]
fn profiles_of_the_node_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.json");
    std::fs::write(&path, r#"{"defaultAction":"SCMP_ACT_LOG","archMap":[]}"#).unwrap();
    let with = |reference: String| {
        let mut profile = SecurityProfile { localhost_ref: reference, ..Default::default() };
        profile.set_profile_type(ProfileType::Localhost);
        let security = LinuxContainerSecurityContext { seccomp: Some(profile), ..Default::default() };
        try_spec(&config(security), &image(), &host()).map(|s| s["linux"]["seccomp"].clone())
    };
    assert_eq!(with(path.display().to_string()).unwrap(), json!({"defaultAction": "SCMP_ACT_LOG"}));
    assert!(
        with("/no/such/file".to_owned()).unwrap_err().to_string().contains("cannot load seccomp profile")
    );
    assert!(with("relative".to_owned()).is_err());
}

#[test]
fn volumes_are_bound_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
    let mut config = config(Default::default());
    let mount = |to: &str, from: String, readonly| Mount {
        container_path: to.to_owned(),
        host_path: from,
        readonly,
        ..Default::default()
    };
    config.mounts = vec![
        mount("/data/sub", path("new"), true),
        mount("/data", path("link"), false),
        mount("/etc/hosts/", path("h"), false),
    ];
    let spec = spec(&config);
    let mounts = spec["mounts"].as_array().unwrap();
    let position = |to: &str| mounts.iter().position(|m| m["destination"] == to).unwrap();
    assert!(position("/data") < position("/data/sub"));
    assert_eq!(
        mounts[position("/data")]["source"],
        json!(dir.path().canonicalize().unwrap()),
        "links are followed"
    );
    assert!(Path::new(&path("new")).is_dir(), "made since it was missing");
    assert_eq!(options(&spec, "/data/sub"), ["rbind", "rprivate", "ro"]);
    assert_eq!(mounts.iter().filter(|m| m["destination"] == "/etc/hosts").count(), 1);

    config.mounts[0].recursive_read_only = true;
    assert!(options(&try_spec(&config, &image(), &host()).unwrap(), "/data/sub").contains(&"rro"));
    config.mounts[0].set_propagation(MountPropagation::PropagationHostToContainer);
    assert!(try_spec(&config, &image(), &host()).is_err());
}

#[test]
fn devices_are_given_with_their_rules() {
    let mut config = config(Default::default());
    config.devices = vec![Device {
        container_path: "/dev/nothing".to_owned(),
        host_path: "/dev/null".to_owned(),
        permissions: "rw".to_owned(),
    }];
    let spec = spec(&config);
    let device = &spec["linux"]["devices"][0];
    assert_eq!(
        (&device["path"], &device["major"], &device["minor"]),
        (&json!("/dev/nothing"), &json!(1), &json!(3))
    );
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"});
    assert_eq!(spec["linux"]["resources"]["devices"][1], rule);
    config.devices[0].host_path = "/etc/passwd".to_owned();
    assert!(try_spec(&config, &image(), &host()).is_err());
}

#[test]
fn a_command_in_a_container_runs_as_its_process_does() {
    let spec = spec(&config(Default::default()));
    let process = exec_process(&spec, &["ls".to_owned()], true).unwrap();
    assert_eq!(process["args"], json!(["ls"]));
    assert_eq!(process["terminal"], true);
    assert_eq!(process["user"]["uid"], 1000);
    assert!(process["env"].as_array().unwrap().contains(&json!("TERM=xterm")));
    assert!(exec_process(&spec, &[], false).is_err());
}
