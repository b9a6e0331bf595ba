//! A registry on the loopback of a machine: Debian's `docker-registry`.

use std::path::Path;
use std::process::Child;

use crate::image::{Image, digest};
use crate::machine::Machine;
use crate::process::{on_path, wait_until};

/// A running registry, stopped when dropped.
pub struct Registry {
    child: Child,
    /// Where it listens, host and port.
    pub address: String,
}

impl Registry {
    /// Starts one on `machine` with its files in `folder`; None, with a note, if it is not installed.
    pub fn start(machine: &Machine, folder: &Path) -> Option<Self> {
        if !on_path("docker-registry") {
            println!("no docker-registry: pulling is not tested");
            return None;
        }
        let address = "127.0.0.1:5000".to_owned();
        let root = folder.join("registry");
        let config = folder.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            root.display()
        );
        std::fs::write(&config, text).expect("a file");
        let child = machine.run(&["docker-registry", "serve", &config.to_string_lossy()]).spawn();
        let registry = Self { child, address };
        let url = format!("http://{}/v2/", registry.address);
        wait_until("the registry answers", || {
            let output = machine.run(&["curl", "-sf", &url]).output();
            if output.status.success() { Ok(()) } else { Err(output.stderr) }
        });
        Some(registry)
    }

    /// Uploads `image` as `repository` with `tag`.
    pub fn push(&self, machine: &Machine, folder: &Path, image: &Image, repository: &str, tag: &str) {
        let base = format!("http://{}/v2/{repository}", self.address);
        let file = folder.join("upload");
        let file_argument = format!("@{}", file.display());
        for (digest, blob) in &image.blobs {
            std::fs::write(&file, blob).expect("a file");
            let start = format!("{base}/blobs/uploads/");
            let headers = machine.run(&["curl", "-sfi", "-X", "POST", &start]).output().ok();
            let location =
                headers.lines().find_map(|l| l.strip_prefix("Location: ")).expect("a place to upload").trim();
            let target = format!("{location}&digest={digest}");
            let kind = "Content-Type: application/octet-stream";
            machine
                .run(&["curl", "-sf", "-X", "PUT", "-H", kind, "--data-binary", &file_argument, &target])
                .output()
                .ok();
        }
        std::fs::write(&file, &image.manifest).expect("a file");
        let target = format!("{base}/manifests/{tag}");
        let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json";
        machine
            .run(&["curl", "-sf", "-X", "PUT", "-H", kind, "--data-binary", &file_argument, &target])
            .output()
            .ok();
    }

    /// The digest under which `image` is known.
    pub fn digest(image: &Image) -> String {
        digest(&image.manifest)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
