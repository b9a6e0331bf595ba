//! Clients that others wrote, against an API server that runs alone: kubectl, the Python client and an operator on
//! kopf, the JavaScript client, and a controller on kube-rs.

#[path = "clients/kubectl.rs"]
mod kubectl;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use testkit::{Run, corten_binary, find_program, wait_until};

const TOKEN: &str = "clients";
/// What is installed from the Python package index; the newest of each, as users would.
const PACKAGES: [&str; 2] = ["kubernetes", "kopf"];
/// What is installed from npm: the newest that runs on Debian's node 18.
const NPM_PACKAGE: &str = "@kubernetes/client-node@1";

/// An API server with one token, ended with its folder.
struct Server {
    child: Child,
    folder: tempfile::TempDir,
    address: String,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = testnet::reserve_port();
        let tokens = folder.path().join("tokens.csv");
        std::fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n")).expect("a token file");
        let child = Command::new(corten_binary())
            .args(["kube-apiserver", "--bind-address=127.0.0.1", "--authorization-mode=RBAC"])
            .args([&format!("--secure-port={port}"), "--service-cluster-ip-range=10.96.0.0/16"])
            // There are no controllers here that would make the accounts.
            .arg("--disable-admission-plugins=ServiceAccount")
            .arg("--token-auth-file")
            .arg(tokens)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .arg("--cert-dir")
            .arg(folder.path().join("certificates"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).expect("a log"))
            .spawn()
            .expect("the binary runs");
        let server = Self { child, folder, address: format!("https://127.0.0.1:{port}") };
        wait_until("the API server is ready", || {
            let output = server.kubectl(&["get", "--raw", "/readyz"]).output();
            if output.stdout.trim() == "ok" { Ok(()) } else { Err(output.stderr) }
        });
        server
    }

    fn kubectl(&self, words: &[&str]) -> Run {
        let kubeconfig = self.kubeconfig();
        let mut all = vec!["kubectl".to_owned(), "--kubeconfig".to_owned(), kubeconfig.display().to_string()];
        all.extend(words.iter().map(|word| (*word).to_owned()));
        Run::new(&all).env("HOME", self.folder.path().as_os_str())
    }

    fn kubeconfig(&self) -> PathBuf {
        let path = self.folder.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"{}\", insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: c, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n",
            self.address
        );
        std::fs::write(&path, text).expect("a kubeconfig");
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Python of its own with the packages; `None` where the package index cannot be reached.
fn python(folder: &Path) -> Option<PathBuf> {
    let home = folder.join("python");
    let made = Command::new("python3").args(["-m", "venv"]).arg(&home).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: python3 cannot make a virtual environment");
        return None;
    }
    let python = home.join("bin/python");
    let words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let installed = Command::new(&python).args(words).args(PACKAGES).status();
    if !installed.is_ok_and(|status| status.success()) {
        println!("skipped: the Python packages cannot be installed");
        return None;
    }
    Some(python)
}

/// Whether all these programs are there; says so if not, and the test is skipped.
fn can_start(programs: &[&str]) -> bool {
    let missing: Vec<&str> =
        programs.iter().copied().filter(|program| find_program(program).is_none()).collect();
    if !missing.is_empty() {
        println!("skipped: needs {}", missing.join(", "));
    }
    missing.is_empty()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

#[test]
fn the_python_client_and_kopf_work() {
    if !can_start(&["python3", "kubectl"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let Some(python) = python(folder.path()) else { return };
    let server = Server::start();
    let client = script("client.py");
    let words = [python.as_os_str(), client.as_os_str(), server.address.as_ref(), TOKEN.as_ref()];
    println!("{}", Run::new(&words).output().ok());

    let mut operator = Command::new(python.with_file_name("kopf"))
        .args(["run", "--standalone", "--namespace=clients"])
        .arg(script("adder.py"))
        .env("KUBECONFIG", server.kubeconfig())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.path().join("kopf.log")).expect("a log"))
        .spawn()
        .expect("kopf runs");
    let wait = ["wait", "-n", "clients", "toy/good", "--for=jsonpath={.status.sum}=8", "--timeout=60s"];
    let waited = server.kubectl(&wait).output();
    let _ = operator.kill();
    let _ = operator.wait();
    if !waited.status.success() {
        println!("{}", std::fs::read_to_string(folder.path().join("kopf.log")).unwrap_or_default());
    }
    waited.ok();
}

#[test]
fn the_javascript_client_works() {
    if !can_start(&["node", "npm", "kubectl"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let installed = Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", NPM_PACKAGE])
        .current_dir(folder.path())
        .env("npm_config_cache", folder.path().join("cache"))
        .status();
    if !installed.is_ok_and(|status| status.success()) {
        return println!("skipped: the npm package cannot be installed");
    }
    // Packages are looked for beside the script.
    let copy = folder.path().join("client.mjs");
    std::fs::copy(script("client.mjs"), &copy).expect("a copy");
    let server = Server::start();
    let words = ["node".as_ref(), copy.as_os_str(), server.address.as_ref(), TOKEN.as_ref()];
    println!("{}", Run::new(&words).output().ok());
}

#[test]
fn a_controller_on_kube_rs_works() {
    if !can_start(&["kubectl"]) {
        return;
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/kube-rs/Cargo.toml");
    let cargo = |words: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(words).arg("--manifest-path").arg(&manifest);
        command
    };
    if !cargo(&["fetch", "--quiet", "--locked"]).status().is_ok_and(|status| status.success()) {
        return println!("skipped: the crates cannot be fetched");
    }
    // Where this test was built, so that crates of the same versions and features are not built again.
    let exe = std::env::current_exe().expect("a test");
    let target = exe.ancestors().nth(3).expect("target/debug/deps/test");
    let built =
        cargo(&["build", "--quiet", "--locked", "--offline"]).env("CARGO_TARGET_DIR", target).status();
    assert!(built.is_ok_and(|status| status.success()), "the controller is built");
    let server = Server::start();
    let program = target.join("debug/corten-kube-rs-client");
    println!("{}", Run::new(&[program]).env("KUBECONFIG", server.kubeconfig()).output().ok());
}
