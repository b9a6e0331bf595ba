//! Upstream's flags of etcd, and the same from `ETCD_…` variables.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command};

use super::snapshot;
use crate::components::go_flags::{self, Fate, Table, duration};

/// How clap takes a switch as Go does: `--flag`, `--flag=true`, `--flag=false`.
macro_rules! switch {
    ($(#[doc = $doc:literal] $name:ident = $default:literal),* $(,)?) => {
        /// Flags that are on or off.
        #[derive(Args)]
        pub struct Switches {
            $(
                #[doc = $doc]
                #[arg(long, default_value_t = $default, action = clap::ArgAction::Set, num_args = 0..=1,
                      require_equals = true, default_missing_value = "true")]
                pub $name: bool,
            )*
        }
    };
}

switch! {
    /// Ask clients for a certificate of --trusted-ca-file
    client_cert_auth = false,
    /// Ask other members for a certificate of --peer-trusted-ca-file
    peer_client_cert_auth = false,
    /// Begin a cluster of this member alone with the data that it has
    force_new_cluster = false,
    /// Ask before an election whether it could be won
    pre_vote = true,
    /// Refuse changes of members that would lose the quorum
    strict_reconfig_check = true,
    /// Compare the data of all members before serving
    initial_corrupt_check = false,
}

/// See upstream's documentation of the same names.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Flags {
    #[command(subcommand)]
    pub command: Option<snapshot::Command>,
    /// Name of this member
    #[arg(long, default_value = "default")]
    pub name: String,
    /// Where the data is [default: NAME.etcd]
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// URLs to serve clients at
    #[arg(long, default_value = "http://localhost:2379", value_delimiter = ',')]
    pub listen_client_urls: Vec<String>,
    /// URLs that clients are told
    #[arg(long, value_delimiter = ',')]
    pub advertise_client_urls: Vec<String>,
    /// URLs to serve other members at
    #[arg(long, default_value = "http://localhost:2380", value_delimiter = ',')]
    pub listen_peer_urls: Vec<String>,
    /// URLs that other members are told
    #[arg(long, default_value = "http://localhost:2380", value_delimiter = ',')]
    pub initial_advertise_peer_urls: Vec<String>,
    /// URLs that serve health and metrics besides
    #[arg(long, value_delimiter = ',')]
    pub listen_metrics_urls: Vec<String>,
    /// All members to begin with: NAME=URL,… [default: this one]
    #[arg(long)]
    pub initial_cluster: Option<String>,
    /// Whether the cluster is new or exists
    #[arg(long, default_value = "new", value_parser = ["new", "existing"])]
    pub initial_cluster_state: String,
    /// Tells clusters with the same URLs apart
    #[arg(long, default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    /// Entries after which a snapshot is due
    #[arg(long, default_value_t = 10_000)]
    pub snapshot_count: u64,
    /// Milliseconds between heartbeats
    #[arg(long, default_value_t = 100)]
    pub heartbeat_interval: u64,
    /// Milliseconds without a heartbeat after which an election begins
    #[arg(long, default_value_t = 1000)]
    pub election_timeout: u64,
    /// Certificate for clients
    #[arg(long)]
    pub cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long)]
    pub key_file: Option<PathBuf>,
    /// Authorities of clients' certificates
    #[arg(long)]
    pub trusted_ca_file: Option<PathBuf>,
    /// Certificate for other members
    #[arg(long)]
    pub peer_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long)]
    pub peer_key_file: Option<PathBuf>,
    /// Authorities of other members' certificates
    #[arg(long)]
    pub peer_trusted_ca_file: Option<PathBuf>,
    /// What --auto-compaction-retention counts
    #[arg(long, default_value = "periodic", value_parser = ["periodic", "revision"])]
    pub auto_compaction_mode: String,
    /// How much of the history is kept: hours or a duration, or revisions; 0 keeps all
    #[arg(long, default_value = "0")]
    pub auto_compaction_retention: String,
    /// Bytes that keys and values may take; 0 is 2 GiB
    #[arg(long, default_value_t = 0)]
    pub quota_backend_bytes: i64,
    /// Operations in one transaction
    #[arg(long, default_value_t = store::MAX_TXN_OPS)]
    pub max_txn_ops: usize,
    /// Bytes of one request
    #[arg(long, default_value_t = store::MAX_REQUEST_BYTES)]
    pub max_request_bytes: usize,
    /// How often a watch that asks for it is told how far it is
    #[arg(long, alias = "experimental-watch-progress-notify-interval", value_parser = duration, default_value = "10m")]
    pub watch_progress_notify_interval: Duration,
    /// simple, or jwt,priv-key=FILE,sign-method=METHOD,ttl=TIME
    #[arg(long, default_value = "simple")]
    pub auth_token: String,
    /// Seconds that a simple token holds
    #[arg(long, default_value_t = 300)]
    pub auth_token_ttl: u64,
    /// Name=true|false,…
    #[arg(long, default_value = "")]
    pub feature_gates: String,
    #[command(flatten)]
    pub switches: Switches,
    /// Flags that mean nothing here; said once in the log
    #[arg(long, hide = true)]
    pub ignored_upstream_flag: Vec<String>,
}

