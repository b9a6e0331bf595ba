//! The replicated thing: a few registers.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::wire::{Reader, put_number};

/// A request to the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// Which call it is.
    pub call: u64,
    pub key: u64,
    /// Only if this is there.
    pub expected: Option<u64>,
    pub value: u64,
}

impl Command {
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        let expected = self.expected.map_or(0, |expected| expected + 1);
        [self.call, self.key, expected, self.value].iter().for_each(|number| put_number(&mut bytes, *number));
        bytes.into()
    }

    pub fn decode(bytes: &Bytes) -> Self {
        let mut reader = Reader(bytes.clone());
        let mut number = || reader.number().unwrap();
        let (call, key, expected, value) = (number(), number(), number(), number());
        Self { call, key, expected: expected.checked_sub(1), value }
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    pub applied: u64,
    pub registers: BTreeMap<u64, u64>,
}

impl Machine {
    /// Whether it was done.
    pub fn apply(&mut self, command: Command) -> bool {
        let there = self.registers.entry(command.key).or_default();
        let fits = command.expected.is_none_or(|expected| expected == *there);
        if fits {
            *there = command.value;
        }
        fits
    }

    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        put_number(&mut bytes, self.applied);
        for (key, value) in &self.registers {
            put_number(&mut bytes, *key);
            put_number(&mut bytes, *value);
        }
        bytes.into()
    }

    pub fn decode(bytes: Bytes) -> Self {
        let mut reader = Reader(bytes);
        let mut machine = Self { applied: reader.number().unwrap_or(0), ..Self::default() };
        while let Some(key) = reader.number() {
            machine.registers.insert(key, reader.number().unwrap());
        }
        machine
    }
}
