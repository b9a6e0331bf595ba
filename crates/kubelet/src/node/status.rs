//! The status of a node from facts: a pure function.

use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Machine;
use crate::pod::resources::{Amounts, ResourceList};

/// What is short on the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk space or inodes.
    pub disk: bool,
    /// Process numbers.
    pub pids: bool,
}

/// What the runtime says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeFacts {
    /// Why the node cannot run pods; empty if it can.
    pub not_ready: Vec<String>,
    /// Handlers by name, and whether each mounts recursively read-only.
    pub handlers: Vec<(String, bool)>,
    /// True if it knows `supplementalGroupsPolicy`.
    pub groups_policy: bool,
}

/// What a status is made from.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// The node's name, its host name too.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// What it has.
    pub machine: Machine,
    /// What its system is.
    pub system: NodeSystemInfo,
    /// The port of its HTTPS API.
    pub port: u16,
    /// The runtime.
    pub runtime: RuntimeFacts,
    /// What is short.
    pub pressure: Pressure,
    /// Images, largest first.
    pub images: Vec<ContainerImage>,
    /// The time.
    pub now: Time,
}

/// The status; what `before` has of others stays.
pub fn node_status(before: Option<&NodeStatus>, facts: &NodeFacts) -> NodeStatus {
    let address =
        |kind: &str, address: &str| NodeAddress { type_: kind.to_owned(), address: address.to_owned() };
    let mut addresses: Vec<NodeAddress> =
        facts.addresses.iter().map(|ip| address("InternalIP", ip)).collect();
    addresses.push(address("Hostname", &facts.name));
    let mut status = before.cloned().unwrap_or_default();
    let extended = extended_resources(before, &facts.machine);
    let with_extended = |own: &Amounts| Some(list(own).into_iter().chain(extended.clone()).collect());
    status.capacity = with_extended(&facts.machine.capacity);
    status.allocatable = with_extended(&facts.machine.allocatable);
    status.addresses = Some(addresses);
    status.node_info = Some(facts.system.clone());
    status.daemon_endpoints =
        Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: facts.port.into() }) });
    status.images = Some(facts.images.clone());
    status.conditions = Some(conditions(before, facts));
    status.runtime_handlers = (!facts.runtime.handlers.is_empty()).then(|| handlers(&facts.runtime));
    status.features = Some(NodeFeatures { supplemental_groups_policy: Some(facts.runtime.groups_policy) });
    status
}

/// Resources that others say the node has, all of which pods may take.
fn extended_resources(before: Option<&NodeStatus>, machine: &Machine) -> ResourceList {
    let told = before.and_then(|b| b.capacity.clone()).unwrap_or_default();
    told.into_iter().filter(|(name, _)| name.contains('/') && !machine.capacity.contains_key(name)).collect()
}

fn list(amounts: &Amounts) -> ResourceList {
    amounts.iter().map(|(name, quantity)| (name.clone(), ApiQuantity(quantity.to_string()))).collect()
}

fn handlers(runtime: &RuntimeFacts) -> Vec<NodeRuntimeHandler> {
    let handler = |(name, recursive): &(String, bool)| NodeRuntimeHandler {
        name: Some(name.clone()),
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(*recursive),
            user_namespaces: Some(false),
        }),
    };
    runtime.handlers.iter().map(handler).collect()
}

fn conditions(before: Option<&NodeStatus>, facts: &NodeFacts) -> Vec<NodeCondition> {
    let Pressure { memory, disk, pids } = facts.pressure;
    let either = |holds: bool, yes: (&'static str, &'static str), no: (&'static str, &'static str)| {
        let (reason, message) = if holds { yes } else { no };
        (holds, reason.to_owned(), message.to_owned())
    };
    let ready = match facts.runtime.not_ready.as_slice() {
        [] => (true, "KubeletReady".to_owned(), "kubelet is posting ready status".to_owned()),
        [one] => (false, "KubeletNotReady".to_owned(), one.clone()),
        many => (false, "KubeletNotReady".to_owned(), format!("[{}]", many.join(", "))),
    };
    let own = [
        (
            "MemoryPressure",
            either(
                memory,
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ),
        ),
        (
            "DiskPressure",
            either(
                disk,
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ),
        ),
        (
            "PIDPressure",
            either(
                pids,
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ),
        ),
        ("Ready", ready),
    ];
    let old = before.and_then(|b| b.conditions.as_deref()).unwrap_or_default();
    let mut all: Vec<NodeCondition> =
        old.iter().filter(|c| !own.iter().any(|(kind, _)| c.type_ == *kind)).cloned().collect();
    for (kind, (holds, reason, message)) in own {
        let status = if holds { "True" } else { "False" };
        let since = old.iter().find(|c| c.type_ == kind && c.status == status);
        all.push(NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason),
            message: Some(message),
            last_heartbeat_time: Some(facts.now.clone()),
            last_transition_time: Some(
                since.and_then(|c| c.last_transition_time.clone()).unwrap_or_else(|| facts.now.clone()),
            ),
        });
    }
    all
}
