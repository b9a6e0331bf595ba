//! Who the members are: replicated with the log, kept in snapshots.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft::wire::{Reader, conf, put_bytes, put_conf, put_number};
use raft::{Conf, SnapshotMeta};

use crate::{Member, MemberId};

/// The first byte of an encoded [`Identity`].
const VERSION: u8 = 1;

/// The members, and those that were removed: their ids do not come back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) cluster_id: u64,
    pub(crate) list: BTreeMap<MemberId, Member>,
    pub(crate) removed: BTreeSet<MemberId>,
}

/// What a data directory says of the member that it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) own: MemberId,
    pub(crate) members: Members,
    /// Up to where in the Raft log the state beside it goes.
    pub(crate) at: SnapshotMeta,
}

pub(crate) fn put_member(buffer: &mut Vec<u8>, member: &Member) {
    put_number(buffer, member.id.0);
    buffer.push(u8::from(member.is_learner));
    put_bytes(buffer, member.name.as_bytes());
    for urls in [&member.peer_urls, &member.client_urls] {
        put_number(buffer, urls.len() as u64);
        urls.iter().for_each(|url| put_bytes(buffer, url.as_bytes()));
    }
}

pub(crate) fn member(reader: &mut Reader) -> Option<Member> {
    fn text(reader: &mut Reader) -> Option<String> {
        String::from_utf8(reader.bytes()?.to_vec()).ok()
    }
    fn texts(reader: &mut Reader) -> Option<Vec<String>> {
        let count = reader.number()?;
        (0..count).map(|_| text(reader)).collect()
    }
    let (id, is_learner) = (MemberId(reader.number()?), reader.flag()?);
    Some(Member {
        id,
        is_learner,
        name: text(reader)?,
        peer_urls: texts(reader)?,
        client_urls: texts(reader)?,
    })
}

/// A member list as bytes, for members that join.
pub fn encode_members(cluster_id: u64, members: &[Member]) -> Bytes {
    let mut buffer = Vec::new();
    put_number(&mut buffer, cluster_id);
    put_number(&mut buffer, members.len() as u64);
    members.iter().for_each(|one| put_member(&mut buffer, one));
    buffer.into()
}

/// Reads what [`encode_members`] wrote.
pub fn decode_members(bytes: Bytes) -> Option<(u64, Vec<Member>)> {
    let mut reader = Reader(bytes);
    let (cluster_id, count) = (reader.number()?, reader.number()?);
    Some((cluster_id, (0..count).map(|_| member(&mut reader)).collect::<Option<_>>()?))
}

impl Identity {
    pub(crate) fn encode(&self) -> Bytes {
        let mut buffer = vec![VERSION];
        [self.own.0, self.at.index, self.at.term].iter().for_each(|number| put_number(&mut buffer, *number));
        put_conf(&mut buffer, &self.at.conf);
        let list: Vec<Member> = self.members.list.values().cloned().collect();
        put_bytes(&mut buffer, &encode_members(self.members.cluster_id, &list));
        put_number(&mut buffer, self.members.removed.len() as u64);
        self.members.removed.iter().for_each(|id| put_number(&mut buffer, id.0));
        buffer.into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return None;
        }
        let own = MemberId(reader.number()?);
        let at = SnapshotMeta { index: reader.number()?, term: reader.number()?, conf: conf(&mut reader)? };
        let (cluster_id, members) = decode_members(reader.bytes()?)?;
        let count = reader.number()?;
        let removed = (0..count).map(|_| reader.number().map(MemberId)).collect::<Option<_>>()?;
        let list = members.into_iter().map(|member| (member.id, member)).collect();
        Some(Self { own, members: Members { cluster_id, list, removed }, at })
    }
}

impl Members {
    /// The Raft members of a cluster that begins with these.
    pub(crate) fn conf(&self) -> Conf {
        let of = |learner| move |member: &&Member| member.is_learner == learner;
        let ids = |learner| self.list.values().filter(of(learner)).map(|member| member.id.0).collect();
        Conf { voters: ids(false), learners: ids(true) }
    }

    pub(crate) fn to_vec(&self) -> Vec<Member> {
        self.list.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_decodes_to_what_was_encoded() {
        let one = Member {
            id: MemberId(1),
            name: "a".into(),
            peer_urls: vec!["http://x".into()],
            ..Member::default()
        };
        let two = Member { id: MemberId(2), is_learner: true, ..Member::default() };
        let list = [one, two].into_iter().map(|member| (member.id, member)).collect();
        let removed = [MemberId(9)].into();
        let members = Members { cluster_id: 77, list, removed };
        let at = SnapshotMeta { index: 5, term: 2, conf: members.conf() };
        let identity = Identity { own: MemberId(2), members, at };
        assert_eq!(Identity::decode(identity.encode()).as_ref(), Some(&identity));
        assert_eq!(Identity::decode(Bytes::from_static(b"\x02")), None);
    }
}
