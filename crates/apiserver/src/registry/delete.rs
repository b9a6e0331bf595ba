//! Deleting an object: at once, with a grace period, or once finalizers are gone.

use schema::Value;
use store::{Entry, Revision};

use super::options::{DeleteOptions, Propagation};
use super::write::{Saved, WriteContext, saved};
use super::{meta, stored};
use crate::admission::Operation;
use crate::status::{ApiError, ApiResult, GroupResource};

/// How often a deletion that meets a change is tried again.
const CONFLICT_ATTEMPTS: usize = 100;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a deletion came to.
pub struct Deleted {
    /// The object as it was last, in the stored version.
    pub saved: Saved,
    /// It is gone; else it waits for its grace period or finalizers.
    pub gone: bool,
}

enum Attempt {
    Done(Deleted),
    Again,
}

impl WriteContext<'_> {
    /// Deletes the object `self.name`.
    pub async fn delete(&self, options: &DeleteOptions) -> ApiResult<Deleted> {
        for warning in self.served.strategy.warnings_on_delete(options) {
            self.warnings.add(warning);
        }
        let key = self.served.key(self.namespace, self.name);
        let mut admitted = false;
        for _ in 0..CONFLICT_ATTEMPTS {
            let Some(entry) = self.registry.store.get(key.as_bytes())? else {
                return Err(self.not_found(self.name));
            };
            let old = stored::memo(&entry).decode(&entry)?;
            if !admitted {
                self.admit_delete(&old).await?;
                admitted = true;
            }
            match self.attempt_delete(&entry, &old, options).await? {
                Attempt::Done(deleted) => return Ok(deleted),
                Attempt::Again => tracing::debug!(name = self.name, "object changed meanwhile, trying again"),
            }
        }
        Err(ApiError::modified(self.served.group_resource(), self.name))
    }

    async fn admit_delete(&self, old: &Value) -> ApiResult<()> {
        let mut attributes = self.attributes(Operation::Delete, self.name, Value::Null, old);
        self.admit(&mut attributes).await?;
        self.validate_admission(&mut attributes).await
    }

    async fn attempt_delete(
        &self,
        entry: &Entry,
        old: &Value,
        options: &DeleteOptions,
    ) -> ApiResult<Attempt> {
        self.check_preconditions(old, options)?;
        let mut new = old.clone();
        let graceful = self.start_grace(&mut new, old, options);
        if let Grace::AlreadyEnough = graceful {
            return Ok(Attempt::Done(Deleted {
                saved: Saved { object: old.clone(), entry: None },
                gone: false,
            }));
        }
        set_gc_finalizers(&mut new, options, self.served.strategy.traits().orphans_by_default);
        let blocked = meta::finalizers(&new).next().is_some() || self.served.strategy.deletion_blocked(&new);
        match graceful {
            Grace::Started { over: false } => {}
            Grace::Started { over: true } if !blocked => return self.mark_and_remove(new, entry).await,
            _ if !blocked => return self.remove(new, entry).await,
            _ => mark_deleting(&mut new, &self.registry.now()),
        }
        self.served.strategy.mark_deleting(&mut new, &self.registry.now());
        self.keep_deleting(new, old, entry).await
    }

    /// Kinds with a grace period say that they go before they are gone, so that watchers see why.
    async fn mark_and_remove(&self, marked: Value, entry: &Entry) -> ApiResult<Attempt> {
        if self.options.dry_run {
            return self.remove(marked, entry).await;
        }
        let key = self.served.key(self.namespace, self.name);
        let put = self.put(&marked, &key, Revision(entry.mod_revision.0), Vec::new()).await?;
        let Ok(mut entry) = put else { return Ok(Attempt::Again) };
        let uid = meta::uid(&marked).to_owned();
        let mut last = marked;
        for _ in 0..CONFLICT_ATTEMPTS {
            if let done @ Attempt::Done(_) = self.remove(last.clone(), &entry).await? {
                return Ok(done);
            }
            // Whoever saw the mark may have been faster, as a pod's kubelet often is.
            let there = self.registry.store.get(key.as_bytes())?;
            let newer = match &there {
                Some(newer) => Some((newer, stored::memo(newer).decode(newer)?)),
                None => None,
            };
            match newer {
                Some((newer, object)) if meta::uid(&object) == uid => {
                    last = object;
                    entry = newer.clone();
                }
                _ => return Ok(Attempt::Done(Deleted { saved: saved(last, entry), gone: true })),
            }
        }
        Err(ApiError::modified(self.served.group_resource(), self.name))
    }

    /// Refuses if `old` is not the object that is meant.
    pub(crate) fn check_preconditions(&self, old: &Value, options: &DeleteOptions) -> ApiResult<()> {
        let kind = GroupResource::new(&self.served.hub.group, &self.served.hub.kind);
        if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta::uid(old)) {
            return Err(ApiError::conflict(
                kind,
                self.name,
                format!(
                    "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might \
                     have been deleted and then recreated",
                    meta::uid(old)
                ),
            ));
        }
        let there = meta::resource_version(old);
        if let Some(version) = options.resource_version.as_deref().filter(|version| *version != there) {
            return Err(ApiError::conflict(
                kind,
                self.name,
                format!(
                    "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in \
                     record ({there}). The object might have been modified"
                ),
            ));
        }
        Ok(())
    }

    /// Starts or shortens the grace period of kinds that have one (`BeforeDelete`).
    fn start_grace(&self, new: &mut Value, old: &Value, options: &DeleteOptions) -> Grace {
        let Some(period) = self.served.strategy.graceful_seconds(old, options.grace_s) else {
            return Grace::None;
        };
        if !meta::is_deleting(old) {
            meta::set(new, "deletionTimestamp", meta::timestamp(&*self.registry.clock, period));
            new.make_map().entry_map("metadata").insert("deletionGracePeriodSeconds", period);
            bump(new);
            return Grace::Started { over: period == 0 };
        }
        let Some(current) = old.int_at("metadata.deletionGracePeriodSeconds") else { return Grace::None };
        let Some(asked) = options.grace_s.filter(|asked| *asked < current) else {
            return Grace::AlreadyEnough;
        };
        let asked_at = meta::parse_time(meta::text(old, "deletionTimestamp")).unwrap_or(0) - current;
        let until = jiff::Timestamp::from_second(asked_at + asked).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        meta::set(new, "deletionTimestamp", until.to_string());
        new.make_map().entry_map("metadata").insert("deletionGracePeriodSeconds", asked);
        Grace::Started { over: asked <= 0 }
    }

    async fn keep_deleting(&self, new: Value, old: &Value, entry: &Entry) -> ApiResult<Attempt> {
        let kept = |saved| Ok(Attempt::Done(Deleted { saved, gone: false }));
        if new == *old || self.options.dry_run {
            return kept(Saved { object: new, entry: None });
        }
        let key = self.served.key(self.namespace, self.name);
        match self.put(&new, &key, Revision(entry.mod_revision.0), Vec::new()).await? {
            Ok(entry) => kept(saved(new, entry)),
            Err(_) => Ok(Attempt::Again),
        }
    }

    async fn remove(&self, mut object: Value, entry: &Entry) -> ApiResult<Attempt> {
        let gone = |object| Ok(Attempt::Done(Deleted { saved: Saved { object, entry: None }, gone: true }));
        if self.options.dry_run {
            return gone(object);
        }
        match self.delete_entry(entry, &object).await? {
            Ok(revision) => {
                let now = self.registry.now();
                self.served.strategy.after_delete(&self.strategy_context(&now), &object);
                meta::set(&mut object, "resourceVersion", revision.0.to_string());
                gone(object)
            }
            Err(_) => Ok(Attempt::Again),
        }
    }
}

