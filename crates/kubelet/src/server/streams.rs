//! `/exec`, `/attach`, `/portForward`: streams that the runtime serves, and `/run`.

use std::sync::Arc;
use std::time::Duration;

use http::header::UPGRADE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use proto::cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};

use super::answer::{self, Body};
use super::route::{Query, flag};
use super::{Server, containers, tunnel};
use crate::cri::CriError;

/// Opens a stream to `namespace/pod[/uid]/container` (`container` is absent for ports).
pub async fn open(
    server: Arc<Server>,
    what: &str,
    path: &[&str],
    query: &Query,
    request: Request<Incoming>,
) -> Response<Body> {
    if !request.headers().contains_key(UPGRADE) {
        return answer::text(StatusCode::BAD_REQUEST, "Upgrade request required");
    }
    let url = match (what, path) {
        ("portForward", [namespace, pod] | [namespace, pod, _]) => {
            port_forward(&server, namespace, pod, query).await
        }
        ("exec", [namespace, pod, container] | [namespace, pod, _, container]) => {
            exec(&server, namespace, pod, container, query).await
        }
        ("attach", [namespace, pod, container] | [namespace, pod, _, container]) => {
            attach(&server, namespace, pod, container, query).await
        }
        _ => Err((StatusCode::NOT_FOUND, "404 page not found".to_owned())),
    };
    match url {
        Ok(url) => tunnel::pass_on(&server.shared.scope, &url, request).await,
        Err((status, text)) => answer::text(status, text),
    }
}

type Url = Result<String, containers::Missing>;

fn refused(error: CriError) -> containers::Missing {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// What of standard input, output and error is wanted; with a terminal, errors come with the output.
fn wanted(query: &Query) -> Result<(bool, bool, bool, bool), containers::Missing> {
    let any = |names: [&str; 2]| names.iter().any(|name| flag(query, name));
    let (stdin, stdout) = (any(["input", "stdin"]), any(["output", "stdout"]));
    let tty = flag(query, "tty");
    let stderr = any(["error", "stderr"]) && !tty;
    if !stdin && !stdout && !stderr {
        let text = "you must specify at least 1 of stdin, stdout, stderr".to_owned();
        return Err((StatusCode::BAD_REQUEST, text));
    }
    Ok((stdin, stdout, stderr, tty))
}

async fn exec(server: &Server, namespace: &str, pod: &str, container: &str, query: &Query) -> Url {
    let record = containers::running(server, namespace, pod, container)?;
    let (stdin, stdout, stderr, tty) = wanted(query)?;
    let request = ExecRequest {
        container_id: record.id,
        cmd: query.get("command").cloned().unwrap_or_default(),
        tty,
        stdin,
        stdout,
        stderr,
        ..Default::default()
    };
    server.shared.cri.exec(request).await.map(|answer| answer.url).map_err(refused)
}

async fn attach(server: &Server, namespace: &str, pod: &str, container: &str, query: &Query) -> Url {
    let record = containers::running(server, namespace, pod, container)?;
    let (stdin, stdout, stderr, tty) = wanted(query)?;
    let request = AttachRequest { container_id: record.id, stdin, tty, stdout, stderr, ..Default::default() };
    server.shared.cri.attach(request).await.map(|answer| answer.url).map_err(refused)
}

async fn port_forward(server: &Server, namespace: &str, pod: &str, query: &Query) -> Url {
    let view = containers::pod(server, namespace, pod)?;
    let Some(sandbox) = view.observed.ready_sandbox() else {
        return Err((StatusCode::NOT_FOUND, format!("pod {pod:?} has no sandbox")));
    };
    let ports = query.get("port").into_iter().chain(query.get("ports")).flatten();
    let port = ports.flat_map(|list| list.split(',')).filter_map(|p| p.parse().ok()).collect();
    let request = PortForwardRequest { pod_sandbox_id: sandbox.id.clone(), port };
    server.shared.cri.port_forward(request).await.map(|answer| answer.url).map_err(refused)
}

/// Runs a command and answers with its output.
pub async fn run(server: &Server, path: &[&str], query: &Query) -> Response<Body> {
    let ([namespace, pod, container] | [namespace, pod, _, container]) = path else {
        return answer::text(StatusCode::NOT_FOUND, "404 page not found");
    };
    let record = match containers::running(server, namespace, pod, container) {
        Ok(record) => record,
        Err((status, text)) => return answer::text(status, text),
    };
    let command = query.get("cmd").and_then(|c| c.first()).cloned().unwrap_or_default();
    let words = command.split_whitespace().map(str::to_owned).collect();
    match server.shared.cri.exec_sync(record.id, words, Duration::ZERO).await {
        Ok(answer) => {
            let output = [&answer.stdout[..], &answer.stderr[..]].concat();
            let status =
                if answer.exit_code == 0 { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
            answer::with_type(status, "text/plain", output.into())
        }
        Err(error) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
