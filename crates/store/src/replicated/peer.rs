//! What members say to each other beside Raft: requests that only the leader can answer.

use bytes::Bytes;
use raft::wire::{Reader, message, put_bytes, put_message, put_number};
use raft::{ChangeKind, Message};

use super::members::{member, put_member};
use crate::{ClusterError, Error, Key, LeaseId, LeaseStatus, Member, MemberId};

/// A request to the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    KeepAlive(LeaseId),
    LeaseStatus(LeaseId),
    /// Of `member` what `kind` needs: URLs to add, the id for the others.
    Change {
        kind: ChangeKind,
        member: Member,
    },
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Lease(LeaseStatus),
    Member(Member),
}

/// What is sent to another member.
#[derive(Debug)]
pub(crate) enum Frame {
    Raft(Message),
    Ask { from: MemberId, id: u64, ask: Ask },
    Tell { id: u64, told: Result<Told, ClusterError> },
}

impl Frame {
    pub(crate) fn encode(&self) -> Bytes {
        let mut buffer = Vec::new();
        match self {
            Self::Raft(raft) => {
                buffer.push(0);
                put_message(&mut buffer, raft);
            }
            Self::Ask { from, id, ask } => {
                buffer.push(1);
                put_number(&mut buffer, from.0);
                put_number(&mut buffer, *id);
                put_ask(&mut buffer, ask);
            }
            Self::Tell { id, told } => {
                buffer.push(2);
                put_number(&mut buffer, *id);
                put_told(&mut buffer, told);
            }
        }
        buffer.into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Option<Self> {
        let mut reader = Reader(bytes);
        Some(match reader.byte()? {
            0 => Self::Raft(message(&mut reader)?),
            1 => {
                let from = MemberId(reader.number()?);
                Self::Ask { from, id: reader.number()?, ask: ask(&mut reader)? }
            }
            2 => Self::Tell { id: reader.number()?, told: told(&mut reader)? },
            _ => return None,
        })
    }
}

fn put_ask(buffer: &mut Vec<u8>, ask: &Ask) {
    match ask {
        Ask::KeepAlive(lease) => {
            buffer.push(0);
            put_number(buffer, lease.0 as u64);
        }
        Ask::LeaseStatus(lease) => {
            buffer.push(1);
            put_number(buffer, lease.0 as u64);
        }
        Ask::Change { kind, member } => {
            buffer.push(match kind {
                ChangeKind::AddVoter => 2,
                ChangeKind::AddLearner => 3,
                ChangeKind::Remove => 4,
                ChangeKind::Update => 5,
            });
            put_member(buffer, member);
        }
    }
}

fn ask(reader: &mut Reader) -> Option<Ask> {
    let kind = match reader.byte()? {
        0 => return Some(Ask::KeepAlive(LeaseId(reader.number()? as i64))),
        1 => return Some(Ask::LeaseStatus(LeaseId(reader.number()? as i64))),
        2 => ChangeKind::AddVoter,
        3 => ChangeKind::AddLearner,
        4 => ChangeKind::Remove,
        5 => ChangeKind::Update,
        _ => return None,
    };
    Some(Ask::Change { kind, member: member(reader)? })
}

fn put_told(buffer: &mut Vec<u8>, told: &Result<Told, ClusterError>) {
    match told {
        Ok(Told::Lease(status)) => {
            buffer.push(0);
            let numbers = [status.id.0, status.granted_ttl_s, status.ttl_s, status.keys.len() as i64];
            numbers.iter().for_each(|number| put_number(buffer, *number as u64));
            status.keys.iter().for_each(|key| put_bytes(buffer, key));
        }
        Ok(Told::Member(member)) => {
            buffer.push(1);
            put_member(buffer, member);
        }
        Err(error) => {
            buffer.push(2);
            put_error(buffer, error);
        }
    }
}

fn told(reader: &mut Reader) -> Option<Result<Told, ClusterError>> {
    Some(match reader.byte()? {
        0 => {
            let mut number = || reader.number().map(|number| number as i64);
            let (id, granted_ttl_s, ttl_s, count) = (LeaseId(number()?), number()?, number()?, number()?);
            let keys = (0..count).map(|_| Some(Key::from(&*reader.bytes()?))).collect::<Option<_>>()?;
            Ok(Told::Lease(LeaseStatus { id, granted_ttl_s, ttl_s, keys }))
        }
        1 => Ok(Told::Member(member(reader)?)),
        2 => Err(error(reader)?),
        _ => return None,
    })
}

fn put_error(buffer: &mut Vec<u8>, error: &ClusterError) {
    let (code, lease) = match error {
        ClusterError::MemberExists => (1, 0),
        ClusterError::PeerUrlExists => (2, 0),
        ClusterError::MemberNotFound => (3, 0),
        ClusterError::MemberNotLearner => (4, 0),
        ClusterError::LearnerNotReady => (5, 0),
        ClusterError::TooManyLearners => (6, 0),
        ClusterError::NotEnoughStarted => (7, 0),
        ClusterError::Unhealthy => (8, 0),
        ClusterError::Store(Error::LeaseNotFound(lease)) => (9, lease.0),
        ClusterError::Store(Error::Timeout) => (10, 0),
        _ => (11, 0),
    };
    put_number(buffer, code);
    put_number(buffer, lease as u64);
}

fn error(reader: &mut Reader) -> Option<ClusterError> {
    let (code, lease) = (reader.number()?, LeaseId(reader.number()? as i64));
    Some(match code {
        1 => ClusterError::MemberExists,
        2 => ClusterError::PeerUrlExists,
        3 => ClusterError::MemberNotFound,
        4 => ClusterError::MemberNotLearner,
        5 => ClusterError::LearnerNotReady,
        6 => ClusterError::TooManyLearners,
        7 => ClusterError::NotEnoughStarted,
        8 => ClusterError::Unhealthy,
        9 => Error::LeaseNotFound(lease).into(),
        10 => Error::Timeout.into(),
        _ => Error::NoLeader.into(),
    })
}

/// Carries frames to other members. Frames may be lost, but none comes twice, and those to one member keep their order.
pub trait Transport: Send + Sync + 'static {
    /// Sends a frame without waiting; drops it if too many wait already.
    fn send(&self, to: MemberId, frame: Bytes);

    /// These are the members of `cluster_id` from now on; this one is `own`, whether it is among them or not.
    fn members(&self, cluster_id: u64, own: MemberId, members: &[Member]);
}

/// For a member without others.
pub struct NoTransport;

impl Transport for NoTransport {
    fn send(&self, _: MemberId, _: Bytes) {}

    fn members(&self, _: u64, _: MemberId, _: &[Member]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_decode_to_what_was_encoded() {
        let change = Ask::Change { kind: ChangeKind::Update, member: Member::default() };
        for ask in [Ask::KeepAlive(LeaseId(-7)), Ask::LeaseStatus(LeaseId(1)), change] {
            let frame = Frame::Ask { from: MemberId(3), id: 9, ask };
            assert_eq!(format!("{:?}", Frame::decode(frame.encode()).unwrap()), format!("{frame:?}"));
        }
        let lease = LeaseStatus { id: LeaseId(3), granted_ttl_s: 9, ttl_s: 8, keys: vec!["k".into()] };
        let missing = ClusterError::Store(Error::LeaseNotFound(LeaseId(4)));
        for told in [Ok(Told::Lease(lease)), Err(missing), Err(ClusterError::Unhealthy)] {
            let frame = Frame::Tell { id: 9, told };
            assert_eq!(format!("{:?}", Frame::decode(frame.encode()).unwrap()), format!("{frame:?}"));
        }
    }
}
