//! Where a connecting request goes.

use http::Uri;
use rules::{FieldError, Path};
use schema::{Value, value};

use super::{pairs_of, query_text, uri};
use crate::api::Call;
use crate::registry::meta;
use crate::status::{ApiError, ApiResult, GroupResource};

/// The kubelet's port when its node does not say (`ports.KubeletPort`).
const KUBELET_PORT: u16 = 10250;

/// How the other end is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS, any certificate (pods and services behind a proxy).
    Https,
    /// TLS with the kubelet client's identity.
    Kubelet,
}

/// The other end, and what it is asked.
pub struct Location {
    /// How.
    pub scheme: Scheme,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub uri: Uri,
}

impl Location {
    /// `host:port`, as in a URL.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The options of a connecting request as admission sees them.
pub fn options_value(call: &Call<'_>) -> Value {
    let kind = call.core.registry.resource(&call.info.group, &call.info.version, &call.info.resource);
    let kind = kind.and_then(|k| k.resource.subresource(&call.info.subresource).map(|s| s.kind.kind.clone()));
    let mut options = value!({"kind": (kind.unwrap_or_default()), "apiVersion": "v1"});
    for (key, text) in call.query.pairs() {
        match key.as_str() {
            "stdin" | "stdout" | "stderr" | "tty" => options.insert(key.as_str(), call.query.flag(key)),
            "command" => options.insert("command", call.query.all("command").collect::<Vec<_>>()),
            _ => options.insert(key.as_str(), text.as_str()),
        };
    }
    options
}

fn no_host(pod: &Value) -> ApiError {
    ApiError::bad_request(format!("pod {} does not have a host assigned", meta::name(pod)))
}

fn node_of(pod: &Value) -> Option<&str> {
    pod.str_at("spec.nodeName").filter(|n| !n.is_empty())
}

/// What the query of pods/log may say (`ValidatePodLogOptions`).
pub fn check_log_options(call: &Call<'_>) -> ApiResult<()> {
    let number = |name: &str| -> ApiResult<Option<i64>> {
        let Some(text) = call.query.get(name).filter(|t| !t.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            let text = rules::quote(text);
            ApiError::bad_request(format!("strconv.ParseInt: parsing {text}: invalid syntax"))
        })
    };
    let (tail, limit, since) = (number("tailLines")?, number("limitBytes")?, number("sinceSeconds")?);
    let mut errors = Vec::new();
    if let Some(tail) = tail.filter(|n| *n < 0) {
        errors.push(FieldError::invalid(&Path::new("tailLines"), tail, "must be greater than or equal to 0"));
    }
    if let Some(limit) = limit.filter(|n| *n < 1) {
        errors.push(FieldError::invalid(&Path::new("limitBytes"), limit, "must be greater than 0"));
    }
    if since.is_some() && call.query.get("sinceTime").is_some_and(|t| !t.is_empty()) {
        let words = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&Path::new(""), words));
    } else if let Some(since) = since.filter(|n| *n < 1) {
        errors.push(FieldError::invalid(&Path::new("sinceSeconds"), since, "must be greater than 0"));
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid("", "PodLogOptions", &call.info.name, &errors)),
    }
}

/// pods/log; `None` while the pod has no node.
pub fn log(call: &Call<'_>, pod: &Value) -> ApiResult<Option<Location>> {
    const PASSED: [&str; 9] = [
        "follow",
        "previous",
        "timestamps",
        "sinceSeconds",
        "sinceTime",
        "tailLines",
        "limitBytes",
        "stream",
        "pretty",
    ];
    let container = container(call, pod)?;
    let Some(node) = node_of(pod) else { return Ok(None) };
    let path = format!("/containerLogs/{}/{}/{container}", meta::namespace(pod), meta::name(pod));
    let query = query_text(&pairs_of(call.query, &PASSED[..8]));
    kubelet(call, node, uri(&path, &query)?).map(Some)
}

/// pods/exec and pods/attach.
pub fn streams(call: &Call<'_>, pod: &Value, what: &str) -> ApiResult<Location> {
    let container = container(call, pod)?;
    let node = node_of(pod).ok_or_else(|| no_host(pod))?;
    let path = format!("/{what}/{}/{}/{container}", meta::namespace(pod), meta::name(pod));
    let flags = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    // Without a word upstream's options have stdout and stderr on.
    let on = |name: &str| match call.query.get(name) {
        None => matches!(name, "stdout" | "stderr"),
        Some(_) => call.query.flag(name),
    };
    let mut pairs: Vec<(&str, &str)> =
        flags.iter().filter(|(name, _)| on(name)).map(|(_, name)| (*name, "1")).collect();
    pairs.extend(call.query.all("command").map(|c| ("command", c)));
    kubelet(call, node, uri(&path, &query_text(&pairs))?)
}

