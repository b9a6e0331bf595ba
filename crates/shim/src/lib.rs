//! The process that holds a pod's namespaces and owns its containers, and the client that speaks to it.