enum Grace {
    /// No grace period (any more): finalizers alone decide.
    None,
    /// Set or shortened just now; `over` when nothing is left of it.
    Started {
        /// It is zero.
        over: bool,
    },
    /// The object goes down already, soon enough.
    AlreadyEnough,
}

/// Marks an object that finalizers hold (`markAsDeleting`).
fn mark_deleting(object: &mut Value, now: &str) {
    if !meta::is_deleting(object) {
        bump(object);
        meta::set(object, "deletionTimestamp", now);
    }
    object.make_map().entry_map("metadata").insert("deletionGracePeriodSeconds", 0_i64);
}

fn bump(object: &mut Value) {
    if let Some(generation) = object.int_at("metadata.generation").filter(|g| *g > 0) {
        meta::set(object, "generation", generation + 1);
    }
}

/// Adds or removes the finalizers that tell the garbage collector what to do with dependents.
fn set_gc_finalizers(object: &mut Value, options: &DeleteOptions, orphans_by_default: bool) {
    let present: Vec<String> = meta::finalizers(object).map(str::to_owned).collect();
    let has = |name: &str| present.iter().any(|f| f == name);
    let (orphan, foreground) = match (options.propagation, options.orphan_dependents) {
        (Some(policy), _) => (policy == Propagation::Orphan, policy == Propagation::Foreground),
        (None, Some(orphan)) => (orphan, false),
        (None, None) if has(ORPHAN) || has(FOREGROUND) => (has(ORPHAN), !has(ORPHAN)),
        (None, None) => (orphans_by_default, false),
    };
    let mut wanted: Vec<String> =
        present.iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).cloned().collect();
    if orphan {
        wanted.push(ORPHAN.to_owned());
    }
    if foreground {
        wanted.push(FOREGROUND.to_owned());
    }
    let same = wanted.len() == present.len() && wanted.iter().all(|f| present.contains(f));
    if !same {
        meta::set(object, "finalizers", wanted);
    }
}
