//! Batches: changes that the kernel does all at once.

use crate::socket::{ACK, APPEND, CREATE, Error, Protocol, REQUEST, Socket};
use crate::{Attrs, Encoder};

use super::expr::{Expr, Rule, SetRef};
use super::{BaseChain, ChainKind, DataType, Element, ElementData, Family, Hook, SUBSYSTEM, SetSpec};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DEL_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DEL_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DEL_SET: u16 = 11;
const NEW_SETELEM: u16 = 12;
const DEL_SETELEM: u16 = 14;

const SET_ANONYMOUS: u32 = 0x1;
const SET_CONSTANT: u32 = 0x2;
const SET_MAP: u32 = 0x8;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
/// `NFT_DATA_VERDICT`.
const DATA_VERDICT: u32 = 0xffff_ff00;
const LIST_ELEM: u16 = 1;
/// An attribute is at most 64 KiB; element lists are split well before.
const ELEMENTS_BYTES: usize = 48 << 10;
/// The longest remark that fits its length byte as `nft` reads it.
const MAX_COMMENT: usize = 127;

/// Changes to be done together. Names of tables, chains and sets that are longer than the kernel takes are refused by it.
#[derive(Debug)]
pub struct Batch {
    encoder: Encoder,
    /// What each message does, for errors; the batch's own first message is number 1.
    labels: Vec<String>,
    next_set: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// A batch that changes nothing yet.
    pub fn new() -> Self {
        let mut this = Self { encoder: Encoder::new(), labels: Vec::new(), next_set: 1 };
        this.control(BATCH_BEGIN);
        this
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.labels.len() == 1
    }

    fn control(&mut self, kind: u16) {
        self.labels.push("change the rules".to_owned());
        self.encoder.begin(kind, REQUEST, self.labels.len() as u32);
        self.encoder.raw(&[0, 0, 0, SUBSYSTEM as u8]);
        self.encoder.end();
    }

    fn message(
        &mut self,
        label: impl FnOnce() -> String,
        kind: u16,
        flags: u16,
        family: Family,
        fill: impl FnOnce(&mut Encoder),
    ) {
        self.labels.push(label());
        self.encoder.begin(SUBSYSTEM << 8 | kind, REQUEST | flags, self.labels.len() as u32);
        self.encoder.raw(&[family.number(), 0, 0, 0]);
        fill(&mut self.encoder);
        self.encoder.end();
    }

    /// Makes a table if it is not there.
    pub fn add_table(&mut self, family: Family, table: &str) {
        let label = || format!("make table {table}");
        self.message(label, NEW_TABLE, CREATE, family, |message| message.attr_str(1, table));
    }

    /// Removes a table, which must be there, with all that is in it.
    pub fn delete_table(&mut self, family: Family, table: &str) {
        let label = || format!("remove table {table}");
        self.message(label, DEL_TABLE, 0, family, |message| message.attr_str(1, table));
    }

    /// Leaves an empty table, whatever was there before.
    pub fn reset_table(&mut self, family: Family, table: &str) {
        self.add_table(family, table);
        self.delete_table(family, table);
        self.add_table(family, table);
    }

    /// Makes a chain if it is not there.
    pub fn add_chain(&mut self, family: Family, table: &str, chain: &str, base: Option<BaseChain>) {
        let label = || format!("make chain {table} {chain}");
        self.message(label, NEW_CHAIN, CREATE, family, |message| {
            message.attr_str(1, table);
            message.attr_str(3, chain);
            let Some(base) = base else { return };
            message.nest(4, |hook| {
                hook.attr_be32(1, hook_number(base.hook));
                hook.attr_be32(2, base.priority as u32);
            });
            message.attr_str(7, if base.kind == ChainKind::Nat { "nat" } else { "filter" });
        });
    }

