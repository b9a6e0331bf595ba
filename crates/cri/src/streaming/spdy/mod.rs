//! SPDY/3.1 as Kubernetes' clients use it: many streams on one connection, headers compressed, no flow control (their
//! library knows none).

mod connection;
mod dictionary;
mod frame;
mod headers;

pub use connection::{Connection, Stream, StreamWriter};
