//! JSON, YAML and protobuf forms of schema-shaped values.
