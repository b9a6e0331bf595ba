//! The root, mounts and devices.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::support::{Fixture, push, show};

#[test]
fn paths_are_masked_and_protected() {
    let Some(f) = Fixture::new() else { return };
    let script = "wc -c < /proc/keys; ls /sys/firmware | wc -l; touch /sys/firmware/x || echo ro1; \
                  echo 1 > /proc/sys/kernel/shmmax || echo ro2; touch /x || echo ro3; touch /dev/shm.x && echo rw; \
                  touch /tmp/x && echo tmp";
    let out = f.output("c", script, |s| {
        s["root"]["readonly"] = json!(true);
        push(&mut s["mounts"], json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    });
    assert_eq!(out, "0\n0\nro1\nro2\nro3\nrw\ntmp");
}

#[test]
fn dev_has_the_usual_and_no_other_device_may_be_used() {
    let Some(f) = Fixture::new() else { return };
    let script = "ls /dev; readlink /dev/ptmx; echo x > /dev/null && echo null; head -c 4 /dev/zero | wc -c; \
                  mknod /dev/mem2 c 1 1 && echo made; head -c 1 /dev/mem2 || echo denied; \
                  mknod /dev/k c 1 11; head -c 1 /dev/kmsg2 | wc -c";
    let out = f.output("c", script, |s| {
        s["linux"]["devices"] =
            json!([{"path": "/dev/kmsg2", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600}]);
    });
    let expected = "core fd full kmsg2 mqueue null ptmx pts random stderr stdin stdout tty urandom zero";
    let lines: Vec<&str> = out.lines().collect();
    let names: Vec<&str> = lines.iter().take_while(|l| **l != "pts/ptmx").copied().collect();
    assert_eq!(
        names.into_iter().filter(|n| *n != "core").collect::<Vec<_>>().join(" "),
        expected.replace("core ", "")
    );
    let rest: Vec<&str> = lines.iter().skip_while(|l| **l != "pts/ptmx").skip(1).copied().collect();
    assert_eq!(rest, ["null", "4", "made", "denied", "1"], "{out}");
}

#[test]
fn bind_mounts_do_not_lead_out_and_keep_their_options() {
    let Some(f) = Fixture::new() else { return };
    let (data, victim) = (f.path("data"), f.path("victim"));
    for dir in [&data, &victim] {
        std::fs::create_dir_all(dir.join("sub")).unwrap();
    }
    std::fs::write(f.path("file"), "content").unwrap();
    let bind = |source: &Path, destination: &str, options: &[&str]| json!({"destination": destination, "type": "bind", "source": show(source), "options": options});
    f.bundle("c", "true", |_| {});
    symlink(&victim, f.rootfs("c").join("leads-out")).unwrap();
    symlink("../../../../../../../../..", f.rootfs("c").join("up")).unwrap();
    let script = "cat /etc/resolv.conf; touch /ro/x || echo ro; touch /rw/x && echo rw; ls /leads-out/in; \
                  touch /ro/sub/x || echo below; grep ' /rw ' /proc/self/mounts | grep -c nodev";
    let out = f.output("c", script, |s| {
        push(&mut s["mounts"], bind(&f.path("file"), "/etc/resolv.conf", &["rbind", "rprivate", "ro"]));
        push(&mut s["mounts"], bind(&data, "/ro", &["rbind", "rprivate", "rro"]));
        push(&mut s["mounts"], bind(&data, "/rw", &["rbind", "rprivate", "nodev"]));
        push(&mut s["mounts"], bind(&data, "/leads-out/in", &["rbind"]));
        push(&mut s["mounts"], bind(&data, "/up/inside", &["rbind"]));
    });
    assert_eq!(out, "contentro\nrw\nsub\nx\nbelow\n1");
    assert!(std::fs::read_dir(&victim).unwrap().count() == 1, "nothing was made outside");
    assert!(!Path::new("/inside").exists());
    assert!(f.rootfs("c").join("inside").exists());
}

/// Mounts of a test on the host, gone at its end.
struct HostMount(std::path::PathBuf);

impl HostMount {
    fn shared_tmpfs(dir: std::path::PathBuf) -> Self {
        use nix::mount::{MsFlags, mount};
        std::fs::create_dir_all(&dir).unwrap();
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let mounted = Self(dir);
        mount(None::<&str>, &mounted.0, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
        mounted
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        // Everything that was mounted below goes too.
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn mounts_propagate_as_asked() {
    let Some(f) = Fixture::new() else { return };
    let shared = HostMount::shared_tmpfs(f.path("shared"));
    for name in ["none", "in", "out"] {
        std::fs::create_dir_all(shared.0.join(name)).unwrap();
    }
    let volume = |propagation: &str| {
        json!({"destination": "/v", "type": "bind", "source": show(&shared.0),
        "options": ["rbind", propagation]})
    };
    let all = ["CAP_SYS_ADMIN"];
    for (id, propagation, root) in
        [("none", "rprivate", ""), ("in", "rslave", "rslave"), ("out", "rshared", "rshared")]
    {
        let script =
            format!("mount -t tmpfs tmpfs /v/{id}; touch /v/{id}/inside; echo ready; read x; ls /v/seen");
        f.bundle(id, &script, |s| {
            push(&mut s["mounts"], volume(propagation));
            s["linux"]["rootfsPropagation"] = json!(root);
            s["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
        });
        let mut child = f.command(&["run", "--bundle", &show(&f.path(id)), id]);
        let mut child =
            child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert_eq!(line, "ready\n");
        assert_eq!(shared.0.join(id).join("inside").exists(), id == "out", "{id}: to the host");
        let seen = HostMount::shared_tmpfs(shared.0.join("seen"));
        std::fs::write(seen.0.join("outside"), "").unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"\n").unwrap();
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
        assert_eq!(rest == "outside\n", id != "none", "{id}: from the host: {rest:?}");
        child.wait().unwrap();
    }
}
