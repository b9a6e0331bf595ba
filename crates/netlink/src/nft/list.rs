//! Reading what there is.

use crate::socket::{Error, Protocol, Socket};
use crate::{Attrs, Encoder};

use super::batch::decode_element;
use super::{Element, Family, SUBSYSTEM};

const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const GET_SETELEM: u16 = SUBSYSTEM << 8 | 13;
/// Bytes of `struct nfgenmsg`.
const HEADER: usize = 4;

fn header(message: &mut Encoder, family: Family) {
    message.raw(&[family.number(), 0, 0, 0]);
}

/// The names of a family's tables, in this thread's network namespace.
pub fn table_names(family: Family) -> Result<Vec<String>, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let answers = socket.dump("list tables", GET_TABLE, |message| header(message, family))?;
    let name = |answer: &Vec<u8>| Attrs(answer.get(HEADER..)?).str(1).map(str::to_owned);
    Ok(answers.iter().filter_map(name).collect())
}

/// The elements of a set or map, in this thread's network namespace; none if there is no such set.
pub fn elements(family: Family, table: &str, set: &str) -> Result<Vec<Element>, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let answers = socket.dump(&format!("list elements of {table} {set}"), GET_SETELEM, |message| {
        header(message, family);
        message.attr_str(1, table);
        message.attr_str(2, set);
    });
    let answers = match answers {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        other => other?,
    };
    let list = |answer: &Vec<u8>| -> Vec<Element> {
        let attrs = Attrs(answer.get(HEADER..).unwrap_or_default()).nested(3);
        attrs.filter_map(|(_, element)| decode_element(&Attrs(element))).collect()
    };
    Ok(answers.iter().flat_map(list).collect())
}
