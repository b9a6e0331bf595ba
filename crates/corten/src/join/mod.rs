//! How several machines become one cluster: what each of them is, and how a further one is let in.
//!
//! A machine that joins finds the cluster's authority ([`discovery`]), shows a bootstrap [`Token`] to one of the API
//! servers, and is told everything else ([`admission`]). Its settings are written last: until then it has not joined,
//! and the same command may be given again.

pub mod admission;
mod discovery;
pub mod objects;
mod token;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, bail};
use client::RemoteConfig;

pub use token::{CONTROL_PLANES, NAMESPACE as TOKEN_NAMESPACE, NODES, SECRET_PREFIX, SECRET_TYPE, Token};

use crate::certs::Certificates;
use crate::layout::Layout;
use crate::role::{External, Membership, Role, urls};
use crate::settings::{Settings, Wishes};
use admission::{Admission, Candidate, MEMBER_FILES, Place, SHARED_FILES};

/// How long servers may be unable to take in a further one: another joins, or there is no quorum.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_secs(1);

/// The cluster to join.
#[derive(Debug, Clone)]
pub struct Target {
    /// One of its API servers, e.g. `https://10.0.0.1:6443`.
    pub server: String,
    /// A bootstrap token.
    pub token: Token,
    /// Hashes of authorities' keys; the cluster's must be among them.
    pub ca_hashes: Vec<String>,
}

/// How a machine's part of a cluster begins, if its data directory does not say.
#[derive(Debug, Clone, Default)]
pub struct Formation {
    /// As the first of several control planes, each with a member of the store.
    pub cluster_init: bool,
    /// As one that joins others.
    pub join: Option<Target>,
    /// On an etcd beside the control planes.
    pub etcd: Option<External>,
}

/// The settings of the data directory; made as `formation` says if it has none.
pub fn settings(
    layout: &Layout,
    name: &str,
    wishes: &Wishes,
    formation: &Formation,
) -> anyhow::Result<Settings> {
    if Settings::read(layout)?.is_none() {
        return match &formation.join {
            Some(target) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(join(layout, name, wishes, target, formation.etcd.as_ref()))
            }
            None => {
                let settings = Settings::choose(name, wishes)?;
                let role = first_role(formation)?;
                write(Settings { role, ..settings }, layout)
            }
        };
    }
    let settings = Settings::read_or_create(layout, name, wishes)?;
    match &settings.role {
        // The store of a single server becomes that of the first member.
        Role::Alone if formation.cluster_init => {
            write(Settings { role: first_role(formation)?, ..settings }, layout)
        }
        Role::Alone if formation.join.is_some() || formation.etcd.is_some() => {
            bail!("{} holds a cluster of its own already", layout.data().display())
        }
        Role::External(_) if formation.etcd.is_some() => {
            write(Settings { role: first_role(formation)?, ..settings }, layout)
        }
        _ => Ok(settings),
    }
}

fn write(settings: Settings, layout: &Layout) -> anyhow::Result<Settings> {
    settings.write(layout)?;
    Ok(settings)
}

fn first_role(formation: &Formation) -> anyhow::Result<Role> {
    Ok(match (&formation.etcd, formation.cluster_init) {
        (Some(_), true) => bail!("--cluster-init makes an etcd of its own: leave out --etcd-servers"),
        (Some(external), false) => Role::External(external.clone()),
        (None, true) => Role::Member(Membership::first(own_address()?, random_id()?)),
        (None, false) => Role::Alone,
    })
}

/// Where the others reach this machine.
fn own_address() -> anyhow::Result<Ipv4Addr> {
    crate::settings::outgoing_address()
        .context("the machine has no address that others could reach: it has no default route")
}

fn random_id() -> anyhow::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

/// Lets the cluster take this machine in, and writes down what it said.
async fn join(
    layout: &Layout,
    name: &str,
    wishes: &Wishes,
    target: &Target,
    etcd: Option<&External>,
) -> anyhow::Result<Settings> {
    let certificates = Certificates::new(layout);
    discovery::find_authority(target, &certificates.authority()).await?;
    let config = RemoteConfig {
        server: target.server.clone(),
        authorities: vec![certificates.authority()],
        token: Some(target.token.full()),
        ..RemoteConfig::default()
    };
    let (peer_url, client_url) = urls(own_address()?);
    let node_name = wishes.node_name.clone().map_or_else(crate::identity::host_name, Ok)?;
    let candidate = Candidate { node_name: node_name.clone(), peer_url: peer_url.clone() };
    let admission = ask(&client::remote(config)?, &candidate).await?;
    keep_files(&certificates, &admission)?;
    let role = match (admission.place, etcd) {
        (Some(Place { cluster_id, id, members }), None) => {
            Role::Member(Membership { cluster_id, id, peer_url, client_url, members })
        }
        (None, Some(external)) => Role::External(external.clone()),
        (Some(_), Some(_)) => bail!("that cluster replicates its own store: leave out --etcd-servers"),
        (None, None) => bail!("that cluster is on an etcd beside it: say which with --etcd-servers"),
    };
    let wishes = Wishes {
        node_name: Some(node_name),
        pod_block: Some(admission.pod_block),
        service_block: Some(admission.service_block),
        cluster_domain: Some(admission.cluster_domain),
        ..wishes.clone()
    };
    write(Settings { role, ..Settings::choose(name, &wishes)? }, layout)
}

/// Writes the shared files, and no others.
fn keep_files(certificates: &Certificates, admission: &Admission) -> anyhow::Result<()> {
    let own: &[&str] = if admission.place.is_some() { &MEMBER_FILES } else { &[] };
    for name in SHARED_FILES.iter().chain(own) {
        let content =
            admission.files.get(*name).with_context(|| format!("the server did not give {name}"))?;
        let path = certificates.folder().join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        match name.ends_with(".key") {
            true => pki::write_private(&path, content.as_bytes())?,
            false => pki::write_public(&path, content.as_bytes())?,
        }
    }
    Ok(())
}

/// Asks to be let in, again while the servers cannot.
async fn ask(client: &kube::Client, candidate: &Candidate) -> anyhow::Result<Admission> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let request = http::Request::post(admission::PATH)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(candidate)?)?;
        let error = match client.request::<Admission>(request).await {
            Ok(admission) => return Ok(admission),
            Err(error) => error,
        };
        let may_pass = match &error {
            kube::Error::Api(status) => status.code >= 500 || status.code == 429,
            kube::Error::Auth(_) | kube::Error::SerdeError(_) => false,
            _ => true,
        };
        if !may_pass || tokio::time::Instant::now() > deadline {
            return Err(error).context("join the cluster");
        }
        tracing::info!(%error, "the cluster cannot take this machine in yet");
        tokio::time::sleep(RETRY).await;
    }
}
