//! Keeps managedFields right on every write, and merges applied configurations (`apimachinery/pkg/util/managedfields`).

mod error;
mod last_applied;
mod updater;

pub use error::{ApplyError, Conflict};

use std::borrow::Cow;

use schema::{Schema, SmolStr, Value};

use crate::equality::same;
use crate::fields::Set;
use crate::managed::{ManagedFields, Owned, Owner};
use crate::typed::{self, Duplicates, zero};
use updater::Updater;

/// Most owners by update; the oldest beyond it become one (`DefaultMaxUpdateManagers`).
const MAX_UPDATERS: usize = 10;
/// The name of the owner that those become.
const ANCIENT: &str = "ancient-changes";
/// The name of the owner of what an untracked object held before its first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Other versions of an object, for owners that own fields in those.
pub trait Versions {
    /// The object in `api_version` with its type; `None` when that version is not served (its owners are forgotten).
    fn convert(&self, object: &Value, api_version: &str) -> Option<(Schema, Value)>;
}

/// A kind with one version.
impl Versions for () {
    fn convert(&self, _: &Value, _: &str) -> Option<(Schema, Value)> {
        None
    }
}

/// Tracks who owns the fields of one kind of object, in the version of a request.
pub struct FieldManager<'a> {
    /// The type of the whole object in `api_version`.
    pub schema: &'a Schema,
    /// The version of the request, e.g. `apps/v1`.
    pub api_version: &'a str,
    /// The object's kind.
    pub kind: &'a str,
    /// The subresource that is written; empty for the object itself.
    pub subresource: &'a str,
    /// Fields that this request resets and so cannot own, e.g. `status` for the object itself (`GetResetFields`).
    pub reset_fields: &'a Set,
    /// How to get at other versions; `&()` when there are none.
    pub versions: &'a dyn Versions,
    /// The time of the request, RFC 3339 in seconds, UTC.
    pub now: SmolStr,
}

impl FieldManager<'_> {
    /// Records in `new` what `manager` changes by a create, update or patch of `live` (`None`: a create).
    ///
    /// `new` may carry managedFields of its own: a client may change them, or reset them with one empty entry. What
    /// cannot be read is replaced by what `live` has.
    pub fn update(&self, live: Option<&Value>, new: &mut Value, manager: &str) {
        let live_managed = || ManagedFields::decode(live.and_then(managed_of)).unwrap_or_default();
        let managed = match (self.subresource.is_empty(), managed_of(new)) {
            (true, Some(given)) if is_reset(given) => ManagedFields::default(),
            (true, given) => match ManagedFields::decode(given) {
                Ok(managed) if !managed.entries.is_empty() => managed,
                _ => live_managed(),
            },
            (false, _) => live_managed(),
        };
        remove_managed(new);
        // Objects that were never tracked stay so until the first apply.
        if managed.entries.is_empty() && live.is_some() {
            return;
        }
        let old = self.without_managed(live);
        let owner = Owner::updater(manager, self.api_version, self.subresource);
        let managed = self.track(&old, new, managed, owner);
        write_managed(new, cap_updaters(managed));
    }

    /// Merges `applied` into `live` (`None`: a create) for `manager`.
    ///
    /// Gives the object with its managedFields, neither defaulted nor validated. Fields that `manager` applied before
    /// and does not now are removed when no other applier owns them. Without `force`, other owners' fields with other
    /// values are conflicts.
    pub fn apply(
        &self,
        live: Option<&Value>,
        applied: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, ApplyError> {
        self.check_applied(applied)?;
        let mut managed =
            ManagedFields::decode(live.and_then(managed_of)).map_err(ApplyError::LiveManaged)?;
        let base = self.without_managed(live);
        if managed.entries.is_empty() && live.is_some() {
            let owner = Owner::updater(BEFORE_FIRST_APPLY, self.api_version, self.subresource);
            managed = self.track(&zero(self.schema.root()), &base, managed, owner);
        }
        let owner = Owner::applier(manager, self.subresource);
        let outcome = match self.merge(&base, applied, managed.clone(), &owner, force) {
            Err(ApplyError::Conflicts(conflicts)) if manager == "kubectl" => {
                let rest = last_applied::not_allowed(self.schema, &base, conflicts);
                if !rest.is_empty() {
                    return Err(ApplyError::Conflicts(rest));
                }
                self.merge(&base, applied, managed, &owner, true)?
            }
            outcome => outcome?,
        };
        let (changed, mut managed) = outcome;
        let mut object = match changed {
            Some(object) => {
                if let Some(owned) = managed.get_mut(&owner) {
                    owned.time = Some(self.now.clone());
                }
                object
            }
            None => base.into_owned(),
        };
        if manager == "kubectl" {
            last_applied::refresh(&mut object, applied);
        }
        write_managed(&mut object, managed);
        Ok(object)
    }

    fn check_applied(&self, applied: &Value) -> Result<(), ApplyError> {
        let text = |name: &str| applied.str_at(name).unwrap_or("");
        let (version, kind) = (text("apiVersion"), text("kind"));
        if version != self.api_version || kind != self.kind {
            return Err(ApplyError::WrongKind { version: version.into(), kind: kind.into() });
        }
        if managed_of(applied).is_some_and(|m| !m.is_null()) {
            return Err(ApplyError::AppliedManaged);
        }
        typed::validate(self.schema.root(), applied, Duplicates::Refused).map_err(|reason| {
            ApplyError::Invalid {
                // Go prints the empty group before its slash.
                what: format!(
                    "{}/{}; {}{version}, Kind={kind}",
                    text("metadata.namespace"),
                    text("metadata.name"),
                    if version.contains('/') { "" } else { "/" },
                ),
                reason,
            }
        })
    }

    /// The merged object, `None` when it is the same as before, and the new owners.
    fn merge(
        &self,
        live: &Value,
        applied: &Value,
        managed: ManagedFields,
        owner: &Owner,
        force: bool,
    ) -> Result<(Option<Value>, ManagedFields), ApplyError> {
        let (merged, mut managed) = self.updater().apply(live, applied, managed, owner, force)?;
        self.strip(&mut managed, owner);
        Ok(((!same(live, &merged)).then_some(merged), managed))
    }

    /// Lets `owner` own what differs, and others lose it.
    fn track(&self, old: &Value, new: &Value, managed: ManagedFields, owner: Owner) -> ManagedFields {
        let (mut managed, changed) = self.updater().update(old, new, managed);
        let changed = changed.recursive_difference(self.reset_fields).difference(&stripped());
        if !changed.is_empty() {
            let set = match managed.get(&owner) {
                Some(previous) => changed.union(&previous.set),
                None => changed,
            };
            let version = SmolStr::new(self.api_version);
            managed.put(Owned { owner, version, set, time: Some(self.now.clone()) });
        }
        managed
    }

    fn updater(&self) -> Updater<'_> {
        Updater {
            schema: self.schema,
            api_version: self.api_version,
            reset_fields: self.reset_fields,
            versions: self.versions,
        }
    }

    fn strip(&self, managed: &mut ManagedFields, owner: &Owner) {
        if let Some(owned) = managed.get_mut(owner) {
            owned.set = owned.set.difference(&stripped());
        }
        managed.drop_empty();
    }

    fn without_managed<'v>(&self, live: Option<&'v Value>) -> Cow<'v, Value> {
        match live {
            None => Cow::Owned(zero(self.schema.root())),
            Some(live) if managed_of(live).is_none() => Cow::Borrowed(live),
            Some(live) => {
                let mut live = live.clone();
                remove_managed(&mut live);
                Cow::Owned(live)
            }
        }
    }
}

