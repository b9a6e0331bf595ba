//! JSON: decoding straight from bytes by schema, and a fast writer.

mod decode;
mod duplicates;
mod go;
mod go_types;
mod indent;
mod read;
mod write;

pub use decode::{Decoded, conform, decode, parse};
pub(crate) use decode::{fill, zero};
pub use duplicates::duplicates;
pub use indent::{indent, new_line};
pub use write::{encode, encode_into, encode_string};
