//! Marks ranges of service addresses as ready, and keeps them while addresses hang on them (upstream's
//! service-cidr-controller, KEP-1880).

use std::net::IpAddr;
use std::time::Duration;

use client::{ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR, ServiceCIDRStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Api;
use kube::api::PostParams;

use crate::Error;
use crate::common::watching::watch_keys;
use crate::common::{api, time};
use crate::context::Context;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";
const READY_WORDS: &str = "Kubernetes Service CIDR is ready";
const TERMINATING: &str = "Terminating";
const TERMINATING_WORDS: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
/// So long after its deletion a range stays, for API servers to hear of it (`deletionGracePeriod`).
const DELETION_GRACE: Duration = Duration::from_secs(10);

/// What is to be done about a range.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    /// Add the finalizer.
    Hold,
    /// Write this condition.
    Say {
        ready: bool,
    },
    /// Look again.
    Wait(Duration),
    /// Remove the finalizer.
    Release,
}

/// The first step for a range; `deleted_for` since when it is being deleted, `needed` if addresses hang on it alone.
fn plan(range: &ServiceCIDR, deleted_for: Option<Duration>, needed: bool) -> Step {
    let held = range.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER);
    let says = range.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let says = says.filter(|c| c.type_ == READY).map(|c| c.status == "True").next();
    match deleted_for {
        None if !held => Step::Hold,
        None if says != Some(true) => Step::Say { ready: true },
        None => Step::Nothing,
        Some(_) if !held => Step::Nothing,
        Some(_) if needed && says != Some(false) => Step::Say { ready: false },
        Some(_) if needed => Step::Nothing,
        Some(since) if since < DELETION_GRACE => Step::Wait(DELETION_GRACE.saturating_sub(since)),
        Some(_) => Step::Release,
    }
}

/// Whether `ip` lies in `cidr`.
fn contains(cidr: &str, ip: IpAddr) -> bool {
    let Some((base, prefix)) = cidr.split_once('/') else { return false };
    let (Ok(base), Ok(prefix)) = (base.parse::<IpAddr>(), prefix.parse::<u32>()) else { return false };
    match (base, ip) {
        (IpAddr::V4(base), IpAddr::V4(ip)) => {
            let shift = 32_u32.saturating_sub(prefix);
            (u64::from(u32::from(base)) >> shift) == (u64::from(u32::from(ip)) >> shift)
        }
        (IpAddr::V6(base), IpAddr::V6(ip)) => {
            let shift = 128_u32.saturating_sub(prefix);
            shift >= 128 || (u128::from(base) >> shift) == (u128::from(ip) >> shift)
        }
        _ => false,
    }
}

fn cidrs(range: &ServiceCIDR) -> impl Iterator<Item = &String> {
    range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten())
}

/// Whether an address lies in this range and in no other that stays.
fn is_needed(range: &ServiceCIDR, others: &[&ServiceCIDR], addresses: &[IpAddr]) -> bool {
    let within = |range: &ServiceCIDR, ip: IpAddr| cidrs(range).any(|cidr| contains(cidr, ip));
    let stays = |other: &&&ServiceCIDR| {
        other.metadata.name != range.metadata.name && other.metadata.deletion_timestamp.is_none()
    };
    addresses
        .iter()
        .any(|ip| within(range, *ip) && !others.iter().filter(stays).any(|other| within(other, *ip)))
}

