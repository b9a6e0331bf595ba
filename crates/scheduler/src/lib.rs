//! kube-scheduler: queue, framework, plugins and the binding cycle.
