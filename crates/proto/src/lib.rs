//! Generated gRPC messages and services of CRI, etcd and the plugin protocols.