fn condition(ready: bool) -> Condition {
    let (status, reason, message) = match ready {
        true => ("True", "", READY_WORDS),
        false => ("False", TERMINATING, TERMINATING_WORDS),
    };
    Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(time::whole_seconds(time::now())),
        observed_generation: None,
    }
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let ranges = context.informers.get::<ServiceCIDR>();
    let addresses = context.informers.get::<IPAddress>();
    let queue = WorkQueue::new("service-cidr");
    watch_keys(&ranges, &queue);
    // What is said of one range may change what holds for those that overlap it.
    let (of_ranges, cache) = (queue.clone(), ranges.cache());
    let all = move || {
        let going = cache.list().into_iter().filter(|range| range.metadata.deletion_timestamp.is_some());
        going.for_each(|range| of_ranges.add(ObjectKey::of(range.as_ref())));
    };
    let on_range = all.clone();
    ranges.on_event(move |_| on_range());
    addresses.on_event(move |_| all());
    ranges.synced().await;
    addresses.synced().await;
    let (ranges, addresses, client) = (ranges.cache(), addresses.cache(), context.client.clone());
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let range = ranges.get_key(&key);
        let client = client.clone();
        let step = range.as_ref().map_or(Step::Nothing, |range| {
            let deleted_for = range
                .metadata
                .deletion_timestamp
                .as_ref()
                .map(|at| Duration::try_from(time::since(at.0, time::now())).unwrap_or_default());
            let all = ranges.list();
            let all: Vec<&ServiceCIDR> = all.iter().map(AsRef::as_ref).collect();
            let taken: Vec<IpAddr> = addresses
                .list()
                .iter()
                .filter_map(|address| address.metadata.name.as_ref()?.parse().ok())
                .collect();
            plan(range, deleted_for, is_needed(range, &all, &taken))
        });
        async move {
            match range {
                Some(range) => act(client, &range, step).await,
                None => Ok(Outcome::Done),
            }
        }
    });
    Ok(())
}

async fn act(client: kube::Client, range: &ServiceCIDR, step: Step) -> Result<Outcome, Error> {
    let ranges: Api<ServiceCIDR> = Api::all(client);
    let name = range.metadata.name.clone().unwrap_or_default();
    let mut wanted = range.clone();
    let written = match step {
        Step::Nothing => return Ok(Outcome::Done),
        Step::Wait(time) => return Ok(Outcome::RequeueAfter(time)),
        Step::Hold => {
            wanted.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            ranges.replace(&name, &PostParams::default(), &wanted).await
        }
        Step::Release => {
            wanted.metadata.finalizers.iter_mut().for_each(|all| all.retain(|f| f != FINALIZER));
            ranges.replace(&name, &PostParams::default(), &wanted).await
        }
        Step::Say { ready } => {
            let status = wanted.status.get_or_insert_with(ServiceCIDRStatus::default);
            let conditions = status.conditions.get_or_insert_default();
            conditions.retain(|c| c.type_ != READY);
            conditions.push(condition(ready));
            ranges.replace_status(&name, &PostParams::default(), &wanted).await
        }
    };
    api::ignore_not_found(written)?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::json;

    fn range(name: &str, cidr: &str, more: serde_json::Value) -> ServiceCIDR {
        let mut range = json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}});
        range.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object(range)
    }

    #[test]
    fn ranges_are_held_and_then_said_to_be_ready() {
        let bare = range("a", "10.0.0.0/24", json!({}));
        assert_eq!(plan(&bare, None, false), Step::Hold);
        let held = json!({"metadata": {"name": "a", "finalizers": [FINALIZER]}});
        let held = range("a", "10.0.0.0/24", held);
        assert_eq!(plan(&held, None, false), Step::Say { ready: true });
        assert_eq!(plan(&held, Some(Duration::from_secs(60)), true), Step::Say { ready: false });
        assert_eq!(plan(&held, Some(Duration::from_secs(1)), false), Step::Wait(Duration::from_secs(9)));
        assert_eq!(plan(&held, Some(Duration::from_secs(60)), false), Step::Release);
        assert_eq!(plan(&bare, Some(Duration::from_secs(60)), true), Step::Nothing);
        let mut ready = held.clone();
        ready.status = Some(ServiceCIDRStatus { conditions: Some(vec![condition(true)]) });
        assert_eq!(plan(&ready, None, false), Step::Nothing);
    }

    #[test]
    fn an_address_needs_a_range_unless_another_has_it() {
        let (small, large) = (range("s", "10.0.0.0/24", json!({})), range("l", "10.0.0.0/16", json!({})));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(is_needed(&small, &[&small], &[ip("10.0.0.7")]));
        assert!(!is_needed(&small, &[&small, &large], &[ip("10.0.0.7")]));
        assert!(!is_needed(&small, &[&small], &[ip("10.0.1.7"), ip("fd00::1")]));
        assert!(contains("fd00::/64", ip("fd00::1")) && !contains("fd00::/64", ip("fd01::1")));
    }
}
