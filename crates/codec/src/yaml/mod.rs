//! YAML: read by turning it into JSON text in the same order, so that one decoder serves both; and a block-style writer.

mod read;
mod write;

use schema::{Schema, Value};

use crate::Error;
use crate::json::{self, Decoded};

pub use read::{duplicate_key, to_json};
pub use write::encode;

/// Decodes one YAML document as [`json::decode`] does JSON.
pub fn decode(body: &[u8], schema: &Schema) -> Result<Decoded, Error> {
    json::decode(&to_json(body)?, schema)
}

/// Decodes one YAML document without a schema.
pub fn parse(body: &[u8]) -> Result<Value, Error> {
    json::parse(&to_json(body)?)
}
