//! The command line: clusters by `up`, `down`, `status`, `server`; images; and every component alone.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::join::{Formation, Target, Token};
use crate::layout::{DEFAULT_NAME, Layout};
use crate::network::Block;
use crate::role::External;
use crate::settings::Wishes;
use crate::{clusters, components, down, image, preflight, server, status, token, up};

/// Names under which a link to the binary behaves as that component.
pub const COMPONENTS: [&str; 6] =
    ["kube-apiserver", "etcd", "kube-scheduler", "kube-controller-manager", "kubelet", "kube-proxy"];
/// Names under which a link to the binary behaves as that network plugin.
pub const PLUGINS: [&str; 4] = ["bridge", "host-local", "portmap", "loopback"];

/// Kubernetes in one binary.
#[derive(Parser)]
#[command(name = "corten", version, disable_help_subcommand = true, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster in the background; return when its node is Ready and its DNS answers
    Up(ClusterArgs),
    /// Stop a cluster and its pods
    Down {
        #[command(flatten)]
        cluster: Named,
        /// Remove every trace of it, its data included
        #[arg(long)]
        delete: bool,
    },
    /// Say which clusters run
    Status(Named),
    /// Run a cluster in the foreground, as a service manager wants it
    Server(ServerArgs),
    /// Make, list and delete the tokens by which machines join
    Token {
        #[command(flatten)]
        cluster: Named,
        #[command(subcommand)]
        command: token::Command,
    },
    /// Say what of the kernel and the host is missing
    Preflight,
    /// Import, list and remove images of the node
    Image {
        #[command(flatten)]
        cluster: Named,
        #[command(subcommand)]
        command: image::Command,
    },
    #[command(flatten)]
    Component(components::Component),
}

/// Which cluster is meant.
#[derive(Args, Clone)]
pub struct Named {
    /// Name of the cluster
    #[arg(long, default_value = DEFAULT_NAME, global = true)]
    name: String,
    /// Where it keeps its files [default: /var/lib/corten, with -NAME for other names]
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
}

impl Named {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data directory: as given, as noted when the cluster was made, or the usual one.
    pub fn layout(&self) -> anyhow::Result<Layout> {
        let noted = || clusters::find(&self.name).map(|note| note.data_dir);
        let data =
            self.data_dir.clone().or_else(noted).unwrap_or_else(|| Layout::default_data_dir(&self.name));
        Ok(Layout::new(std::path::absolute(data)?))
    }
}

#[derive(Args)]
struct ClusterArgs {
    #[command(flatten)]
    cluster: Named,
    /// Name of this machine's node [default: the host name]
    #[arg(long)]
    node_name: Option<String>,
    /// Port of the API server [default: 6443]
    #[arg(long)]
    secure_port: Option<u16>,
    /// Port of the kubelet [default: 10250]
    #[arg(long)]
    kubelet_port: Option<u16>,
    /// Addresses of pods [default: 10.244.0.0/16]
    #[arg(long)]
    cluster_cidr: Option<Block>,
    /// Virtual addresses of services [default: 10.96.0.0/16]
    #[arg(long)]
    service_cidr: Option<Block>,
    /// Domain that cluster DNS serves [default: cluster.local]
    #[arg(long)]
    cluster_domain: Option<String>,
}

#[derive(Args)]
struct ServerArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Become the first of several control planes, each with a member of the store that they replicate
    #[arg(long, conflicts_with = "join")]
    cluster_init: bool,
    /// Become a further control plane of the cluster that this API server serves, e.g. https://10.0.0.1:6443
    #[arg(long, requires = "token", requires = "ca_hash")]
    join: Option<String>,
    /// With --join: the token to show. Else a token to make, with which control planes may join for 24 hours
    #[arg(long)]
    token: Option<Token>,
    /// With --join: hash of the public key of the cluster's authority, sha256:…
    #[arg(long, value_delimiter = ',')]
    ca_hash: Vec<String>,
    /// Keep the objects in the etcd of these URLs
    #[arg(long, value_delimiter = ',')]
    etcd_servers: Vec<String>,
    /// Authority of the etcd's certificates
    #[arg(long, requires = "etcd_servers")]
    etcd_cafile: Option<PathBuf>,
    /// Certificate to show to the etcd
    #[arg(long, requires = "etcd_servers")]
    etcd_certfile: Option<PathBuf>,
    /// Its key
    #[arg(long, requires = "etcd_servers")]
    etcd_keyfile: Option<PathBuf>,
}

impl ServerArgs {
    fn run(self) -> anyhow::Result<()> {
        let target = |server: String, token: Token| Target { server, token, ca_hashes: self.ca_hash.clone() };
        let etcd = (!self.etcd_servers.is_empty()).then(|| External {
            servers: self.etcd_servers.clone(),
            ca_file: self.etcd_cafile.clone(),
            cert_file: self.etcd_certfile.clone(),
            key_file: self.etcd_keyfile.clone(),
        });
        let join = self.join.clone().zip(self.token.clone()).map(|(server, token)| target(server, token));
        let made = if join.is_some() { None } else { self.token.clone() };
        let formation = Formation { cluster_init: self.cluster_init, join, etcd };
        let args = self.cluster;
        server::run(args.cluster.name(), args.cluster.layout()?, &args.wishes(), &formation, made)
    }
}

impl ClusterArgs {
    fn wishes(&self) -> Wishes {
        Wishes {
            node_name: self.node_name.clone(),
            secure_port: self.secure_port,
            kubelet_port: self.kubelet_port,
            pod_block: self.cluster_cidr,
            service_block: self.service_cidr,
            cluster_domain: self.cluster_domain.clone(),
        }
    }
}

/// Runs the command that `args` ask for.
pub fn run(mut args: Vec<OsString>) -> ExitCode {
    if let Some(name) = args.get(1).and_then(|name| name.to_str()).map(str::to_owned) {
        let own = args.split_off(2);
        match components::prepare(&name, own) {
            Ok(own) => args.extend(own),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::from(2);
            }
        }
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; anything else is one, on the error stream.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A command that only prints ends when its reader has gone (`corten status | head -1`), and does not panic.
fn quiet_pipes() {
    // SAFETY: the default action runs no code of ours, and there is one thread yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Up(args) => up::up(args.cluster.name(), &args.cluster.layout()?, &args.wishes()).map(done),
        Command::Down { cluster, delete } => down::down(cluster.name(), &cluster.layout()?, delete).map(done),
        Command::Status(cluster) => {
            quiet_pipes();
            status::print(cluster.name(), &cluster.layout()?)
        }
        Command::Server(args) => args.run().map(done),
        Command::Token { cluster, command } => {
            quiet_pipes();
            token::run(&cluster.layout()?, command).map(done)
        }
        Command::Preflight => {
            quiet_pipes();
            Ok(if preflight::print() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Image { cluster, command } => image::run(&cluster.layout()?, command).map(done),
        Command::Component(component) => components::run(component).map(done),
    }
}

/// The pod shim: `corten shim …`.
pub fn shim(args: Vec<OsString>) -> ExitCode {
    exit_code(shim::main(args))
}

/// The OCI runtime: `corten oci …`.
pub fn oci(args: &[OsString]) -> ExitCode {
    exit_code(oci::main(args, 2))
}

/// The low byte is all that a parent sees.
fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(code as u8)
}

/// A network plugin: `corten cni NAME`, or a link of that name.
pub fn plugin(name: &str) -> ExitCode {
    let env = |key: &str| std::env::var(key).ok();
    exit_code(cni::main(name, &env, &mut std::io::stdin().lock(), &mut std::io::stdout().lock()))
}