/// What upstream's etcd has besides.
const TABLE: &Table = &[
    ("bcrypt-cost", Fate::Ignored),
    ("enable-grpc-gateway", Fate::IgnoredSwitch),
    ("experimental-compact-hash-check-enabled", Fate::IgnoredSwitch),
    ("experimental-initial-corrupt-check", Fate::IgnoredSwitch),
    ("experimental-warning-apply-duration", Fate::Ignored),
    ("log-format", Fate::Ignored),
    ("log-level", Fate::Ignored),
    ("log-outputs", Fate::Ignored),
    ("logger", Fate::Ignored),
    ("max-snapshots", Fate::Ignored),
    ("max-wals", Fate::Ignored),
    ("metrics", Fate::Ignored),
    ("snapshot-catchup-entries", Fate::Ignored),
    ("experimental-snapshot-catchup-entries", Fate::Ignored),
    ("socket-reuse-address", Fate::IgnoredSwitch),
    ("warning-apply-duration", Fate::Ignored),
    ("auto-tls", Fate::MissingSwitch("make certificates and give --cert-file and --key-file")),
    ("peer-auto-tls", Fate::MissingSwitch("make certificates and give --peer-cert-file and --peer-key-file")),
    ("cipher-suites", Fate::Missing("the suites of TLS 1.2 and 1.3 that are safe are offered")),
    ("client-crl-file", Fate::Missing("revocation lists are not read")),
    ("peer-crl-file", Fate::Missing("revocation lists are not read")),
    ("peer-cert-allowed-cn", Fate::Missing("whoever the peer authority certified is a member")),
    ("peer-cert-allowed-hostname", Fate::Missing("whoever the peer authority certified is a member")),
    ("config-file", Fate::Missing("give flags or ETCD_ variables")),
    ("cors", Fate::Missing("there is no JSON gateway")),
    ("discovery", Fate::Missing("give --initial-cluster")),
    ("discovery-srv", Fate::Missing("give --initial-cluster")),
    ("enable-pprof", Fate::MissingSwitch("there is nothing of Go to profile")),
    ("enable-v2", Fate::MissingSwitch("the v2 API is gone upstream, too")),
    ("wal-dir", Fate::Missing("the log is in the data directory")),
    // Test frameworks ask for it; that answered writes are on disk all the same harms nobody.
    ("unsafe-no-fsync", Fate::IgnoredSwitch),
];

/// The arguments after `etcd`: variables of the environment first, so that flags win, and single dashes as Go takes
/// them.
pub fn prepare(args: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let has_command = args.first().is_some_and(|first| first == "snapshot");
    if has_command {
        return Ok(args);
    }
    let mut all: Vec<OsString> = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(flag) = name.to_str().and_then(flag_of_variable) else { continue };
        if is_flag(&flag) {
            let mut arg = OsString::from(format!("--{flag}="));
            arg.push(value);
            all.push(arg);
        }
    }
    all.extend(args.into_iter().map(|arg| match arg.to_str() {
        Some(text) if text.starts_with('-') && !text.starts_with("--") && text.len() > 2 => {
            OsString::from(format!("-{text}"))
        }
        _ => arg,
    }));
    go_flags::normalize(all, TABLE)
}

/// `ETCD_LISTEN_CLIENT_URLS` is `listen-client-urls`.
fn flag_of_variable(name: &str) -> Option<String> {
    Some(name.strip_prefix("ETCD_")?.to_ascii_lowercase().replace('_', "-"))
}

fn is_flag(name: &str) -> bool {
    let command = Flags::augment_args(Command::new("etcd"));
    let ours = command.get_arguments().any(|arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|others| others.contains(&name))
    });
    ours || TABLE.iter().any(|(known, _)| *known == name)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(args_override_self = true)]
    struct Cli {
        #[command(flatten)]
        flags: Flags,
    }

    fn parse(args: &[&str]) -> Result<Flags, String> {
        let args = prepare(args.iter().map(OsString::from).collect())?;
        let all = std::iter::once(OsString::from("etcd")).chain(args);
        Cli::try_parse_from(all).map(|cli| cli.flags).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_are_taken_as_upstream_takes_them() {
        let flags = parse(&[
            "-name",
            "m1",
            "--client-cert-auth",
            "--pre-vote=false",
            "--listen-client-urls=http://a:1,http://b:2",
            "--experimental-watch-progress-notify-interval=5s",
            "--logger=zap",
        ])
        .unwrap();
        assert_eq!((flags.name.as_str(), flags.listen_client_urls.len()), ("m1", 2));
        assert!(flags.switches.client_cert_auth && !flags.switches.pre_vote);
        assert_eq!(flags.watch_progress_notify_interval, Duration::from_secs(5));
        assert_eq!(flags.ignored_upstream_flag, ["logger"]);
        assert!(parse(&["--auto-tls"]).err().unwrap().contains("--auto-tls is not implemented"));
        assert!(parse(&["--no-such-flag=1"]).err().unwrap().contains("--no-such-flag"));
        assert_eq!(flag_of_variable("ETCD_MAX_TXN_OPS").unwrap(), "max-txn-ops");
        assert!(is_flag("max-txn-ops") && is_flag("logger") && !is_flag("endpoints"));
    }
}
