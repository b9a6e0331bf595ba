//! What plugins keep from one extension point to the next while one pod is scheduled.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A value per type, and which plugins have nothing to do for this pod.
#[derive(Clone, Default)]
pub struct CycleState {
    values: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    /// Plugins whose Filter is skipped.
    pub skip_filter: BTreeSet<&'static str>,
    /// Plugins whose Score is skipped.
    pub skip_score: BTreeSet<&'static str>,
}

impl CycleState {
    /// Keeps `value`, replacing another of its type.
    pub fn put<T: Send + Sync + 'static>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// The value of a type, if one was kept.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.get(&TypeId::of::<T>()).and_then(|value| value.downcast_ref())
    }

    /// The value of a type to change; a clone of the state keeps the old one.
    pub fn get_mut<T: Clone + Send + Sync + 'static>(&mut self) -> Option<&mut T> {
        let slot = self.values.get_mut(&TypeId::of::<T>())?;
        if Arc::get_mut(slot).is_none() {
            let copy = slot.downcast_ref::<T>()?.clone();
            *slot = Arc::new(copy);
        }
        Arc::get_mut(slot).and_then(|any| any.downcast_mut())
    }
}
