//! Who owns what after a write (`structured-merge-diff/merge`).

use std::borrow::Cow;

use schema::{Schema, SmolStr, Value};

use super::{ApplyError, Conflict, Versions};
use crate::fields::Set;
use crate::managed::{ManagedFields, Owned, Owner};
use crate::typed::{self, Comparison, compare, field_set, remove_items, with_named_fields};

pub(super) struct Updater<'a> {
    pub schema: &'a Schema,
    pub api_version: &'a str,
    pub reset_fields: &'a Set,
    pub versions: &'a dyn Versions,
}

impl Updater<'_> {
    /// Takes from all owners what `new` changes or removes. Also gives the changed and added fields.
    pub fn update(&self, old: &Value, new: &Value, mut managed: ManagedFields) -> (ManagedFields, Set) {
        let comparison = compare(self.schema.root(), old, new).without(self.reset_fields);
        let changed = comparison.modified.union(&comparison.added);
        self.take_changes(old, new, &comparison, &mut managed, None);
        managed.drop_empty();
        (managed, changed)
    }

    /// Merges and prunes. Conflicts are given unless `force`.
    pub fn apply(
        &self,
        live: &Value,
        applied: &Value,
        mut managed: ManagedFields,
        owner: &Owner,
        force: bool,
    ) -> Result<(Value, ManagedFields), ApplyError> {
        let root = self.schema.root();
        let merged = typed::merge(root, live, applied);
        let last = managed.get(owner).cloned();
        managed.put(Owned {
            owner: owner.clone(),
            version: SmolStr::new(self.api_version),
            set: field_set(root, applied).recursive_difference(self.reset_fields),
            time: last.as_ref().and_then(|l| l.time.clone()),
        });
        let new = match last.filter(|last| !last.set.is_empty()) {
            Some(last) => drop_nulls(self.prune(merged, &managed, &last)),
            None => merged,
        };
        let comparison = compare(root, live, &new).without(self.reset_fields);
        let conflicts = self.take_changes(live, &new, &comparison, &mut managed, Some(owner));
        if !force && !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
        managed.drop_empty();
        Ok((new, managed))
    }

    /// Lets every owner but `applier` lose what changed, each seen in its own version. Gives what they lost by change.
    fn take_changes(
        &self,
        old: &Value,
        new: &Value,
        comparison: &Comparison,
        managed: &mut ManagedFields,
        applier: Option<&Owner>,
    ) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        let mut others: Vec<(SmolStr, Option<Comparison>)> = Vec::new();
        managed.entries.retain_mut(|owned| {
            if Some(&owned.owner) == applier {
                return true;
            }
            let comparison = if owned.version == self.api_version {
                Some(comparison)
            } else {
                if !others.iter().any(|(version, _)| *version == owned.version) {
                    others.push((owned.version.clone(), self.compare_in(old, new, &owned.version)));
                }
                others.iter().find(|(version, _)| *version == owned.version).and_then(|(_, c)| c.as_ref())
            };
            let Some(comparison) = comparison else { return false };
            let taken = owned.set.intersection(&comparison.modified.union(&comparison.added));
            conflicts.extend(
                taken.leaf_paths().into_iter().map(|path| Conflict { owner: owned.owner.clone(), path }),
            );
            owned.set = owned.set.difference(&taken).difference(&comparison.removed);
            true
        });
        conflicts.sort();
        conflicts
    }

    fn compare_in(&self, old: &Value, new: &Value, version: &str) -> Option<Comparison> {
        let (schema, old) = self.versions.convert(old, version)?;
        let (_, new) = self.versions.convert(new, version)?;
        Some(compare(schema.root(), &old, &new).without(self.reset_fields))
    }

    fn in_version<'v>(
        &'v self,
        object: &'v Value,
        version: &str,
    ) -> Option<(Cow<'v, Schema>, Cow<'v, Value>)> {
        if version == self.api_version {
            return Some((Cow::Borrowed(self.schema), Cow::Borrowed(object)));
        }
        let (schema, object) = self.versions.convert(object, version)?;
        Some((Cow::Owned(schema), Cow::Owned(object)))
    }

    /// Removes what the applier applied `last` time and nobody applies now.
    fn prune(&self, merged: Value, managed: &ManagedFields, last: &Owned) -> Value {
        let Some((schema, in_last)) = self.in_version(&merged, &last.version) else { return merged };
        let root = schema.root();
        let last_set = with_named_fields(&last.set, root);
        let mut pruned = remove_items(root, &in_last, &last_set);
        pruned = self.add_back_owned(&in_last, pruned, managed, &last.version);
        // Only what this applier owned before may go.
        let kept = with_named_fields(&field_set(root, &pruned), root);
        let had = with_named_fields(&field_set(root, &in_last), root);
        let pruned = remove_items(root, &in_last, &had.difference(&kept).intersection(&last_set));
        if last.version == self.api_version {
            return pruned;
        }
        match self.versions.convert(&pruned, self.api_version) {
            Some((_, pruned)) => pruned,
            None => merged,
        }
    }

    /// Puts back what other appliers, or the same one now, own. `pruned` is in `version` and stays so.
    fn add_back_owned(&self, merged: &Value, pruned: Value, managed: &ManagedFields, version: &str) -> Value {
        let mut by_version: Vec<(SmolStr, Set)> = vec![(version.into(), Set::new())];
        for owned in managed.entries.iter().filter(|e| e.owner.applied) {
            match by_version.iter_mut().find(|(v, _)| *v == owned.version) {
                Some((_, set)) => *set = set.union(&owned.set),
                None => by_version.push((owned.version.clone(), owned.set.clone())),
            }
        }
        let mut current = pruned;
        for (owned_version, owned) in by_version.iter().filter(|(_, owned)| !owned.is_empty()) {
            let convert = |object: &Value| match owned_version == version {
                true => self.in_version(object, version).map(|(s, _)| (s.into_owned(), object.clone())),
                false => self.versions.convert(object, owned_version),
            };
            let (Some((schema, merged)), Some((_, pruned))) = (convert(merged), convert(&current)) else {
                continue;
            };
            let root = schema.root();
            let named = |set: &Set| with_named_fields(set, root);
            let keep = named(&field_set(root, &pruned)).union(&named(owned));
            let restored = remove_items(root, &merged, &named(&field_set(root, &merged)).difference(&keep));
            current = match owned_version == version {
                true => restored,
                false => match self.in_version(&restored, version) {
                    Some((_, back)) => back.into_owned(),
                    None => continue,
                },
            };
        }
        current
    }
}

/// Containers that lost their last part are gone.
fn drop_nulls(value: Value) -> Value {
    match value {
        Value::Map(map) => Value::Map(
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, drop_nulls(v))).collect(),
        ),
        Value::List(list) => Value::List(list.into_iter().map(drop_nulls).collect()),
        scalar => scalar,
    }
}
