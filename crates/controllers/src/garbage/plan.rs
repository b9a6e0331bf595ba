//! What is to be done with an object, given what its owners are.

use kube::api::PropagationPolicy;

use super::graph::Uid;

/// What an owner turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerState {
    /// It exists and keeps its dependents.
    Solid,
    /// There is none.
    Dangling,
    /// It is being deleted and waits for its dependents.
    Waiting,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing.
    Keep,
    /// It has an owner that keeps it; these references lead nowhere.
    DropReferences(Vec<Uid>),
    /// Delete it.
    Delete {
        /// What becomes of its own dependents.
        policy: PropagationPolicy,
        /// Its references are first made not to block: it is in a circle of owners that wait for each other.
        unblock: bool,
    },
}

/// The facts about an object that decide.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// It has finalizer `orphan`.
    pub orphan: bool,
    /// It has finalizer `foregroundDeletion`.
    pub foreground: bool,
    /// It has dependents.
    pub has_dependents: bool,
    /// One of them is itself waiting for its dependents.
    pub dependent_is_waiting: bool,
}

/// Decides over an object whose owners were looked up.
pub fn decide(owners: &[(Uid, OwnerState)], facts: Facts) -> Decision {
    let with = |state: OwnerState| owners.iter().filter(move |(_, s)| *s == state);
    if owners.is_empty() {
        return Decision::Keep;
    }
    if with(OwnerState::Solid).next().is_some() {
        let useless: Vec<Uid> =
            owners.iter().filter(|(_, s)| *s != OwnerState::Solid).map(|(uid, _)| uid.clone()).collect();
        return if useless.is_empty() { Decision::Keep } else { Decision::DropReferences(useless) };
    }
    if with(OwnerState::Waiting).next().is_some() && facts.has_dependents {
        return Decision::Delete {
            policy: PropagationPolicy::Foreground,
            unblock: facts.dependent_is_waiting,
        };
    }
    let policy = match facts {
        Facts { orphan: true, .. } => PropagationPolicy::Orphan,
        Facts { foreground: true, .. } => PropagationPolicy::Foreground,
        _ => PropagationPolicy::Background,
    };
    Decision::Delete { policy, unblock: false }
}

#[cfg(test)]
mod tests {
    use super::super::graph::{Graph, Owner, Place, Seen, Work};
    use super::*;

    #[test]
    fn owners_decide() {
        use OwnerState::{Dangling, Solid, Waiting};
        let delete = |policy, unblock| Decision::Delete { policy, unblock };
        let dependents = Facts { has_dependents: true, ..Facts::default() };
        for (states, facts, expected) in [
            (vec![], Facts::default(), Decision::Keep),
            (vec![Solid], Facts::default(), Decision::Keep),
            (vec![Solid, Dangling], Facts::default(), Decision::DropReferences(vec!["1".into()])),
            (vec![Solid, Waiting], Facts::default(), Decision::DropReferences(vec!["1".into()])),
            (vec![Dangling], Facts::default(), delete(PropagationPolicy::Background, false)),
            (vec![Dangling], Facts { orphan: true, ..dependents }, delete(PropagationPolicy::Orphan, false)),
            (
                vec![Dangling],
                Facts { foreground: true, ..dependents },
                delete(PropagationPolicy::Foreground, false),
            ),
            (vec![Waiting], Facts::default(), delete(PropagationPolicy::Background, false)),
            (vec![Waiting], dependents, delete(PropagationPolicy::Foreground, false)),
            (
                vec![Waiting],
                Facts { dependent_is_waiting: true, ..dependents },
                delete(PropagationPolicy::Foreground, true),
            ),
        ] {
            let owners: Vec<(Uid, OwnerState)> =
                states.iter().enumerate().map(|(i, s)| (Uid::from(i.to_string()), *s)).collect();
            assert_eq!(decide(&owners, facts), expected, "{states:?} {facts:?}");
        }
    }

    fn seen(uid: &str, owners: &[(&str, bool)]) -> Seen {
        let owner = |(uid, block): &(&str, bool)| Owner {
            api_version: "v1".into(),
            kind: "Thing".into(),
            name: (*uid).to_owned(),
            uid: (*uid).into(),
            block_owner_deletion: Some(*block),
            controller: None,
        };
        Seen {
            place: Place {
                api_version: "v1".into(),
                kind: "Thing".into(),
                namespace: Some("ns".into()),
                name: uid.to_owned(),
            },
            uid: uid.into(),
            owners: owners.iter().map(owner).collect(),
            being_deleted: false,
            foreground: false,
            orphan: false,
        }
    }

    fn delete(uids: &[&str]) -> Vec<Work> {
        uids.iter().map(|uid| Work::Delete((*uid).into())).collect()
    }

    #[test]
    fn unseen_owners_are_asked_for_and_dependents_follow_the_dead() {
        let mut graph = Graph::default();
        assert_eq!(graph.observe(seen("pod", &[("rs", true)])), delete(&["rs"]));
        assert_eq!(graph.observe(seen("rs", &[])), []);
        assert_eq!(graph.remove("rs"), delete(&["pod"]));
        // What appears later with the same dead owner is looked at, too.
        let work = graph.observe(seen("late", &[("rs", true)]));
        assert!(work.contains(&Work::Delete("late".into())), "{work:?}");
    }

    #[test]
    fn foreground_deletion_waits_for_what_blocks() {
        let mut graph = Graph::default();
        graph.observe(seen("rs", &[]));
        graph.observe(seen("blocks", &[("rs", true)]));
        graph.observe(seen("free", &[("rs", false)]));
        let mut work = graph.observe(Seen { being_deleted: true, foreground: true, ..seen("rs", &[]) });
        work.sort();
        assert_eq!(work, delete(&["blocks", "free", "rs"]));
        let blocking: Vec<String> =
            graph.blocking_dependents("rs").iter().map(|(uid, _)| uid.to_string()).collect();
        assert_eq!(blocking, ["blocks"]);
        assert_eq!(graph.observe(seen("blocks", &[("rs", false)])), delete(&["rs"]));
        assert_eq!(graph.remove("blocks"), delete(&["rs"]));
    }

    #[test]
    fn orphaning_is_asked_for_once() {
        let mut graph = Graph::default();
        let leaving = || Seen { being_deleted: true, orphan: true, ..seen("rs", &[]) };
        assert_eq!(graph.observe(leaving()), [Work::Orphan("rs".into())]);
        assert_eq!(graph.observe(leaving()), []);
    }
}