/// If `new` differs from `old` in nothing but the times of its managedFields, gives it the old times, so that the
/// write changes nothing. `true` when it did.
pub fn keep_times_if_unchanged(old: &Value, new: &mut Value) -> bool {
    let (Some(old_managed), Some(new_managed)) = (managed_of(old), managed_of(new)) else { return false };
    let (before, after) = (old_managed.items(), new_managed.items());
    let equal_but_time = |a: &Value, b: &Value| {
        let rest = |v: &Value| v.entries().iter().filter(|(k, _)| k != "time").cloned().collect::<Vec<_>>();
        rest(a) == rest(b)
    };
    if before.len() != after.len() || !before.iter().zip(after).all(|(a, b)| equal_but_time(a, b)) {
        return false;
    }
    let given = new_managed.clone();
    new.set("metadata.managedFields", old_managed);
    let unchanged = same(old, new);
    if !unchanged {
        new.set("metadata.managedFields", given);
    }
    unchanged
}

fn managed_of(object: &Value) -> Option<&Value> {
    object.at("metadata.managedFields")
}

fn remove_managed(object: &mut Value) {
    object.remove_at("metadata.managedFields");
}

fn write_managed(object: &mut Value, managed: ManagedFields) {
    match managed.encode() {
        Some(list) => object.set("metadata.managedFields", list),
        None => object.remove_at("metadata.managedFields"),
    };
}

/// One empty entry means: forget all owners.
fn is_reset(managed: &Value) -> bool {
    matches!(managed.items(), [Value::Map(only)] if only.values().all(Value::is_zero))
}

/// Fields that nobody owns.
fn stripped() -> Set {
    Set::of_fields(&[
        "apiVersion",
        "kind",
        "metadata",
        "metadata.name",
        "metadata.namespace",
        "metadata.creationTimestamp",
        "metadata.selfLink",
        "metadata.uid",
        "metadata.clusterName",
        "metadata.generation",
        "metadata.managedFields",
        "metadata.resourceVersion",
    ])
}

/// Joins the oldest owners by update beyond the limit into one per version.
fn cap_updaters(mut managed: ManagedFields) -> ManagedFields {
    let mut updaters: Vec<(Option<SmolStr>, Owner)> = managed
        .entries
        .iter()
        .filter(|e| !e.owner.applied)
        .map(|e| (e.time.clone(), e.owner.clone()))
        .collect();
    if updaters.len() <= MAX_UPDATERS {
        return managed;
    }
    updaters.sort();
    let mut excess = updaters.len() - MAX_UPDATERS;
    let mut first_of_version: Vec<Owner> = Vec::new();
    for (time, owner) in updaters {
        if excess == 0 {
            break;
        }
        let Some(first) = first_of_version.iter().find(|o| o.version == owner.version).cloned() else {
            first_of_version.push(owner);
            continue;
        };
        let bucket = Owner::updater(ANCIENT, &owner.version, "");
        let take = |managed: &mut ManagedFields, owner: &Owner| {
            let at = managed.entries.iter().position(|e| e.owner == *owner)?;
            Some(managed.entries.remove(at))
        };
        let Some(joined) = take(&mut managed, &owner) else { continue };
        let present = take(&mut managed, &bucket).or_else(|| take(&mut managed, &first));
        let set = present.map_or(Set::new(), |p| p.set).union(&joined.set);
        managed.put(Owned { owner: bucket, version: joined.version, set, time });
        excess -= 1;
    }
    managed
}

#[cfg(test)]
mod tests;
