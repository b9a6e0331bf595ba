//! The way to kubelets and pods: logs, exec, attach, port-forward, proxy.

use std::sync::Arc;

use http::Response;

use crate::api::Call;
use crate::http::Body;
use crate::registry::Served;
use crate::request::RequestInfo;
use crate::status::{ApiError, ApiResult};

/// How kubelets are reached.
#[derive(Default)]
pub struct KubeletClient {}

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
}

/// Connects.
pub async fn serve(call: &Call<'_>, served: &Arc<Served>, connect: Connect, body: Body) -> ApiResult<Response<Body>> {
    let _ = (call, served, connect, body);
    Err(ApiError::not_implemented("connecting subresources"))
}
