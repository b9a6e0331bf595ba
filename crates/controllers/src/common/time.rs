//! Timestamps as objects carry them: whole seconds.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// The wall clock, cut to whole seconds as it will be stored.
pub fn now() -> Timestamp {
    whole_seconds(Timestamp::now())
}

/// Cuts away what the API does not store.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// `at` as an object carries it.
pub fn time(at: Timestamp) -> Option<Time> {
    Some(Time(at))
}

/// `to - from`; negative when `to` is earlier.
pub fn since(from: Timestamp, to: Timestamp) -> SignedDuration {
    to.duration_since(from)
}

/// `at` moved by `seconds`, held within what a timestamp can say.
pub fn plus_seconds(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// How long from `now` until `at`; zero if that has passed.
pub fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(since(now, at)).unwrap_or(Duration::ZERO)
}

/// The earlier of two delays, of which either may be absent.
pub fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
