//! Members, and how they change: one at a time, so that old and new majorities always share a member.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::NodeId;

/// The members of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    /// Those with a vote.
    pub voters: BTreeSet<NodeId>,
    /// Those that only receive.
    pub learners: BTreeSet<NodeId>,
}

/// What happens to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It becomes a voter; a learner is promoted.
    AddVoter,
    /// It becomes a learner, unless it has a vote.
    AddLearner,
    /// It goes.
    Remove,
    /// Nothing; only the context matters.
    Update,
}

/// A change of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub kind: ChangeKind,
    /// Of whom.
    pub id: NodeId,
    /// For the state machine.
    pub context: Bytes,
}

impl Conf {
    /// Voters without learners.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { voters: voters.into_iter().collect(), learners: BTreeSet::new() }
    }

    /// Whether `id` is a member of either kind.
    pub fn contains(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }

    /// All members.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// Members that make a majority of the voters.
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Whether the voters for whom `holds` make a majority.
    pub fn has_quorum(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        self.voters.iter().filter(|id| holds(**id)).count() >= self.quorum()
    }

    /// The greatest number that a majority of the voters has reached.
    pub(crate) fn reached(&self, of: impl Fn(NodeId) -> u64) -> u64 {
        let mut reached: Vec<u64> = self.voters.iter().map(|id| of(*id)).collect();
        reached.sort_unstable_by(|a, b| b.cmp(a));
        reached.get(self.quorum() - 1).copied().unwrap_or(0)
    }

    /// Does a change. One that would leave no voter does nothing.
    pub fn apply(&mut self, change: &Change) {
        let id = change.id;
        match change.kind {
            ChangeKind::AddVoter => {
                self.learners.remove(&id);
                self.voters.insert(id);
            }
            ChangeKind::AddLearner => {
                if !self.voters.contains(&id) {
                    self.learners.insert(id);
                }
            }
            ChangeKind::Remove => {
                self.learners.remove(&id);
                if self.voters.len() > 1 {
                    self.voters.remove(&id);
                }
            }
            ChangeKind::Update => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_has_reached_what_more_than_half_have() {
        let conf = Conf::of([1, 2, 3, 4]);
        assert_eq!(conf.quorum(), 3);
        assert_eq!(conf.reached(|id| id * 10), 20);
        assert_eq!(Conf::of([1]).reached(|_| 7), 7);
        assert_eq!(Conf::of([1, 2, 3, 4, 5]).reached(|id| id), 3);
        assert_eq!(Conf::default().reached(|_| 1), 0);
    }

    #[test]
    fn the_last_voter_stays() {
        let mut conf = Conf::of([1]);
        let change = |kind, id| Change { kind, id, context: Bytes::new() };
        conf.apply(&change(ChangeKind::AddLearner, 2));
        conf.apply(&change(ChangeKind::AddLearner, 1));
        conf.apply(&change(ChangeKind::Remove, 1));
        assert_eq!((conf.voters.len(), conf.learners.len()), (1, 1));
        conf.apply(&change(ChangeKind::AddVoter, 2));
        conf.apply(&change(ChangeKind::Remove, 1));
        assert_eq!(conf, Conf::of([2]));
    }
}