/// pods/portforward
pub fn port_forward(call: &Call<'_>, pod: &Value) -> ApiResult<Location> {
    let node = node_of(pod).ok_or_else(|| no_host(pod))?;
    let path = format!("/portForward/{}/{}", meta::namespace(pod), meta::name(pod));
    let query =
        query_text(&pairs_of(call.query, &["ports"]).iter().map(|(_, v)| ("port", *v)).collect::<Vec<_>>());
    kubelet(call, node, uri(&path, &query)?)
}

/// The container meant, which may be left out when there is one.
fn container(call: &Call<'_>, pod: &Value) -> ApiResult<String> {
    let names = |list: &str| -> Vec<String> {
        pod["spec"].items_at(list).iter().filter_map(|c| c.str_at("name")).map(str::to_owned).collect()
    };
    let containers = names("containers");
    let (init, ephemeral) = (names("initContainers"), names("ephemeralContainers"));
    let name = meta::name(pod);
    match call.query.get("container").filter(|c| !c.is_empty()) {
        Some(asked) if [&containers, &init, &ephemeral].iter().any(|l| l.iter().any(|c| c == asked)) => {
            Ok(asked.to_owned())
        }
        Some(asked) => Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}"))),
        None => match containers.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(ApiError::bad_request(format!("a container name must be specified for pod {name}"))),
            several => {
                let mut words = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    several.join(" ")
                );
                for (kind, list) in [("init", &init), ("ephemeral", &ephemeral)] {
                    if !list.is_empty() {
                        words.push_str(&format!(" or one of the {kind} containers: [{}]", list.join(" ")));
                    }
                }
                Err(ApiError::bad_request(words))
            }
        },
    }
}

/// The kubelet of a node.
fn kubelet(call: &Call<'_>, node: &str, uri: Uri) -> ApiResult<Location> {
    let object = call.core.registry.require("", "nodes", "", node)?;
    let (host, port) = kubelet_address(&object, &call.core.options.kubelet_preferred_address_types)
        .ok_or_else(|| {
            ApiError::internal(format!("no preferred addresses found; known addresses: [] (node {node})"))
        })?;
    Ok(Location { scheme: Scheme::Kubelet, host, port, uri })
}

fn kubelet_address(node: &Value, preferred: &[String]) -> Option<(String, u16)> {
    let addresses = node.items_at("status.addresses");
    let host = preferred.iter().find_map(|wanted| {
        let found = addresses.iter().find(|a| a.str_at("type") == Some(wanted))?;
        found.str_at("address").filter(|a| !a.is_empty())
    })?;
    let port = node.int_at("status.daemonEndpoints.kubeletEndpoint.Port").and_then(|p| u16::try_from(p).ok());
    Some((host.to_owned(), port.filter(|p| *p > 0).unwrap_or(KUBELET_PORT)))
}

/// How much of the path is before what the other end knows: all up to `/proxy`.
pub fn prefix<'a>(call: &'a Call<'_>) -> &'a str {
    let path = call.parts.uri.path();
    let marker = "/proxy";
    let below = path
        .find(&format!("/{}{marker}", call.info.name))
        .map(|at| at + call.info.name.len() + 1 + marker.len());
    let below = below.or_else(|| path.find(marker).map(|at| at + marker.len())).unwrap_or(path.len());
    &path[..below]
}

/// The rest of the path, with everything the client said in the query.
fn rest(call: &Call<'_>) -> ApiResult<Uri> {
    let rest = &call.parts.uri.path()[prefix(call).len()..];
    let rest = if rest.is_empty() { "/" } else { rest };
    uri(rest, call.parts.uri.query().unwrap_or_default())
}

/// `[SCHEME:]NAME[:PORT]`
fn split_name(name: &str) -> Option<(&str, &str, &str)> {
    match name.split(':').collect::<Vec<_>>()[..] {
        [name] => Some(("", name, "")),
        [name, port] => Some(("", name, port)),
        [scheme, name, port] => Some((scheme, name, port)),
        _ => None,
    }
}

fn scheme_of(text: &str) -> Scheme {
    if text == "https" { Scheme::Https } else { Scheme::Http }
}

/// pods/proxy
pub fn pod(call: &Call<'_>, namespace: &str) -> ApiResult<Location> {
    let (scheme, name, port) = split_name(&call.info.name).ok_or_else(|| {
        ApiError::bad_request(format!("invalid pod request {}", rules::quote(&call.info.name)))
    })?;
    let pod = call.core.registry.require("", "pods", namespace, name)?;
    let port = match port {
        "" => pod
            .items_at("spec.containers")
            .iter()
            .flat_map(|c| c.items_at("ports"))
            .find_map(|p| p.int_at("containerPort"))
            .unwrap_or(80),
        text => text.parse().map_err(|_| ApiError::bad_request(format!("invalid port {text}")))?,
    };
    let host = pod.str_at("status.podIP").unwrap_or_default();
    check_address(host)?;
    Ok(Location {
        scheme: scheme_of(scheme),
        host: host.to_owned(),
        port: port_number(port)?,
        uri: rest(call)?,
    })
}

