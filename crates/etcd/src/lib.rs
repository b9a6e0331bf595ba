//! The etcd v3 gRPC API over a store, and a store over an external etcd.
