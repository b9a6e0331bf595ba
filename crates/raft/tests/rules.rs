//! Rules whose breach needs rarer histories than the simulator finds, one by one.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

use bytes::Bytes;
use raft::{
    Body, Change, ChangeKind, Conf, Config, Entry, HardState, Message, Payload, ProposeError, Raft, Restored,
    Role, SnapshotMeta,
};

/// Member 1 of three, with an entry of term 2 that nobody is known to have.
fn member() -> Raft {
    let snapshot = SnapshotMeta { index: 1, term: 1, conf: Conf::of([1, 2, 3]) };
    let entries = vec![Entry { term: 2, index: 2, payload: Payload::Data(Bytes::from_static(b"old")) }];
    let hard_state = HardState { term: 2, vote: 0 };
    Raft::new(Config::new(1, 7), Restored { hard_state, snapshot, entries, commit: 1 })
}

/// Everything is on disk at once, and applied.
fn settle(raft: &mut Raft) {
    while let Some(ready) = raft.ready() {
        raft.persisted(ready.number);
        ready.committed.iter().for_each(|entry| raft.applied(entry.index));
    }
}

fn hear(raft: &mut Raft, term: u64, body: Body) {
    raft.step(Message { from: 2, to: 1, term, body });
    settle(raft);
}

fn leader() -> Raft {
    let mut raft = member();
    raft.campaign_now();
    settle(&mut raft);
    hear(&mut raft, 3, Body::PreVoteReply { granted: true });
    hear(&mut raft, 3, Body::VoteReply { granted: true });
    assert_eq!((raft.status().role, raft.status().term, raft.status().last_index), (Role::Leader, 3, 3));
    raft
}

#[test]
fn an_entry_of_an_earlier_term_is_not_committed_by_its_copies_alone() {
    let mut raft = leader();
    hear(&mut raft, 3, Body::AppendReply { matched: 2, hint: None });
    assert_eq!(raft.status().commit, 1, "another leader may still replace it");
    hear(&mut raft, 3, Body::AppendReply { matched: 3, hint: None });
    assert_eq!(raft.status().commit, 3);
}

#[test]
fn members_change_one_at_a_time_and_not_before_the_term_has_begun() {
    let mut raft = leader();
    let add = |id| Payload::Change(Change { kind: ChangeKind::AddVoter, id, context: Bytes::new() });
    assert_eq!(raft.propose(0, add(4)), Err(ProposeError::ChangePending), "the log may hold another");
    hear(&mut raft, 3, Body::AppendReply { matched: 3, hint: None });
    assert_eq!(raft.propose(0, add(4)), Ok(Some((3, 4))));
    assert_eq!(raft.propose(0, add(5)), Err(ProposeError::ChangePending));
}

#[test]
fn a_vote_counts_for_its_candidate_once_it_is_on_disk() {
    let snapshot = SnapshotMeta { index: 1, term: 1, conf: Conf::of([1]) };
    let mut raft = Raft::new(Config::new(1, 7), Restored { snapshot, ..Restored::default() });
    raft.campaign_now();
    let ready = raft.ready().unwrap();
    assert_eq!(
        (ready.hard_state, raft.status().role),
        (Some(HardState { term: 1, vote: 1 }), Role::Candidate)
    );
    raft.persisted(ready.number);
    assert_eq!(raft.status().role, Role::Leader);
}

#[test]
fn a_proposal_is_for_the_leader_of_its_term_alone() {
    let mut raft = leader();
    let payload = Payload::Data(Bytes::from_static(b"late"));
    raft.step(Message { from: 2, to: 1, term: 2, body: Body::Propose { id: 9, payload: payload.clone() } });
    assert_eq!(raft.status().last_index, 3);
    raft.step(Message { from: 2, to: 1, term: 3, body: Body::Propose { id: 9, payload } });
    assert_eq!(raft.status().last_index, 4);
}
