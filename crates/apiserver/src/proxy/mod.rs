//! The way to kubelets and pods: logs, exec, attach, port-forward, proxy.

mod dial;
mod forward;
pub(crate) mod hop;
mod kubelet;
mod location;
mod log_socket;
mod rewrite;

use std::sync::Arc;

use http::{Method, Response, Uri};
use schema::Value;

use crate::admission::Operation;
use crate::api::Call;
use crate::authz::{Attributes, forbidden};
use crate::http::Body;
use crate::registry::stored::memo;
use crate::registry::{Served, WriteOptions};
use crate::request::{Query, RequestInfo};
use crate::status::{ApiError, ApiResult};

pub(crate) use dial::open;
pub use kubelet::KubeletClient;
use location::Location;

/// Subresources that connect the client to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// pods/log
    Log,
    /// pods/exec
    Exec,
    /// pods/attach
    Attach,
    /// pods/portforward
    PortForward,
    /// pods/proxy
    PodProxy,
    /// services/proxy
    ServiceProxy,
    /// nodes/proxy
    NodeProxy,
}

impl Connect {
    /// How this request connects, if it does.
    pub fn of(served: &Served, info: &RequestInfo) -> Option<Self> {
        if !served.resource.group.is_empty() {
            return None;
        }
        Some(match (served.resource.plural.as_str(), info.subresource.as_str()) {
            ("pods", "log") => Self::Log,
            ("pods", "exec") => Self::Exec,
            ("pods", "attach") => Self::Attach,
            ("pods", "portforward") => Self::PortForward,
            ("pods", "proxy") => Self::PodProxy,
            ("services", "proxy") => Self::ServiceProxy,
            ("nodes", "proxy") => Self::NodeProxy,
            _ => return None,
        })
    }

    fn is_proxy(self) -> bool {
        matches!(self, Self::PodProxy | Self::ServiceProxy | Self::NodeProxy)
    }

    fn is_stream(self) -> bool {
        matches!(self, Self::Exec | Self::Attach | Self::PortForward)
    }
}

/// Connects the client.
pub async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    connect: Connect,
    body: Body,
) -> ApiResult<Response<Body>> {
    check_method(call, connect)?;
    if connect == Connect::Log {
        location::check_log_options(call)?;
    }
    let (namespace, name) = (call.namespace(served), call.info.name.as_str());
    let object = match connect {
        // Names of services and pods behind a proxy may hold a scheme and a port.
        Connect::PodProxy | Connect::ServiceProxy | Connect::NodeProxy => Value::Null,
        _ => {
            let entry = call.core.registry.get(served, namespace, name, "").await?;
            memo(&entry).decode(&entry)?
        }
    };
    if connect != Connect::Log {
        admit(call, served).await?;
    }
    let location = match connect {
        Connect::Log => match location::log(call, &object)? {
            Some(location) => location,
            None => return Ok(no_content()),
        },
        Connect::Exec => location::streams(call, &object, "exec")?,
        Connect::Attach => location::streams(call, &object, "attach")?,
        Connect::PortForward => location::port_forward(call, &object)?,
        Connect::PodProxy => location::pod(call, namespace)?,
        Connect::ServiceProxy => location::service(call, namespace)?,
        Connect::NodeProxy => location::node(call)?,
    };
    let socket = match connect {
        Connect::Log => log_socket::agree(&call.parts.headers)?,
        _ => None,
    };
    if connect.is_proxy()
        && is_bare(call)
        && let Some(elsewhere) = rewrite::to_folder(&call.parts.uri)
    {
        return Ok(elsewhere);
    }
    let response = forward::forward(call, &location, connect, body).await?;
    match socket {
        Some(agreed) => log_socket::answer(call, agreed, response.into_body()),
        None if connect.is_proxy() && response.status() != http::StatusCode::SWITCHING_PROTOCOLS => {
            let (our_host, their_host) = (forward::our_host(call).to_owned(), location.authority());
            let prefix = location::prefix(call).to_owned();
            Ok(rewrite::Rewrite { prefix, our_host, their_host }.answer(response).await)
        }
        None => Ok(response),
    }
}

/// True for a page's request that ends with `proxy`, without a slash.
fn is_bare(call: &Call<'_>) -> bool {
    location::prefix(call) == call.parts.uri.path()
        && matches!(call.parts.method, Method::GET | Method::HEAD)
        && hop::upgrade_of(&call.parts.headers).is_none()
}

fn check_method(call: &Call<'_>, connect: Connect) -> ApiResult<()> {
    let method = &call.parts.method;
    let allowed = match connect {
        Connect::Log => *method == Method::GET,
        connect if connect.is_stream() => matches!(*method, Method::GET | Method::POST),
        _ => true,
    };
    if allowed { Ok(()) } else { Err(ApiError::method_not_allowed()) }
}

/// Admission, and for WebSockets, which are always GET, the permission to create.
async fn admit(call: &Call<'_>, served: &Arc<Served>) -> ApiResult<()> {
    let websocket = hop::upgrade_of(&call.parts.headers).is_some_and(|u| u.eq_ignore_ascii_case("websocket"));
    if websocket && call.info.verb == "get" {
        let attributes = Attributes { verb: "create".to_owned(), ..Attributes::of(call.user, call.info) };
        let decision = call.core.authorizer.authorize(&attributes).await;
        if !decision.is_allowed() {
            return Err(forbidden(&attributes, &decision));
        }
    }
    let options = WriteOptions::default();
    let context = call.write_context(served, &options, &Value::Null);
    let object = location::options_value(call);
    let mut attributes = context.attributes(Operation::Connect, &call.info.name, object, &Value::Null);
    context.admit(&mut attributes).await?;
    context.validate_admission(&mut attributes).await
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(crate::http::body::empty());
    *response.status_mut() = http::StatusCode::NO_CONTENT;
    response
}

/// A query with these parameters.
pub(crate) fn query_text(pairs: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    (b as char).to_string()
                }
                b => format!("%{b:02X}"),
            })
            .collect()
    };
    pairs.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect::<Vec<_>>().join("&")
}

/// A path with a query as a URI.
pub(crate) fn uri(path: &str, query: &str) -> ApiResult<Uri> {
    let text = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    text.parse().map_err(|e| ApiError::bad_request(format!("path {path}: {e}")))
}

/// Parameters of the request by name, in order.
pub(crate) fn pairs_of<'a>(query: &'a Query, names: &[&str]) -> Vec<(&'a str, &'a str)> {
    query
        .pairs()
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect()
}

/// For tests of this module's parts.
impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}{}", self.host, self.port, self.uri)
    }
}
