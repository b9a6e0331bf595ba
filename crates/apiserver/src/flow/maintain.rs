//! Follows FlowSchema and PriorityLevelConfiguration objects, says which schemas have no level, and lends seats.

use std::sync::Arc;
use std::time::Duration;

use schema::{Value, value};

use super::config::Config;
use super::{GROUP, borrowing, text};
use crate::core::Core;
use crate::registry::{Followed, Follower, Registry, Transform, meta};
use crate::status::ApiResult;

const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
/// How often seats are lent anew (`borrowingAdjustmentPeriod`).
const BORROWING_PERIOD: Duration = Duration::from_secs(10);
/// So many of those periods from one look at the server's own objects to the next (upstream: a minute).
const PERIODS_TO_KEEP_UP: u32 = 6;
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// Objects whose spec is not for users to change.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];
/// What a default server has.
const OBJECTS: &str = include_str!("../bootstrap/objects.json");
/// Changes so close together are looked at once when statuses are written.
const STATUS_DELAY: Duration = Duration::from_millis(500);

/// Starts the tasks, in the server's scope.
pub fn run(core: &Arc<Core>) {
    reload(core);
    for kind in [SCHEMAS, LEVELS] {
        if let Some(served) = core.registry.stored_resource(GROUP, kind) {
            core.scope.spawn(follow(core.clone(), core.registry.follow(&served)));
        }
    }
    core.scope.spawn(lend(core.clone()));
}

fn reload(core: &Core) {
    let read = |kind| core.registry.find_all(GROUP, kind, None);
    match (read(SCHEMAS), read(LEVELS)) {
        (Ok(schemas), Ok(levels)) => {
            let before = core.flow.config.load_full();
            let config = Config::read(&schemas, &levels, core.flow.seats, Some(&before));
            core.flow.config.store(Arc::new(config));
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(error = %error.message, "flow control objects cannot be read");
        }
    }
}

async fn follow(core: Arc<Core>, mut follower: Follower) {
    while let Some(followed) = follower.next().await {
        reload(&core);
        if matches!(followed, Followed::Changes(_)) {
            // Statuses are nobody's hurry, and several changes often come together.
            tokio::time::sleep(STATUS_DELAY).await;
            follower.skip_known();
            reload(&core);
        }
        if let Err(error) = say_dangling(&core.registry).await {
            tracing::debug!(error = %error.message, "status of a flow schema not written");
        }
    }
}

async fn lend(core: Arc<Core>) {
    let mut ticks = tokio::time::interval(BORROWING_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let own: Vec<serde_json::Value> = serde_json::from_str(OBJECTS).unwrap_or_default();
    let own: Vec<Value> = own.into_iter().map(Value::from).collect();
    for period in 0_u32.. {
        ticks.tick().await;
        borrowing::adjust(&core.flow.config.load(), core.flow.seats);
        if period % PERIODS_TO_KEEP_UP == 0
            && let Err(error) = keep_up(&core.registry, &own).await
        {
            tracing::warn!(error = %error.message, "flow control objects not kept up");
        }
    }
}

/// Brings back the server's own objects, and their specs unless users have taken them over.
async fn keep_up(registry: &Registry, own: &[Value]) -> ApiResult<()> {
    for object in own {
        let kind = match text(object, "kind") {
            "FlowSchema" => SCHEMAS,
            "PriorityLevelConfiguration" => LEVELS,
            _ => continue,
        };
        let Some(served) = registry.stored_resource(GROUP, kind) else { continue };
        let name = meta::name(object);
        let outcome = match registry.find(GROUP, kind, "", name)? {
            None => registry.own().create(&served, "", object.clone()).await,
            Some(live) if is_ours(&live) && live.get("spec") != object.get("spec") => {
                let transform = |live: Option<&Value>| {
                    let mut next = live.cloned().unwrap_or_default();
                    next.insert("spec", object["spec"].clone());
                    Ok(next)
                };
                let transform: &Transform<'_> = &transform;
                registry.own().update(&served, "", ("", name), transform).await
            }
            Some(_) => continue,
        };
        match outcome {
            Err(error) if error.code != 404 && error.code != 409 => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the server keeps the spec: mandatory objects, and others until their annotation says no.
fn is_ours(live: &Value) -> bool {
    let annotation = live.map_at("metadata.annotations").and_then(|a| a.get_str(AUTOUPDATE));
    match annotation {
        _ if MANDATORY.contains(&meta::name(live)) => true,
        Some(text) => text == "true",
        None => live.int_at("metadata.generation") == Some(1),
    }
}

/// Writes the condition `Dangling` of every schema that says it wrong.
async fn say_dangling(registry: &Registry) -> ApiResult<()> {
    let Some(served) = registry.stored_resource(GROUP, SCHEMAS) else { return Ok(()) };
    for schema in registry.find_all(GROUP, SCHEMAS, None)? {
        let level = text(&schema, "spec.priorityLevelConfiguration.name");
        let found = registry.find(GROUP, LEVELS, "", level)?.is_some();
        let status = if found { "False" } else { "True" };
        let conditions = schema.items_at("status.conditions");
        let said = conditions.iter().find(|c| c.str_at("type") == Some("Dangling"));
        if said.and_then(|c| c.str_at("status")) == Some(status) || meta::is_deleting(&schema) {
            continue;
        }
        let quoted = rules::quote(level);
        let begin =
            format!("This FlowSchema references the PriorityLevelConfiguration object named {quoted}");
        let (reason, message) = match found {
            true => ("Found", format!("{begin} and it exists")),
            false => ("NotFound", format!("{begin} but there is no such object")),
        };
        let condition = value!({"type": "Dangling", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": (registry.now())});
        let transform = |live: Option<&Value>| {
            let mut schema = live.cloned().unwrap_or_default();
            let conditions = schema.make_map().entry_map("status").entry_list("conditions");
            conditions.retain(|c| c.str_at("type") != Some("Dangling"));
            conditions.push(condition.clone());
            Ok(schema)
        };
        let transform: &Transform<'_> = &transform;
        match registry.own().update(&served, "status", ("", meta::name(&schema)), transform).await {
            Err(error) if error.code != 404 && error.code != 409 => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