fn port_number(port: i64) -> ApiResult<u16> {
    u16::try_from(port).map_err(|_| ApiError::bad_request(format!("invalid port {port}")))
}

/// Only addresses of the pod network may be reached, not the server's own host.
fn check_address(host: &str) -> ApiResult<()> {
    let allowed = host.parse::<std::net::IpAddr>().is_ok_and(|ip| {
        let link_local = match ip {
            std::net::IpAddr::V4(ip) => ip.is_link_local(),
            std::net::IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0) == 0xfe80,
        };
        !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !link_local
    });
    if allowed { Ok(()) } else { Err(ApiError::bad_request("address not allowed")) }
}

/// services/proxy: any ready endpoint.
pub fn service(call: &Call<'_>, namespace: &str) -> ApiResult<Location> {
    let (scheme, name, port) = split_name(&call.info.name).ok_or_else(|| {
        ApiError::bad_request(format!("invalid service request {}", rules::quote(&call.info.name)))
    })?;
    let registry = &call.core.registry;
    let service = registry.require("", "services", namespace, name)?;
    let wanted = service_port(&service, port).ok_or_else(|| {
        ApiError::unavailable(format!(
            "no service port {} found for service {}",
            rules::quote(port),
            rules::quote(name)
        ))
    })?;
    let mut found: Vec<(String, i64)> = Vec::new();
    for slice in registry.find_all("discovery.k8s.io", "endpointslices", Some(namespace))? {
        if slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str() != Some(name) {
            continue;
        }
        let named = |p: &&Value| p.str_at("name").unwrap_or_default() == wanted;
        let Some(port) = slice.items_at("ports").iter().find(named).and_then(|p| p.int_at("port")) else {
            continue;
        };
        for endpoint in slice.items_at("endpoints") {
            if endpoint.bool_at("conditions.ready") != Some(false) {
                let address = endpoint.items_at("addresses").first().and_then(Value::as_str);
                found.extend(address.map(|a| (a.to_owned(), port)));
            }
        }
    }
    if found.is_empty() {
        return Err(ApiError::unavailable(format!(
            "no endpoints available for service {}",
            rules::quote(name)
        )));
    }
    let (host, port) = found.swap_remove(crate::service::random_below(found.len()));
    Ok(Location { scheme: scheme_of(scheme), host, port: port_number(port)?, uri: rest(call)? })
}

/// The name of the service's port meant: by name, by number, or the first.
fn service_port(service: &Value, wanted: &str) -> Option<String> {
    let ports = service.items_at("spec.ports");
    let name = |p: &Value| p.str_at("name").unwrap_or_default().to_owned();
    match wanted {
        "" => ports.first().map(name),
        text => ports
            .iter()
            .find(|p| {
                p.str_at("name") == Some(text)
                    || p.int_at("port").map(|n| n.to_string()).as_deref() == Some(text)
            })
            .map(name),
    }
}

/// nodes/proxy: the kubelet's own API.
pub fn node(call: &Call<'_>) -> ApiResult<Location> {
    let (scheme, name, port) = split_name(&call.info.name).ok_or_else(|| {
        ApiError::bad_request(format!("invalid node request {}", rules::quote(&call.info.name)))
    })?;
    let mut location = kubelet(call, name, rest(call)?).map_err(|error| match error.code {
        404 => ApiError::not_found(GroupResource::new("", "nodes"), name),
        _ => error,
    })?;
    if !port.is_empty() {
        let asked = port.parse().map_err(|_| ApiError::bad_request(format!("invalid port {port}")))?;
        if port_number(asked)? != location.port {
            location.scheme = scheme_of(scheme);
            location.port = port_number(asked)?;
        }
    }
    Ok(location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_are_found_by_preference() {
        let node = value!({"status": {
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}}
        }});
        let prefer = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            kubelet_address(&node, &prefer(&["ExternalIP", "InternalIP"])),
            Some(("10.0.0.1".to_owned(), 10251))
        );
        assert_eq!(kubelet_address(&node, &prefer(&["Hostname"])), Some(("n1".to_owned(), 10251)));
        assert_eq!(kubelet_address(&Value::map(), &prefer(&["Hostname"])), None);
        assert!(
            check_address("127.0.0.1").is_err()
                && check_address("").is_err()
                && check_address("10.1.1.1").is_ok()
        );
    }
}
