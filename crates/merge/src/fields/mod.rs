//! Sets of fields, as managedFields hold them (`FieldsV1`, KEP-555).

mod element;
mod set;
mod wire;

pub use element::Element;
pub use set::Set;
pub use wire::FieldsError;
