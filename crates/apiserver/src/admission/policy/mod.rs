//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: admission by CEL expressions (KEP-3488, KEP-3962).

mod apply;
mod definition;
mod evaluate;
mod json;
mod mutating;
mod params;
mod typecheck;

mod validating;

pub use mutating::MutatingAdmissionPolicy;

pub use typecheck::run as check_types;
pub use validating::ValidatingAdmissionPolicy;

#[cfg(test)]
mod tests;
