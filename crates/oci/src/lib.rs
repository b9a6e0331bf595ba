//! The OCI runtime entry: create, start, exec, kill and delete of one container, single-threaded.
