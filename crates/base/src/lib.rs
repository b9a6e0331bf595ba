//! Clock, task scopes, identities, quantities and the kernel preflight: what every crate takes from outside.
