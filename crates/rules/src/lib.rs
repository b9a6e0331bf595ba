//! Defaulting, pruning and validation of schema-shaped values.
