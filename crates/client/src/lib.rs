//! Transports for `kube::Client`, shared informers, work queues, events and leader election.
