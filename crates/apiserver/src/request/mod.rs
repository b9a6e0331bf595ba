//! What a request asks for: the parts of its path and its query.

mod info;
mod query;

pub use info::RequestInfo;
pub use query::Query;
pub(crate) use query::percent_decode;
