//! `/containerLogs/{namespace}/{pod}/{container}`.

use std::path::PathBuf;
use std::time::Duration;

use http::{Response, StatusCode};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::answer::{self, Body};
use super::route::{Query, first, flag};
use super::{Server, containers};
use crate::cri::ContainerState;
use crate::logs::{LogOptions, stream};
use crate::pod::PodView;

/// Pieces of a log on their way to the client.
const BUFFER: usize = 4;

/// Sends the log.
pub fn container(
    server: &Server,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Response<Body> {
    let options = match options(query, server.shared.now().0) {
        Ok(options) => options,
        Err(text) => return answer::text(StatusCode::BAD_REQUEST, text),
    };
    let Some(view) = server.registry.find(namespace, pod) else {
        return answer::text(
            StatusCode::NOT_FOUND,
            format!("pod {pod:?} not found in namespace {namespace:?}"),
        );
    };
    let found = containers::for_log(&view.borrow(), container, flag(query, "previous"));
    let record = match found {
        Ok(record) => record,
        Err((status, text)) => return answer::text(status, text),
    };
    let path = PathBuf::from(&record.log_path);
    if !path.exists() {
        let text = format!("failed to open log file {:?}: no such file or directory", path.display());
        return answer::text(StatusCode::INTERNAL_SERVER_ERROR, text);
    }
    let (sender, receiver) = mpsc::channel(BUFFER);
    let ended = ended(view, record.id.clone());
    server.shared.scope.spawn(async move {
        if let Err(error) = stream(path, options, sender, ended).await {
            tracing::debug!(%error, container = record.id, "log not sent to its end");
        }
    });
    answer::stream(receiver)
}

/// Waits until the container no longer runs.
async fn ended(mut view: watch::Receiver<PodView>, id: String) {
    let runs = |view: &PodView| {
        view.observed.containers.iter().any(|c| c.id == id && c.state == ContainerState::Running)
    };
    // An error says that the pod is gone.
    let _ = view.wait_for(|view| !runs(view)).await;
}

fn options(query: &Query, now: Timestamp) -> Result<LogOptions, String> {
    let number = |name: &str| -> Result<Option<u64>, String> {
        let parse = |text: &str| text.parse::<u64>().map_err(|_| format!("invalid value {text:?} of {name}"));
        first(query, name).map(parse).transpose()
    };
    let since_time = first(query, "sinceTime")
        .map(|text| text.parse::<Timestamp>().map_err(|e| format!("sinceTime {text:?}: {e}")))
        .transpose()?;
    let since_seconds = number("sinceSeconds")?.and_then(|s| now.checked_sub(Duration::from_secs(s)).ok());
    if number("limitBytes")? == Some(0) {
        return Err("limitBytes: must be greater than 0".to_owned());
    }
    Ok(LogOptions {
        follow: flag(query, "follow"),
        tail_lines: number("tailLines")?,
        since: since_time.or(since_seconds),
        timestamps: flag(query, "timestamps"),
        limit_bytes: number("limitBytes")?,
        stderr: match first(query, "stream") {
            Some("Stdout") => Some(false),
            Some("Stderr") => Some(true),
            None | Some("All") => None,
            Some(other) => return Err(format!("invalid stream {other:?}")),
        },
    })
}
