//! What is counted beside requests, under upstream's names.
//!
//! These belong to the process, as upstream's registry does: API servers in one process count together.

use super::family::{Counters, Histograms};

/// Upstream's bounds of latencies, in seconds.
const LATENCIES: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// Upstream's bounds of admission, in seconds.
const ADMISSION: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
/// Upstream's bounds of webhooks, in seconds.
const WEBHOOKS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Upstream's bounds of authentication and authorization, in seconds.
const CHECKS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];
/// Sizes of watch events, in bytes.
const EVENT_SIZES: &[f64] = &[1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131072.0];
/// Sizes of answers, in bytes.
const RESPONSE_SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// A step of admission, all plugins together.
pub static ADMISSION_STEP: Histograms = Histograms::new(
    "apiserver_admission_step_admission_duration_seconds",
    "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step \
     type (validate or admit).",
    &["operation", "rejected", "type"],
    ADMISSION,
);
/// One plugin.
pub static ADMISSION_CONTROLLER: Histograms = Histograms::new(
    "apiserver_admission_controller_admission_duration_seconds",
    "Admission controller latency histogram in seconds, identified by name and broken out for each operation and \
     API resource and type (validate or admit).",
    &["name", "operation", "rejected", "type"],
    ADMISSION,
);
/// One call of a webhook.
pub static ADMISSION_WEBHOOK: Histograms = Histograms::new(
    "apiserver_admission_webhook_admission_duration_seconds",
    "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API \
     resource and type (validate or admit).",
    &["name", "operation", "rejected", "type"],
    WEBHOOKS,
);
/// Calls of webhooks by the code that they answered with.
pub static ADMISSION_WEBHOOK_REQUESTS: Counters = Counters::new(
    "apiserver_admission_webhook_request_total",
    "Admission webhook request total, identified by name and broken out for each admission type (validating or \
     mutating) and operation.",
    &["code", "name", "operation", "rejected", "type"],
);
/// What webhooks refused, or what was refused because of them.
pub static ADMISSION_WEBHOOK_REJECTIONS: Counters = Counters::new(
    "apiserver_admission_webhook_rejection_count",
    "Admission webhook rejection count, identified by name and broken out for each admission type (validating or \
     admit) and operation.",
    &["error_type", "name", "operation", "rejection_code", "type"],
);
/// Failures of webhooks that were passed over.
pub static ADMISSION_WEBHOOK_FAIL_OPEN: Counters = Counters::new(
    "apiserver_admission_webhook_fail_open_count",
    "Admission webhook fail open count, identified by name and broken out for each admission type (validating or \
     mutating).",
    &["name", "type"],
);
/// Requests by whether it was found out who asks.
pub static AUTHENTICATION_ATTEMPTS: Counters =
    Counters::new("authentication_attempts", "Counter of authenticated attempts.", &["result"]);
/// How long that took.
pub static AUTHENTICATION_DURATION: Histograms = Histograms::new(
    "authentication_duration_seconds",
    "Authentication duration in seconds broken out by result.",
    &["result"],
    CHECKS,
);
/// Requests by kind of user.
pub static AUTHENTICATED_REQUESTS: Counters = Counters::new(
    "authenticated_user_requests",
    "Counter of authenticated requests broken out by username.",
    &["username"],
);
/// Requests by whether they were allowed.
pub static AUTHORIZATION_ATTEMPTS: Counters = Counters::new(
    "authorization_attempts_total",
    "Counter of authorization attempts broken down by result.",
    &["result"],
);
/// How long that took.
pub static AUTHORIZATION_DURATION: Histograms = Histograms::new(
    "authorization_duration_seconds",
    "Authorization duration in seconds broken out by result.",
    &["result"],
    CHECKS,
);
/// Writes and lists of the store; it stands where upstream's etcd stands.
pub static STORE_DURATION: Histograms = Histograms::new(
    "etcd_request_duration_seconds",
    "Etcd request latency in seconds for each operation and object type.",
    &["group", "operation", "resource"],
    LATENCIES,
);
/// The same, counted.
pub static STORE_REQUESTS: Counters = Counters::new(
    "etcd_requests_total",
    "Etcd request counts for each operation and object type.",
    &["group", "operation", "resource"],
);
/// Those that failed.
pub static STORE_ERRORS: Counters = Counters::new(
    "etcd_request_errors_total",
    "Etcd failed request counts for each operation and object type.",
    &["group", "operation", "resource"],
);
/// Events sent to watchers.
pub static WATCH_EVENTS: Counters = Counters::new(
    "apiserver_watch_events_total",
    "Number of events sent in watch clients.",
    &["group", "resource", "version"],
);
/// How large they were.
pub static WATCH_EVENT_SIZES: Histograms = Histograms::new(
    "apiserver_watch_events_sizes",
    "Watch event size distribution in bytes.",
    &["group", "resource", "version"],
    EVENT_SIZES,
);
/// From the begin of a watch to the end of its initial events.
pub static WATCH_LIST_DURATION: Histograms = Histograms::new(
    "apiserver_watch_list_duration_seconds",
    "Response latency distribution in seconds for watch list requests broken by group, version, resource and scope.",
    &["group", "resource", "scope", "version"],
    LATENCIES,
);
/// Sizes of answers to reads.
pub static RESPONSES: Histograms = Histograms::new(
    "apiserver_response_sizes",
    "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
    &["component", "group", "resource", "scope", "subresource", "verb", "version"],
    RESPONSE_SIZES,
);

/// Writes all of them.
pub fn render(out: &mut String) {
    for histograms in [
        &ADMISSION_STEP,
        &ADMISSION_CONTROLLER,
        &ADMISSION_WEBHOOK,
        &AUTHENTICATION_DURATION,
        &AUTHORIZATION_DURATION,
        &STORE_DURATION,
        &WATCH_EVENT_SIZES,
        &WATCH_LIST_DURATION,
        &RESPONSES,
    ] {
        histograms.render(out);
    }
    for counters in [
        &ADMISSION_WEBHOOK_REQUESTS,
        &ADMISSION_WEBHOOK_REJECTIONS,
        &ADMISSION_WEBHOOK_FAIL_OPEN,
        &AUTHENTICATION_ATTEMPTS,
        &AUTHENTICATED_REQUESTS,
        &AUTHORIZATION_ATTEMPTS,
        &STORE_REQUESTS,
        &STORE_ERRORS,
        &WATCH_EVENTS,
    ] {
        counters.render(out);
    }
}
