//! What waits until a majority has confirmed the leader: linearizable reads, and the leader's answers about leases.

use std::time::{Duration, Instant};

use raft::ReadState;

use super::apply::Reply;
use super::driver::{AskedBy, Driver};
use super::peer::Ask;
use crate::lease::Moment;
use crate::{Error, Revision};

/// A question to the leader is sent again when it was not answered for so long (etcd `readIndexRetryTime`).
const RETRY: Duration = Duration::from_millis(500);
/// What waits at once; further ones are refused.
const MAX_READS: usize = 16 * 1024;

/// Who waits.
pub(super) enum Waiting {
    /// For all that was answered before to be in the state.
    Caller(Reply<Revision>),
    /// For the certainty that this member still leads: one that was cut off, or stopped for a while, would otherwise
    /// prolong a lease that its successor has ended.
    Leader(Ask, AskedBy),
}

pub(super) struct Read {
    reader: Waiting,
    deadline: Instant,
}

/// Reads that one question to the leader answers.
pub(super) struct AskedReads {
    reads: Vec<Read>,
    /// None: ask again at once.
    asked: Option<Instant>,
}

impl Driver {
    pub(super) fn read(&mut self, reader: Waiting, deadline: Instant) {
        if self.reads.len() >= MAX_READS {
            return self.refuse_read(reader, Error::Overloaded);
        }
        self.reads.push(Read { reader, deadline });
    }

    /// One question answers all reads that came since the last. The number of a question stays the same when it is sent
    /// again, so that the answer may take longer than the patience.
    pub(super) fn ask_reads(&mut self, now: Moment) {
        if !self.reads.is_empty() {
            let id = self.session ^ self.fresh_id();
            let reads = std::mem::take(&mut self.reads);
            self.asked_reads.insert(id, AskedReads { reads, asked: None });
        }
        for (id, asked) in &mut self.asked_reads {
            let due = asked.asked.is_none_or(|at| now.instant.saturating_duration_since(at) >= RETRY);
            if due && self.raft.read_index(*id).is_ok() {
                asked.asked = Some(now.instant);
            }
        }
    }

    /// Leadership changed: nobody else answers what the old leader was asked.
    pub(super) fn ask_reads_again(&mut self) {
        self.asked_reads.values_mut().for_each(|asked| asked.asked = None);
    }

    pub(super) fn answer_reads(&mut self, now: Moment) {
        let (applied, revision) = (self.raft.status().applied, self.applier.state.revision);
        let due: Vec<ReadState> = self.confirmed.extract_if(.., |read| read.index <= applied).collect();
        for read in due {
            let reads = self.asked_reads.remove(&read.id).map(|asked| asked.reads);
            for read in reads.into_iter().flatten() {
                match read.reader {
                    Waiting::Caller(reply) => _ = reply.send(Ok(revision)),
                    Waiting::Leader(ask, from) => self.answer_confirmed(ask, from, now),
                }
            }
        }
    }

    pub(super) fn expire_reads(&mut self, now: Moment) {
        let over = |read: &mut Read| read.deadline <= now.instant;
        let mut due: Vec<Read> = self.reads.extract_if(.., over).collect();
        self.asked_reads.values_mut().for_each(|asked| due.extend(asked.reads.extract_if(.., over)));
        self.asked_reads.retain(|_, asked| !asked.reads.is_empty());
        due.into_iter().for_each(|read| self.refuse_read(read.reader, Error::Timeout));
    }

    pub(super) fn refuse_reads(&mut self, error: &Error) {
        let asked = std::mem::take(&mut self.asked_reads).into_values().flat_map(|asked| asked.reads);
        let reads: Vec<Read> = std::mem::take(&mut self.reads).into_iter().chain(asked).collect();
        reads.into_iter().for_each(|read| self.refuse_read(read.reader, error.clone()));
    }

    fn refuse_read(&mut self, reader: Waiting, error: Error) {
        match reader {
            Waiting::Caller(reply) => _ = reply.send(Err(error)),
            Waiting::Leader(_, from) => self.tell(from, Err(error.into())),
        }
    }
}
