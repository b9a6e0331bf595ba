//! Which path is answered by what.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::access::{Peer, Refusal};
use super::answer::{self, Body};
use super::{Server, logs, metrics, pods, stats, streams};

/// The parameters of a request, each with all its values.
pub type Query = BTreeMap<String, Vec<String>>;

/// Answers a request.
pub async fn answer(server: Arc<Server>, peer: Arc<Peer>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match server.access.check(&peer, request.headers(), request.method(), &path).await {
        Ok(_) => {}
        Err(Refusal::Unknown) => return answer::text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        Err(Refusal::Forbidden(text)) => return answer::text(StatusCode::FORBIDDEN, text),
        Err(Refusal::Failed(text)) => {
            tracing::warn!(error = text, "cannot check a request");
            return answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("Authorization error: {text}"));
        }
    }
    let query = parse_query(request.uri().query().unwrap_or_default());
    let decoded: Vec<String> = path.trim_matches('/').split('/').map(percent_decode).collect();
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match parts.as_slice() {
        ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] => answer::text(StatusCode::OK, "ok"),
        ["pods"] if reads => pods::list(&server),
        ["runningpods"] if reads => pods::running(&server).await,
        ["configz"] if reads => pods::configz(&server),
        ["stats", "summary"] => stats::summary(&server).await,
        ["metrics"] if reads => metrics::kubelet(&server),
        ["metrics", "resource"] if reads => metrics::resource(&server).await,
        ["containerLogs", namespace, pod, container] if reads => {
            logs::container(&server, namespace, pod, container, &query)
        }
        ["exec", rest @ ..] | ["attach", rest @ ..] | ["portForward", rest @ ..] => {
            streams::open(server.clone(), parts[0], rest, &query, request).await
        }
        ["run", rest @ ..] if request.method() == Method::POST => streams::run(&server, rest, &query).await,
        ["checkpoint", ..] => {
            answer::text(StatusCode::NOT_IMPLEMENTED, "checkpoint: container checkpoints are not supported")
        }
        ["logs", ..] => answer::text(StatusCode::NOT_IMPLEMENTED, "logs: node log files are not served"),
        ["metrics", "cadvisor" | "probes"] => {
            answer::text(StatusCode::NOT_IMPLEMENTED, format!("{path}: these metrics are not collected"))
        }
        _ => answer::text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

fn parse_query(text: &str) -> Query {
    let mut query = Query::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        query.entry(decode(key)).or_default().push(decode(value));
    }
    query
}

/// The first value of a parameter.
pub fn first<'q>(query: &'q Query, name: &str) -> Option<&'q str> {
    query.get(name).and_then(|values| values.first()).map(String::as_str).filter(|v| !v.is_empty())
}

/// True if a parameter says yes.
pub fn flag(query: &Query, name: &str) -> bool {
    first(query, name).is_some_and(|v| matches!(v, "1" | "true" | "True" | "TRUE" | "t" | "T"))
}

fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex =
            bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = parse_query("command=sh&command=-c&command=echo+a%26b&input=1&tty=&x");
        assert_eq!(query["command"], ["sh", "-c", "echo a&b"]);
        assert!(flag(&query, "input") && !flag(&query, "tty") && !flag(&query, "none"));
    }
}
