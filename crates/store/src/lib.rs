//! The in-memory keyspace with history at etcd's revisions, its write-ahead log and watches.
