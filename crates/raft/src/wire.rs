//! Messages and entries as bytes: fields in order, numbers as varints, byte strings with their length before them.

use bytes::Bytes;

use crate::{Body, Change, ChangeKind, Conf, Entry, Hint, Message, Payload, SnapshotMeta};

/// Appends a number.
pub fn put_number(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        buffer.push(number as u8 | 0x80);
        number >>= 7;
    }
    buffer.push(number as u8);
}

/// Appends bytes with their length.
pub fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    put_number(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

fn put_numbers(buffer: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| put_number(buffer, *number));
}

/// Reads what the `put_` functions wrote. None: the bytes end early or are not of the format.
#[derive(Debug, Clone)]
pub struct Reader(pub Bytes);

impl Reader {
    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let byte = *self.0.first()?;
        _ = self.0.split_to(1);
        Some(byte)
    }

    /// A number.
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// Bytes with their length; they share what is read from.
    pub fn bytes(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.number()?).ok()?;
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    /// True or false.
    pub fn flag(&mut self) -> Option<bool> {
        self.byte().map(|byte| byte != 0)
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        (0..count).map(|_| one(self)).collect()
    }
}

fn put_payload(buffer: &mut Vec<u8>, payload: &Payload) {
    match payload {
        Payload::Empty => buffer.push(0),
        Payload::Data(data) => {
            buffer.push(1);
            put_bytes(buffer, data);
        }
        Payload::Change(change) => {
            buffer.push(2);
            let kind = match change.kind {
                ChangeKind::AddVoter => 0,
                ChangeKind::AddLearner => 1,
                ChangeKind::Remove => 2,
                ChangeKind::Update => 3,
            };
            put_numbers(buffer, &[kind, change.id]);
            put_bytes(buffer, &change.context);
        }
    }
}

fn payload(reader: &mut Reader) -> Option<Payload> {
    Some(match reader.byte()? {
        0 => Payload::Empty,
        1 => Payload::Data(reader.bytes()?),
        2 => {
            let kind = match reader.number()? {
                0 => ChangeKind::AddVoter,
                1 => ChangeKind::AddLearner,
                2 => ChangeKind::Remove,
                3 => ChangeKind::Update,
                _ => return None,
            };
            Payload::Change(Change { kind, id: reader.number()?, context: reader.bytes()? })
        }
        _ => return None,
    })
}

/// Appends an entry.
pub fn put_entry(buffer: &mut Vec<u8>, entry: &Entry) {
    put_numbers(buffer, &[entry.term, entry.index]);
    put_payload(buffer, &entry.payload);
}

/// Reads an entry.
pub fn entry(reader: &mut Reader) -> Option<Entry> {
    Some(Entry { term: reader.number()?, index: reader.number()?, payload: payload(reader)? })
}

/// Appends members.
pub fn put_conf(buffer: &mut Vec<u8>, conf: &Conf) {
    for ids in [&conf.voters, &conf.learners] {
        put_number(buffer, ids.len() as u64);
        ids.iter().for_each(|id| put_number(buffer, *id));
    }
}

/// Reads members.
pub fn conf(reader: &mut Reader) -> Option<Conf> {
    let voters = reader.list(Reader::number)?.into_iter().collect();
    let learners = reader.list(Reader::number)?.into_iter().collect();
    Some(Conf { voters, learners })
}

/// Appends a message.
pub fn put_message(buffer: &mut Vec<u8>, message: &Message) {
    put_numbers(buffer, &[message.from, message.to, message.term]);
    let mut numbers = |tag: u8, numbers: &[u64]| {
        buffer.push(tag);
        put_numbers(buffer, numbers);
    };
    match &message.body {
        Body::PreVote { last_index, last_term } => numbers(0, &[*last_index, *last_term]),
        Body::PreVoteReply { granted } => numbers(1, &[u64::from(*granted)]),
        Body::Vote { last_index, last_term, transfer } => {
            numbers(2, &[*last_index, *last_term, u64::from(*transfer)]);
        }
        Body::VoteReply { granted } => numbers(3, &[u64::from(*granted)]),
        Body::Append { prev_index, prev_term, commit, entries } => {
            numbers(4, &[*prev_index, *prev_term, *commit, entries.len() as u64]);
            entries.iter().for_each(|entry| put_entry(buffer, entry));
        }
        Body::AppendReply { matched, hint: None } => numbers(5, &[*matched]),
        Body::AppendReply { matched, hint: Some(hint) } => {
            numbers(6, &[*matched, hint.refused, hint.index, hint.term]);
        }
        Body::Heartbeat { commit, read } => numbers(7, &[*commit, *read]),
        Body::HeartbeatReply { read } => numbers(8, &[*read]),
        Body::Snapshot { meta, chunk, data, last } => {
            numbers(9, &[meta.index, meta.term, *chunk, u64::from(*last)]);
            put_conf(buffer, &meta.conf);
            put_bytes(buffer, data);
        }
        Body::SnapshotReply { index, next } => numbers(10, &[*index, *next]),
        Body::Propose { id, payload } => {
            numbers(11, &[*id]);
            put_payload(buffer, payload);
        }
        Body::Refused { id } => numbers(12, &[*id]),
        Body::ReadIndex { id } => numbers(13, &[*id]),
        Body::ReadIndexReply { id, index } => numbers(14, &[*id, *index]),
        Body::TimeoutNow => numbers(15, &[]),
    }
}

/// Reads a message.
pub fn message(reader: &mut Reader) -> Option<Message> {
    let (from, to, term) = (reader.number()?, reader.number()?, reader.number()?);
    Some(Message { from, to, term, body: body(reader)? })
}

fn body(reader: &mut Reader) -> Option<Body> {
    let tag = reader.byte()?;
    Some(match tag {
        0 => Body::PreVote { last_index: reader.number()?, last_term: reader.number()? },
        1 => Body::PreVoteReply { granted: reader.flag()? },
        2 => {
            Body::Vote { last_index: reader.number()?, last_term: reader.number()?, transfer: reader.flag()? }
        }
        3 => Body::VoteReply { granted: reader.flag()? },
        4 => Body::Append {
            prev_index: reader.number()?,
            prev_term: reader.number()?,
            commit: reader.number()?,
            entries: reader.list(entry)?,
        },
        5 => Body::AppendReply { matched: reader.number()?, hint: None },
        6 => Body::AppendReply {
            matched: reader.number()?,
            hint: Some(Hint { refused: reader.number()?, index: reader.number()?, term: reader.number()? }),
        },
        7 => Body::Heartbeat { commit: reader.number()?, read: reader.number()? },
        8 => Body::HeartbeatReply { read: reader.number()? },
        9 => {
            let (index, term) = (reader.number()?, reader.number()?);
            let (chunk, last) = (reader.number()?, reader.flag()?);
            let meta = SnapshotMeta { index, term, conf: conf(reader)? };
            Body::Snapshot { meta, chunk, data: reader.bytes()?, last }
        }
        10 => Body::SnapshotReply { index: reader.number()?, next: reader.number()? },
        11 => Body::Propose { id: reader.number()?, payload: payload(reader)? },
        12 => Body::Refused { id: reader.number()? },
        13 => Body::ReadIndex { id: reader.number()? },
        14 => Body::ReadIndexReply { id: reader.number()?, index: reader.number()? },
        15 => Body::TimeoutNow,
        _ => return None,
    })
}
