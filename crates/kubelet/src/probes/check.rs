//! One look of a probe at its container.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};

use super::{grpc, http};
use crate::cri::Cri;

/// Longest output of a command kept for the event (upstream `maxReadLength`).
const OUTPUT_LIMIT: usize = 10 << 10;

/// What one look found; the error says what is wrong.
pub type Look = Result<(), String>;

/// Looks once.
pub async fn look(cri: &Cri, probe: &Probe, container: &Container, container_id: &str, pod_ip: &str) -> Look {
    let timeout = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1) as u64);
    if let Some(exec) = &probe.exec {
        return exec_look(cri, container_id, exec.command.clone().unwrap_or_default(), timeout).await;
    }
    if let Some(get) = &probe.http_get {
        let target = http::target(get, container, pod_ip)?;
        let answer = http::get(&target, "kube-probe/1.36", timeout).await?;
        return match answer.status {
            200..400 => Ok(()),
            status => Err(format!("HTTP probe failed with statuscode: {status}")),
        };
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
        let port = http::port(&tcp.port, container)?;
        return match tokio::time::timeout(timeout, http::dial(host, port)).await {
            Ok(connected) => connected.map(drop),
            Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
        };
    }
    if let Some(action) = &probe.grpc {
        let port = u16::try_from(action.port).map_err(|_| format!("invalid port number: {}", action.port))?;
        return grpc::check(pod_ip, port, action.service.as_deref().unwrap_or_default(), timeout).await;
    }
    Err("missing probe handler".to_owned())
}

async fn exec_look(cri: &Cri, id: &str, command: Vec<String>, timeout: Duration) -> Look {
    let shown = command.join(" ");
    let answer = tokio::time::timeout(timeout, cri.exec_sync(id.to_owned(), command, timeout)).await;
    let timed_out = || format!("command timed out: {shown:?} timed out after {}s", timeout.as_secs());
    match answer {
        Err(_) => Err(timed_out()),
        Ok(Err(error)) if error.code == tonic::Code::DeadlineExceeded => Err(timed_out()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(answer)) if answer.exit_code == 0 => Ok(()),
        Ok(Ok(answer)) => {
            let mut output = [&answer.stdout[..], &answer.stderr[..]].concat();
            output.truncate(OUTPUT_LIMIT);
            Err(String::from_utf8_lossy(&output).into_owned())
        }
    }
}
