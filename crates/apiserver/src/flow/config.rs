//! The configuration that FlowSchema and PriorityLevelConfiguration objects make.

use std::collections::BTreeMap;
use std::sync::Arc;

use schema::Value;

use super::level::{Level, Limits, Queuing};
use super::text;

/// One FlowSchema.
#[derive(Debug, Clone)]
pub struct FlowSchema {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub precedence: i64,
    /// Its level.
    pub level: String,
    /// What makes a flow of its requests.
    pub by: Distinguisher,
    /// `spec.rules`.
    pub rules: Vec<Value>,
}

/// `spec.distinguisherMethod.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distinguisher {
    /// All requests are one flow.
    None,
    User,
    Namespace,
}

/// Schemas in the order in which they are asked, and levels by name.
pub struct Config {
    pub schemas: Vec<Arc<FlowSchema>>,
    pub levels: BTreeMap<String, Arc<Level>>,
    /// What requests that no schema wants get; the mandatory ones if the objects are missing.
    pub catch_all: (Arc<FlowSchema>, Arc<Level>),
}

fn schema_of(object: &Value) -> FlowSchema {
    let by = match text(object, "spec.distinguisherMethod.type") {
        "ByUser" => Distinguisher::User,
        "ByNamespace" => Distinguisher::Namespace,
        _ => Distinguisher::None,
    };
    FlowSchema {
        name: text(object, "metadata.name").into(),
        uid: text(object, "metadata.uid").into(),
        precedence: object.int_at("spec.matchingPrecedence").unwrap_or(1000),
        level: text(object, "spec.priorityLevelConfiguration.name").to_owned(),
        by,
        rules: object.items_at("spec.rules").to_vec(),
    }
}

/// `spec.limited` or `spec.exempt` of a level.
struct Shares {
    nominal: u64,
    lendable_percent: u64,
    borrowing_percent: Option<u64>,
}

fn shares_of(object: &Value) -> Shares {
    let exempt = text(object, "spec.type") == "Exempt";
    let spec = &object["spec"][if exempt { "exempt" } else { "limited" }];
    let number = |field: &str| spec.int_at(field).and_then(|n| u64::try_from(n).ok());
    Shares {
        nominal: number("nominalConcurrencyShares").unwrap_or(if exempt { 0 } else { 30 }),
        lendable_percent: number("lendablePercent").unwrap_or(0).min(100),
        borrowing_percent: number("borrowingLimitPercent"),
    }
}

/// Seats of a level: its part of all by shares, what it keeps in any case, and what it may have at most.
fn limits_of(shares: &Shares, all_shares: u64, seats: u32) -> Limits {
    let total = u64::from(seats);
    let nominal = (total * shares.nominal).div_ceil(all_shares.max(1));
    let lendable = (nominal * shares.lendable_percent + 50) / 100;
    let most = shares
        .borrowing_percent
        .map_or(total, |percent| (nominal + (nominal * percent + 50) / 100).min(total));
    let seats = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Limits { nominal: seats(nominal), least: seats(nominal - lendable), most: seats(most.max(nominal)) }
}

fn queuing_of(object: &Value) -> Option<Queuing> {
    let response = &object["spec"]["limited"]["limitResponse"];
    if text(response, "type") != "Queue" {
        return None;
    }
    let number = |field: &str, otherwise: usize| {
        let given = response["queuing"].int_at(field).and_then(|n| usize::try_from(n).ok());
        given.filter(|n| *n > 0).unwrap_or(otherwise)
    };
    let queues = number("queues", 64);
    Some(Queuing { queues, hand: number("handSize", 8).min(queues), length: number("queueLengthLimit", 50) })
}

impl Config {
    /// What holds without any object: everybody is in `catch-all`.
    pub fn mandatory(seats: u32) -> Self {
        Self::read(&[], &[], seats, None)
    }

    /// Of the objects. Levels that `before` has keep their requests and queues.
    pub fn read(schemas: &[Arc<Value>], levels: &[Arc<Value>], seats: u32, before: Option<&Self>) -> Self {
        let all_shares = levels.iter().map(|level| shares_of(level).nominal).sum();
        let mut made: BTreeMap<String, Arc<Level>> = BTreeMap::new();
        for object in levels {
            let name = text(object, "metadata.name");
            let exempt = text(object, "spec.type") == "Exempt";
            let uid = text(object, "metadata.uid");
            let old = before.and_then(|config| config.levels.get(name)).filter(|old| &*old.uid == uid);
            let level = match old.filter(|old| old.is_exempt() == exempt) {
                Some(old) => old.clone(),
                None => Arc::new(Level::new(name, uid, exempt)),
            };
            level.configure(limits_of(&shares_of(object), all_shares, seats), queuing_of(object));
            made.insert(name.to_owned(), level);
        }
        let mut schemas: Vec<Arc<FlowSchema>> =
            schemas.iter().map(|object| Arc::new(schema_of(object))).collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        schemas.retain(|schema| made.contains_key(&schema.level));
        let catch_all = Self::last_resort(&schemas, &mut made, seats);
        Self { schemas, levels: made, catch_all }
    }

    fn last_resort(
        schemas: &[Arc<FlowSchema>],
        levels: &mut BTreeMap<String, Arc<Level>>,
        seats: u32,
    ) -> (Arc<FlowSchema>, Arc<Level>) {
        let level = levels.entry("catch-all".to_owned()).or_insert_with(|| {
            let level = Arc::new(Level::new("catch-all", "", false));
            level.configure(Limits { nominal: seats, least: seats, most: seats }, None);
            level
        });
        let schema = schemas.iter().find(|schema| &*schema.name == "catch-all").cloned();
        let schema = schema.unwrap_or_else(|| {
            Arc::new(FlowSchema {
                name: "catch-all".into(),
                uid: "".into(),
                precedence: 10_000,
                level: "catch-all".to_owned(),
                by: Distinguisher::User,
                rules: Vec::new(),
            })
        });
        (schema, level.clone())
    }
}
