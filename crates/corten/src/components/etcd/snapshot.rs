//! `corten etcd snapshot`: backups of a running cluster, and data directories made of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base::SystemClock;
use clap::{Args, Subcommand};
use etcd::snapshot::{Writer, checksum, read};
use proto::etcd::rpc::SnapshotRequest;
use proto::etcd::rpc::maintenance_client::MaintenanceClient;

use super::member::{cluster_id, initial_members};

use crate::say::say;

/// What to do with snapshots.
#[derive(Subcommand)]
pub enum Command {
    /// Save a running cluster's state to a file, restore it to a data directory, or look at one
    #[command(subcommand)]
    Snapshot(Snapshot),
}

/// See [`Command`].
#[derive(Subcommand)]
pub enum Snapshot {
    /// Write what a member has to a file
    Save {
        /// The file; written anew
        file: PathBuf,
        #[command(flatten)]
        access: Access,
    },
    /// Make a data directory of a file
    Restore {
        /// The file
        file: PathBuf,
        /// The data directory; it must not have data in it
        #[arg(long)]
        data_dir: PathBuf,
        #[command(flatten)]
        cluster: NewCluster,
    },
    /// Check a file and say what it holds
    Status {
        /// The file
        file: PathBuf,
    },
}

/// The cluster that begins with the file; by default its first and only member.
#[derive(Args)]
pub struct NewCluster {
    /// All members, each of which is restored from the same file: NAME=URL,…
    #[arg(long)]
    initial_cluster: Option<String>,
    /// Tells clusters with the same URLs apart
    #[arg(long, default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// Name of the member that gets the directory
    #[arg(long, default_value = "default")]
    name: String,
    /// URLs that other members are told
    #[arg(long, default_value = "http://localhost:2380", value_delimiter = ',')]
    initial_advertise_peer_urls: Vec<String>,
}

/// How to reach the cluster.
#[derive(Args)]
pub struct Access {
    /// The member to ask
    #[arg(long, default_value = "http://127.0.0.1:2379")]
    endpoints: String,
    /// Authorities of its certificate
    #[arg(long)]
    cacert: Option<PathBuf>,
    /// Certificate to present
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
}

/// Does it.
pub async fn run(Command::Snapshot(command): Command) -> anyhow::Result<()> {
    match command {
        Snapshot::Save { file, access } => save(&file, &access).await,
        Snapshot::Restore { file, data_dir, cluster } => restore(&file, &data_dir, &cluster),
        Snapshot::Status { file } => status(&file),
    }
}

async fn save(file: &Path, access: &Access) -> anyhow::Result<()> {
    let identity = access.cert.clone().zip(access.key.clone());
    let identity = identity.map(|(certificate, key)| pki::KeyPairFiles { certificate, key });
    let channel = etcd::connect(&access.endpoints, access.cacert.as_slice(), identity)
        .with_context(|| format!("reach {}", access.endpoints))?;
    let mut client = MaintenanceClient::new(channel).max_decoding_message_size(usize::MAX);
    let answer = client.snapshot(SnapshotRequest {}).await;
    let mut stream = answer.with_context(|| format!("ask {} for a snapshot", access.endpoints))?.into_inner();
    let mut writer = Writer::create(file)?;
    while let Some(piece) = stream.message().await.context("read the snapshot")? {
        writer.write(&piece.blob)?;
    }
    let (snapshot, size) = writer.finish(&SystemClock)?;
    let info = snapshot.info();
    say!("saved {} keys of revision {} to {} ({size} bytes)", info.keys, info.revision, file.display());
    Ok(())
}

fn restore(file: &Path, data_dir: &Path, cluster: &NewCluster) -> anyhow::Result<()> {
    let (snapshot, _) = read(file, &SystemClock)?;
    let config = store::Config::new(super::store_dir(data_dir));
    if config.dir.exists() {
        bail!("{} has data already", data_dir.display());
    }
    match &cluster.initial_cluster {
        None => snapshot.restore(&config, &SystemClock)?,
        Some(list) => {
            let (urls, token) = (&cluster.initial_advertise_peer_urls, &cluster.initial_cluster_token);
            let members = initial_members(Some(list), &cluster.name, urls, token)?;
            let own = members.iter().find(|member| member.name == cluster.name && member.peer_urls == *urls);
            let own = own.map(|member| member.id).with_context(|| {
                format!("--initial-cluster does not have {}={}", cluster.name, urls.join(","))
            })?;
            // Members that begin with different files do not become one cluster.
            let origin = [token.as_bytes(), &checksum(file)?].concat();
            let cluster_id = cluster_id(&members, &origin);
            snapshot.restore_member(&config, &members, own, cluster_id, &SystemClock)?;
        }
    }
    let info = snapshot.info();
    say!("restored {} keys of revision {} to {}", info.keys, info.revision, data_dir.display());
    Ok(())
}

fn status(file: &Path) -> anyhow::Result<()> {
    let (snapshot, size) = read(file, &SystemClock)?;
    let info = snapshot.info();
    say!(
        "revision {}, {} keys, {} bytes of keys and values, file {size} bytes",
        info.revision,
        info.keys,
        info.bytes
    );
    Ok(())
}
