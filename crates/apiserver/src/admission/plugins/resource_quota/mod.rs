//! ResourceQuota: what a namespace may hold. The usage is written in the transaction that stores the object which it
//! counts, so neither concurrent writes nor failed ones can make it wrong.

mod scopes;
mod usage;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use base::Quantity;
use parking_lot::Mutex;
use schema::Value;
use store::Entry;

use self::usage::Evaluator;
use super::pod_amounts::{self, Amounts};
use crate::admission::{Admission, Attributes, Operation};
use crate::registry::{Registry, Rider, meta, stored};
use crate::status::{ApiError, ApiResult};

type NamespaceLock = Arc<tokio::sync::Mutex<()>>;
/// Namespaces in whose locks nobody may wait are forgotten when there are more than this.
const MAX_IDLE_LOCKS: usize = 1024;

/// See the module.
#[derive(Default)]
pub struct ResourceQuota {
    /// Writes that are counted go one after the other in each namespace that has a quota: they would only meet at the
    /// quota's entry and be tried again.
    locks: Mutex<HashMap<String, NamespaceLock>>,
}

impl ResourceQuota {
    fn lock_of(&self, namespace: &str) -> NamespaceLock {
        let mut locks = self.locks.lock();
        if locks.len() > MAX_IDLE_LOCKS {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        locks.entry(namespace.to_owned()).or_default().clone()
    }
}

#[async_trait]
impl Admission for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn charge(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let is_namespace =
            attributes.resource.group.is_empty() && attributes.resource.resource == "namespaces";
        if attributes.namespace.is_empty() || is_namespace {
            return Ok(());
        }
        let Some(evaluator) = Evaluator::of(attributes) else { return Ok(()) };
        let Some(served) = registry.stored_resource("", "resourcequotas") else { return Ok(()) };
        if registry.entries(&served, Some(attributes.namespace))?.is_empty() {
            return Ok(());
        }
        if !attributes.dry_run {
            let guard = self.lock_of(attributes.namespace).lock_owned().await;
            attributes.held.push(Box::new(guard));
        }
        let now = meta::parse_time(&registry.now()).unwrap_or(0);
        for entry in registry.entries(&served, Some(attributes.namespace))? {
            let quota = stored::memo(&entry).decode(&entry)?;
            if let Some(used) = charged(&quota, &evaluator, attributes, now)?
                && !attributes.dry_run
            {
                attributes.riders.push(rider(registry, &served, &entry, quota, &used)?);
            }
        }
        Ok(())
    }
}

fn rider(
    registry: &Registry,
    served: &crate::registry::Served,
    entry: &Entry,
    mut quota: Value,
    used: &Amounts,
) -> ApiResult<Rider> {
    let list: schema::Map =
        schema::Map::from_unsorted(used.iter().map(|(k, v)| (k.into(), v.to_string().into())).collect());
    quota.set("status.used", Value::Map(list));
    let (namespace, name) = (meta::namespace(&quota).to_owned(), meta::name(&quota).to_owned());
    Rider::put(registry, served, (&namespace, &name), &quota, entry.mod_revision)
}

/// What is used once the object is stored; None if the quota does not count it, or what is counted does not change.
fn charged(
    quota: &Value,
    evaluator: &Evaluator,
    attributes: &Attributes<'_>,
    now: i64,
) -> ApiResult<Option<Amounts>> {
    let object = &attributes.object;
    let hard = pod_amounts::read(quota.at("status.hard"));
    let mut used = pod_amounts::read(quota.at("status.used"));
    let names: Vec<&String> = hard.keys().filter(|name| evaluator.counts(name)).collect();
    if names.is_empty() || !evaluator.in_scopes(quota, object) {
        return Ok(None);
    }
    let quota_name = meta::name(quota);
    if let Some(missing) = evaluator.missing(&names, object) {
        return Err(attributes.forbidden(format!("failed quota: {quota_name}: must specify {missing}")));
    }
    let listed = || names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",");
    if names.iter().any(|name| !used.contains_key(*name)) {
        let words = format!("status unknown for quota: {quota_name}, resources: {}", listed());
        return Err(attributes.forbidden(words));
    }
    let mut asked = evaluator.usage(object, now);
    let negative: Vec<&str> =
        asked.iter().filter(|(_, q)| q.sign() < 0).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        let words = format!("quota usage is negative for resource(s): {}", negative.join(","));
        return Err(attributes.forbidden(words));
    }
    if attributes.operation == Operation::Update && evaluator.in_scopes(quota, attributes.old_object) {
        let before = evaluator.usage(attributes.old_object, now);
        for (name, amount) in &mut asked {
            let before = before.get(name).copied().unwrap_or(Quantity::ZERO);
            *amount = if *amount > before { *amount - before } else { Quantity::ZERO };
        }
    }
    asked.retain(|name, amount| !amount.is_zero() && hard.contains_key(name));
    if asked.is_empty() {
        return Ok(None);
    }
    let total = |name: &str| used.get(name).copied().unwrap_or(Quantity::ZERO);
    let exceeded: Vec<&String> = asked
        .iter()
        .filter(|(name, amount)| hard.get(*name).is_some_and(|hard| total(name) + **amount > *hard))
        .map(|(name, _)| name)
        .collect();
    if !exceeded.is_empty() && attributes.subresource != "status" {
        return Err(refusal(attributes, quota_name, &exceeded, [&asked, &used, &hard]));
    }
    for (name, amount) in &asked {
        pod_amounts::add(&mut used, name, *amount);
    }
    Ok(Some(used))
}

fn refusal(
    attributes: &Attributes<'_>,
    quota: &str,
    exceeded: &[&String],
    [asked, used, hard]: [&Amounts; 3],
) -> ApiError {
    let shown = |from: &Amounts| {
        let one = |name: &&String| Some(format!("{name}={}", from.get(*name)?));
        exceeded.iter().filter_map(one).collect::<Vec<_>>().join(",")
    };
    attributes.forbidden(format!(
        "exceeded quota: {quota}, requested: {}, used: {}, limited: {}",
        shown(asked),
        shown(used),
        shown(hard)
    ))
}

#[cfg(test)]
mod tests;