    /// Removes a chain that nothing refers to.
    pub fn delete_chain(&mut self, family: Family, table: &str, chain: &str) {
        let label = || format!("remove chain {table} {chain}");
        self.message(label, DEL_CHAIN, 0, family, |message| {
            message.attr_str(1, table);
            message.attr_str(3, chain);
        });
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, family: Family, table: &str, chain: &str) {
        let label = || format!("empty chain {table} {chain}");
        self.message(label, DEL_RULE, 0, family, |message| {
            message.attr_str(1, table);
            message.attr_str(2, chain);
        });
    }

    /// Adds a rule to the end of a chain, with the sets of its own.
    pub fn add_rule(&mut self, family: Family, table: &str, chain: &str, rule: &Rule) {
        let mut own = Vec::new();
        for expr in &rule.exprs {
            let (Expr::Lookup(SetRef::Own(set), ..)
            | Expr::Map(SetRef::Own(set), ..)
            | Expr::VerdictMap(SetRef::Own(set), ..)) = expr
            else {
                continue;
            };
            let (spec, elements) = &**set;
            let id = self.next_set + 1;
            let name = if spec.data.is_empty() { "__set%d" } else { "__map%d" };
            self.set(family, table, name, spec, SET_ANONYMOUS | SET_CONSTANT);
            self.elements(NEW_SETELEM, family, table, (name, Some(id)), elements);
            own.push((name.to_owned(), id));
        }
        let label = || format!("add a rule to chain {table} {chain}");
        self.message(label, NEW_RULE, CREATE | APPEND, family, |message| {
            message.attr_str(1, table);
            message.attr_str(2, chain);
            let mut own = own.into_iter();
            message.nest(4, |list| rule.exprs.iter().for_each(|expr| expr.encode(list, &mut own)));
            if !rule.comment.is_empty() {
                message.attr(7, &comment(&rule.comment));
            }
        });
    }

    /// Makes a set or map if it is not there.
    pub fn add_set(&mut self, family: Family, table: &str, spec: &SetSpec) {
        self.set(family, table, &spec.name, spec, 0);
    }

    fn set(&mut self, family: Family, table: &str, name: &str, spec: &SetSpec, flags: u32) {
        self.next_set += 1;
        let id = self.next_set;
        let label = || format!("make set {table} {name}");
        self.message(label, NEW_SET, CREATE, family, |message| {
            message.attr_str(1, table);
            message.attr_str(2, name);
            let mut flags = flags;
            flags |= if spec.data.is_empty() { 0 } else { SET_MAP };
            flags |= if spec.timeout_ms.is_some() { SET_TIMEOUT | SET_EVAL } else { 0 };
            message.attr_be32(3, flags);
            message.attr_be32(4, type_number(&spec.key));
            message.attr_be32(5, type_len(&spec.key));
            if spec.data == [DataType::Verdict] {
                message.attr_be32(6, DATA_VERDICT);
                message.attr_be32(7, 0);
            } else if !spec.data.is_empty() {
                message.attr_be32(6, type_number(&spec.data));
                message.attr_be32(7, type_len(&spec.data));
            }
            message.attr_be32(10, id);
            spec.timeout_ms.into_iter().for_each(|timeout| message.attr_be64(11, timeout));
            if spec.key == [DataType::Integer] {
                // For `nft list`: the key is in the machine's order.
                message.attr(13, &[0, 4, 1, 0, 0, 0]);
            }
        });
    }

    /// Removes a set that nothing refers to.
    pub fn delete_set(&mut self, family: Family, table: &str, set: &str) {
        let label = || format!("remove set {table} {set}");
        self.message(label, DEL_SET, 0, family, |message| {
            message.attr_str(1, table);
            message.attr_str(2, set);
        });
    }

    /// Adds elements. A map must not have their keys with other data.
    pub fn add_elements(&mut self, family: Family, table: &str, set: &str, elements: &[Element]) {
        self.elements(NEW_SETELEM, family, table, (set, None), elements);
    }

    /// Removes elements, which must be there.
    pub fn delete_elements(&mut self, family: Family, table: &str, set: &str, elements: &[Element]) {
        self.elements(DEL_SETELEM, family, table, (set, None), elements);
    }

