//! The CNI plugins: bridge, host-local, portmap and loopback.
//!
//! A container runtime runs them as programs, by the CNI protocol; see [`main`]. They keep no state but the addresses
//! in `host-local`'s directory and what the kernel itself holds, work in the network namespace that they are run in,
//! and know nothing of Kubernetes.

mod addr;
mod bridge;
mod config;
mod host_local;
mod loopback;
mod masquerade;
mod port_rules;
mod portmap;
mod protocol;
mod result;

use std::io::{Read, Write};

pub use addr::Cidr;
pub use protocol::{Env, Error};

use config::NetConf;
use protocol::{Command, Request, SUPPORTED_VERSIONS};

/// The plugins, by the names that a network configuration's `type` has for them.
pub const PLUGINS: [&str; 4] = ["bridge", "host-local", "portmap", "loopback"];

/// Does what the environment and standard input ask of the plugin, as the CNI specification 0.3.0 to 1.1.0 has it, and
/// writes the answer. Gives the exit code: 0, or 1 with an error object as the answer.
pub fn main(plugin: &str, env: &Env<'_>, stdin: &mut dyn Read, stdout: &mut dyn Write) -> i32 {
    let mut version = SUPPORTED_VERSIONS[SUPPORTED_VERSIONS.len() - 1].to_owned();
    let (answer, code) = match run(plugin, env, stdin, &mut version) {
        Ok(answer) => (answer, 0),
        Err(error) => (Some(error.to_json(&version)), 1),
    };
    let written = answer.map_or(Ok(()), |answer| writeln!(stdout, "{answer}").and_then(|()| stdout.flush()));
    // The caller has gone away: there is nobody to tell.
    if written.is_ok() { code } else { 1 }
}

fn run(
    plugin: &str,
    env: &Env<'_>,
    stdin: &mut dyn Read,
    version: &mut String,
) -> Result<Option<String>, Error> {
    let command = Command::parse(env)?;
    let mut input = Vec::new();
    let limited = &mut stdin.take(config::MAX_CONFIG_BYTES);
    limited.read_to_end(&mut input).map_err(|error| Error::io("read the configuration", &error))?;
    if command == Command::Version {
        return Ok(Some(protocol::version_answer(&input)));
    }
    let conf = NetConf::parse(&input)?;
    version.clone_from(&conf.cni_version);
    let request = Request::parse(command, env)?;
    dispatch(plugin, &request, &conf)
}

fn dispatch(plugin: &str, request: &Request, conf: &NetConf) -> Result<Option<String>, Error> {
    request.check_version(&conf.cni_version)?;
    let result = match plugin {
        "bridge" => bridge::run(request, conf)?,
        "host-local" => host_local::run(request, conf)?,
        "portmap" => portmap::run(request, conf)?,
        "loopback" => loopback::run(request, conf)?,
        other => {
            return Err(Error::config(format!("there is no plugin {other:?} here: {}", PLUGINS.join(", "))));
        }
    };
    Ok(result.map(|result| result.to_json(&conf.cni_version)))
}

/// Removes what the plugins leave for the next pod of a network: its bridge and its rules, in this thread's network
/// namespace. For the end of a cluster; what is not there is no error.
pub fn remove_network(name: &str, bridge: &str) -> Result<(), Error> {
    masquerade::remove(name)?;
    port_rules::remove(name)?;
    netlink::route::RouteSocket::open()?.delete_link(bridge)?;
    Ok(())
}
