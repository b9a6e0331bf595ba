//! Who owns whom, as far as it was seen, and what a change of that asks for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use serde::Deserialize;

/// Finalizer of an owner whose dependents go first.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner whose dependents stay.
pub const ORPHAN: &str = "orphan";
/// Owners that were found absent and are not asked for again (upstream's absentOwnerCache).
const ABSENT_LIMIT: usize = 500;

/// A uid, shared by all that mention it.
pub type Uid = Arc<str>;

/// Where an object is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `v1`, `apps/v1`.
    pub api_version: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// None for objects that are in no namespace.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

/// A reference to an owner; `metav1.OwnerReference`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// `apps/v1`.
    pub api_version: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: Uid,
    /// Whether the owner, deleted in the foreground, waits for this dependent.
    #[serde(default)]
    pub block_owner_deletion: Option<bool>,
    /// Whether the owner is the controller.
    #[serde(default)]
    pub controller: Option<bool>,
}

/// What was seen of an object.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Where it is.
    pub place: Place,
    /// Its uid.
    pub uid: Uid,
    /// Its owners.
    pub owners: Vec<Owner>,
    /// Whether it has a deletion timestamp.
    pub being_deleted: bool,
    /// Whether it has finalizer [`FOREGROUND`].
    pub foreground: bool,
    /// Whether it has finalizer [`ORPHAN`].
    pub orphan: bool,
}

/// A key of the work queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// See whether it is to be deleted.
    Delete(Uid),
    /// Set its dependents free.
    Orphan(Uid),
}

/// An object in the graph.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it is; for an owner that was not seen yet, where its dependent says.
    pub place: Place,
    /// Its owners.
    pub owners: Vec<Owner>,
    /// The uids of those that name it as owner.
    pub dependents: HashSet<Uid>,
    /// It has a deletion timestamp.
    pub being_deleted: bool,
    /// It is deleted in the foreground: when its dependents are gone.
    pub deleting_dependents: bool,
    orphaning: bool,
    /// It was seen, not only named.
    pub is_seen: bool,
}

/// All objects of the kinds that can be collected.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    absent: HashSet<(Uid, Option<String>)>,
    absent_order: VecDeque<(Uid, Option<String>)>,
}

impl Graph {
    /// Takes in the present state of an object.
    pub fn observe(&mut self, seen: Seen) -> Vec<Work> {
        let mut work = Vec::new();
        let uid = seen.uid.clone();
        let before = self.nodes.get(&uid).map(|node| node.owners.clone()).unwrap_or_default();
        self.note_unblocked(&before, &seen.owners, &mut work);
        for gone in before.iter().filter(|old| !seen.owners.iter().any(|new| new.uid == old.uid)) {
            self.unlink(&gone.uid, &uid);
        }
        for owner in seen.owners.iter().filter(|new| !before.iter().any(|old| old.uid == new.uid)) {
            self.link(owner, &uid, seen.place.namespace.as_ref(), &mut work);
        }
        let is_first = !self.nodes.get(&uid).is_some_and(|node| node.is_seen);
        let node = self.nodes.entry(uid.clone()).or_insert_with(|| Node::unseen(seen.place.clone()));
        let was_foreground = node.deleting_dependents;
        let was_orphaning = node.orphaning;
        node.is_seen = true;
        node.place = seen.place;
        node.being_deleted |= seen.being_deleted;
        node.deleting_dependents |= seen.being_deleted && seen.foreground;
        node.orphaning = seen.being_deleted && seen.orphan;
        let owners_changed = node.owners != seen.owners;
        node.owners = seen.owners;
        if node.orphaning && !was_orphaning {
            work.push(Work::Orphan(uid.clone()));
        }
        if node.deleting_dependents && !was_foreground {
            work.extend(node.dependents.iter().cloned().map(Work::Delete));
            work.push(Work::Delete(uid));
        } else if !node.owners.is_empty() && (owners_changed || is_first) {
            // Its owners may be gone since long.
            self.check_if_owner_is_missing(&uid, &mut work);
        }
        work
    }

    fn check_if_owner_is_missing(&self, uid: &Uid, work: &mut Vec<Work>) {
        let Some(node) = self.nodes.get(uid) else { return };
        let namespace = &node.place.namespace;
        if node.owners.iter().any(|owner| self.is_known_absent(&owner.uid, namespace)) {
            work.push(Work::Delete(uid.clone()));
        }
    }

