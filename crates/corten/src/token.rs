//! `corten token`: what machines show that want to join.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, PostParams};

use crate::certs::Certificates;
use crate::components::duration;
use crate::join::{CONTROL_PLANES, NODES, SECRET_PREFIX, SECRET_TYPE, TOKEN_NAMESPACE, Token};
use crate::layout::Layout;
use crate::say::say;
use crate::settings::Settings;

/// What to do with tokens.
#[derive(Subcommand)]
pub enum Command {
    /// Make a token and print it
    Create {
        /// The token to make, six and sixteen characters with a dot between [default: a random one]
        token: Option<Token>,
        /// How long it is good for; 0 for ever
        #[arg(long, default_value = "24h", value_parser = duration)]
        ttl: Duration,
        /// Lets machines join as control planes: whoever has it can act as the cluster's authority
        #[arg(long)]
        control_plane: bool,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// Print the command that joins a control plane
        #[arg(long)]
        print_join_command: bool,
    },
    /// List tokens, without their secret parts
    List,
    /// Delete tokens, by id or whole
    Delete {
        /// Ids or tokens
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

/// Runs `command` on the running cluster in `layout`.
pub fn run(layout: &Layout, command: Command) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let client = client::from_kubeconfig(&layout.kubeconfig(), "corten")?;
        let secrets: Api<Secret> = Api::namespaced(client, TOKEN_NAMESPACE);
        match command {
            Command::Create { token, ttl, control_plane, description, print_join_command } => {
                if print_join_command && !control_plane {
                    bail!("corten has no command that joins workers: give --control-plane, or leave out --print-join-command");
                }
                let token = token.map_or_else(Token::generate, Ok)?;
                create(&secrets, &token, ttl, control_plane, &description).await?;
                match print_join_command {
                    true => say!("{}", join_command(layout, &token)?),
                    false => say!("{}", token.full()),
                }
                Ok(())
            }
            Command::List => list(&secrets).await,
            Command::Delete { tokens } => {
                for token in tokens {
                    let id = token.split('.').next().unwrap_or_default();
                    let name = format!("{SECRET_PREFIX}{id}");
                    secrets
                        .delete(&name, &DeleteParams::default())
                        .await
                        .with_context(|| format!("token {id}"))?;
                    say!("token {id} deleted");
                }
                Ok(())
            }
        }
    })
}

/// The groups of who shows a token.
pub fn groups(control_plane: bool) -> &'static [&'static str] {
    if control_plane { &[NODES, CONTROL_PLANES] } else { &[NODES] }
}

async fn create(
    secrets: &Api<Secret>,
    token: &Token,
    ttl: Duration,
    control_plane: bool,
    description: &str,
) -> anyhow::Result<()> {
    let object = token.object(ttl, groups(control_plane), description);
    let secret: Secret = serde_json::from_value(object)?;
    secrets.create(&PostParams::default(), &secret).await.with_context(|| format!("token {}", token.id()))?;
    Ok(())
}

/// What to type on a machine that is to become a control plane.
fn join_command(layout: &Layout, token: &Token) -> anyhow::Result<String> {
    let settings = Settings::read(layout)?.context("there is no cluster yet")?;
    let hash = pki::public_key_hash(&Certificates::new(layout).authority())?;
    let (address, port) = (settings.node_address(), settings.secure_port);
    Ok(format!("corten server --join https://{address}:{port} --token {} --ca-hash {hash}", token.full()))
}

async fn list(secrets: &Api<Secret>) -> anyhow::Result<()> {
    let params = ListParams::default().fields(&format!("type={SECRET_TYPE}"));
    say!("{:<8} {:<22} {:<15} DESCRIPTION", "ID", "EXPIRES", "JOINS");
    for secret in secrets.list(&params).await? {
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| {
            data.get(key).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default()
        };
        let expires = text("expiration");
        let joins =
            if text("auth-extra-groups").contains(CONTROL_PLANES) { "control planes" } else { "workers" };
        let expires = if expires.is_empty() { "never" } else { &expires };
        say!("{:<8} {expires:<22} {joins:<15} {}", text("token-id"), text("description"));
    }
    Ok(())
}
