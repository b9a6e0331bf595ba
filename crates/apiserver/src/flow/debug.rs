//! The pages below `/debug/api_priority_and_fairness/`: comma separated, as upstream has them.

use std::fmt::Write;

use super::config::Config;
use super::level::Refusal;

/// Requests listed at most.
const MAX_REQUESTS: usize = 10_000;

/// The name of the page at a path, if it is one of these.
pub fn is_dump(path: &str) -> Option<&str> {
    let page = path.strip_prefix("/debug/api_priority_and_fairness/")?;
    matches!(page, "dump_priority_levels" | "dump_queues" | "dump_requests").then_some(page)
}

/// The text of a page.
pub fn dump(config: &Config, page: &str) -> Option<String> {
    match page {
        "dump_priority_levels" => Some(levels(config)),
        "dump_queues" => Some(queues(config)),
        "dump_requests" => Some(requests(config)),
        _ => None,
    }
}

fn levels(config: &Config) -> String {
    let mut out =
        "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, \
                   DispatchedRequests, RejectedRequests, TimedoutRequests, CancelledRequests\n"
            .to_owned();
    for level in config.levels.values() {
        let state = level.state.lock();
        let active =
            state.queues.facts().filter(|(waiting, executing, _)| *waiting > 0 || *executing > 0).count();
        let rejected = level.counters.total_rejected(Refusal::ConcurrencyLimit)
            + level.counters.total_rejected(Refusal::QueueFull);
        let _ = writeln!(
            out,
            "{}, {active}, {}, false, {}, {}, {}, {rejected}, {}, 0",
            level.name,
            state.executing == 0 && active == 0,
            state.queues.waiting(),
            state.executing,
            level.counters.total_dispatched(),
            level.counters.total_rejected(Refusal::TimeOut),
        );
    }
    out
}

fn queues(config: &Config) -> String {
    let mut out = "PriorityLevelName, Index, PendingRequests, ExecutingRequests, SeatsInUse, NextDispatchR\n"
        .to_owned();
    for level in config.levels.values() {
        let state = level.state.lock();
        for (at, (waiting, executing, next)) in state.queues.facts().enumerate() {
            let _ = writeln!(out, "{}, {at}, {waiting}, {executing}, {executing}, {next:.6}ss", level.name);
        }
    }
    out
}

fn requests(config: &Config) -> String {
    let mut out =
        "PriorityLevelName, FlowSchemaName, QueueIndex, RequestIndexInQueue, WaitingSeconds, InitialSeats\n"
            .to_owned();
    for level in config.levels.values() {
        let state = level.state.lock();
        for (queue, place, seats, ticket) in state.queues.waiting_items().take(MAX_REQUESTS) {
            let waiting = ticket.since.elapsed().as_secs_f64();
            let _ =
                writeln!(out, "{}, {}, {queue}, {place}, {waiting:.3}, {seats}", level.name, ticket.schema);
        }
    }
    out
}