    /// Takes out an object that is gone.
    pub fn remove(&mut self, uid: &str) -> Vec<Work> {
        let Some((uid, node)) = self.nodes.remove_entry(uid) else { return Vec::new() };
        let mut work: Vec<Work> = node.dependents.iter().cloned().map(Work::Delete).collect();
        if !node.dependents.is_empty() {
            self.note_absent(uid.clone(), node.place.namespace.clone());
        }
        for owner in &node.owners {
            self.unlink(&owner.uid, &uid);
            if self.nodes.get(&owner.uid).is_some_and(|o| o.deleting_dependents) {
                work.push(Work::Delete(owner.uid.clone()));
            }
        }
        work
    }

    /// What is known of an object.
    pub fn get(&self, uid: &str) -> Option<Node> {
        self.nodes.get(uid).cloned()
    }

    /// The uids and places of the objects of a kind.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Vec<Uid> {
        let of_kind = |node: &Node| {
            node.is_seen && &*node.place.api_version == api_version && &*node.place.kind == kind
        };
        self.nodes.iter().filter(|(_, node)| of_kind(node)).map(|(uid, _)| uid.clone()).collect()
    }

    /// The dependents of an object, with what is known of them.
    pub fn dependents(&self, uid: &str) -> Vec<(Uid, Node)> {
        let Some(node) = self.nodes.get(uid) else { return Vec::new() };
        node.dependents.iter().filter_map(|d| Some((d.clone(), self.get(d)?))).collect()
    }

    /// The dependents that an object deleted in the foreground waits for.
    pub fn blocking_dependents(&self, uid: &str) -> Vec<(Uid, Node)> {
        let mut dependents = self.dependents(uid);
        dependents.retain(|(_, node)| {
            node.owners.iter().any(|o| &*o.uid == uid && o.block_owner_deletion == Some(true))
        });
        dependents
    }

    /// Remembers that there is no owner of this uid for dependents in this namespace.
    pub fn note_absent(&mut self, uid: Uid, namespace: Option<String>) {
        let key = (uid, namespace);
        if self.absent.insert(key.clone()) {
            self.absent_order.push_back(key);
        }
        if self.absent_order.len() > ABSENT_LIMIT
            && let Some(oldest) = self.absent_order.pop_front()
        {
            self.absent.remove(&oldest);
        }
    }

    /// True if there was no such owner when last asked; uids do not come back.
    pub fn is_known_absent(&self, uid: &Uid, namespace: &Option<String>) -> bool {
        self.absent.contains(&(uid.clone(), namespace.clone()))
    }

    fn link(&mut self, owner: &Owner, dependent: &Uid, namespace: Option<&String>, work: &mut Vec<Work>) {
        let node = self.nodes.entry(owner.uid.clone()).or_insert_with(|| {
            // Nobody has seen it: it must be asked for, or its dependents would stay for ever.
            work.push(Work::Delete(owner.uid.clone()));
            Node::unseen(Place {
                api_version: owner.api_version.clone(),
                kind: owner.kind.clone(),
                namespace: namespace.cloned(),
                name: owner.name.clone(),
            })
        });
        node.dependents.insert(dependent.clone());
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        let Some(node) = self.nodes.get_mut(owner) else { return };
        node.dependents.remove(dependent);
        if !node.is_seen && node.dependents.is_empty() {
            self.nodes.remove(owner);
        }
    }

    /// An owner in foreground deletion may have waited for a reference that is gone or blocks no more.
    fn note_unblocked(&self, before: &[Owner], now: &[Owner], work: &mut Vec<Work>) {
        for old in before.iter().filter(|o| o.block_owner_deletion == Some(true)) {
            let blocks = now.iter().any(|n| n.uid == old.uid && n.block_owner_deletion == Some(true));
            if !blocks && self.nodes.get(&old.uid).is_some_and(|owner| owner.deleting_dependents) {
                work.push(Work::Delete(old.uid.clone()));
            }
        }
    }
}

impl Node {
    fn unseen(place: Place) -> Self {
        Self {
            place,
            owners: Vec::new(),
            dependents: HashSet::new(),
            being_deleted: false,
            deleting_dependents: false,
            orphaning: false,
            is_seen: false,
        }
    }
}