    fn elements(
        &mut self,
        kind: u16,
        family: Family,
        table: &str,
        (set, id): (&str, Option<u32>),
        elements: &[Element],
    ) {
        let mut rest = elements;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |element: &&Element| {
                bytes += 80 + element_bytes(element);
                bytes < ELEMENTS_BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            rest = later;
            let verb = if kind == NEW_SETELEM { "add" } else { "remove" };
            let label = || format!("{verb} elements of {table} {set}");
            let flags = if kind == NEW_SETELEM { CREATE } else { 0 };
            self.message(label, kind, flags, family, |message| {
                message.attr_str(1, table);
                message.attr_str(2, set);
                id.into_iter().for_each(|id| message.attr_be32(4, id));
                message.nest(3, |list| now.iter().for_each(|element| encode_element(list, element)));
            });
        }
    }

    /// Has the kernel do it, in this thread's network namespace.
    pub fn commit(self) -> Result<(), Error> {
        self.commit_on(&mut Socket::open(Protocol::Netfilter)?)
    }

    /// Has the kernel do it, in the socket's network namespace. After an error nothing was changed, and the socket
    /// should not be used again.
    pub fn commit_on(mut self, socket: &mut Socket) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        self.encoder.add_flags(ACK);
        let last = self.labels.len() as u32;
        self.control(BATCH_END);
        let labels = self.labels;
        let label = |seq: u32| labels.get(seq as usize - 1).cloned().unwrap_or_default();
        socket.batch(self.encoder.bytes(), 1, last, label)
    }
}

fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

/// `nft` packs the types of a concatenation into six bits each.
fn type_number(types: &[DataType]) -> u32 {
    types.iter().fold(0, |number, part| number << 6 | part.number())
}

/// Parts of a concatenation are padded to four bytes; a single value is not.
fn type_len(types: &[DataType]) -> u32 {
    match types {
        [one] => one.len(),
        many => many.iter().map(|part| part.len().next_multiple_of(4)).sum(),
    }
}

fn comment(text: &str) -> Vec<u8> {
    let mut end = text.len().min(MAX_COMMENT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = vec![0, end as u8 + 1];
    bytes.extend_from_slice(&text.as_bytes()[..end]);
    bytes.push(0);
    bytes
}

/// The text of [`comment`].
pub(super) fn parse_comment(userdata: &[u8]) -> String {
    let mut rest = userdata;
    while let [kind, length, tail @ ..] = rest {
        let Some((value, after)) = tail.split_at_checked(usize::from(*length)) else { break };
        if *kind == 0 {
            return String::from_utf8_lossy(value.strip_suffix(b"\0").unwrap_or(value)).into_owned();
        }
        rest = after;
    }
    String::new()
}

fn element_bytes(element: &Element) -> usize {
    let data = match &element.data {
        ElementData::None => 0,
        ElementData::Value(value) => value.len(),
        ElementData::Verdict(_) => 128,
    };
    element.key.len() + data + element.comment.len()
}

fn encode_element(list: &mut Encoder, element: &Element) {
    list.nest(LIST_ELEM, |nested| {
        nested.nest(1, |key| key.attr(1, &element.key));
        match &element.data {
            ElementData::None => {}
            ElementData::Value(value) => nested.nest(2, |data| data.attr(1, value)),
            ElementData::Verdict(verdict) => nested.nest(2, |data| verdict.encode(data)),
        }
        if !element.comment.is_empty() {
            nested.attr(6, &comment(&element.comment));
        }
    });
}

pub(super) fn decode_element(attrs: &Attrs<'_>) -> Option<Element> {
    let key = attrs.nested(1).find(1)?.to_vec();
    let data = attrs.nested(2);
    let data = match (data.find(1), super::Verdict::decode(&data)) {
        (Some(value), _) => ElementData::Value(value.to_vec()),
        (None, Some(verdict)) => ElementData::Verdict(verdict),
        (None, None) => ElementData::None,
    };
    Some(Element { key, data, comment: attrs.find(6).map(parse_comment).unwrap_or_default() })
}
