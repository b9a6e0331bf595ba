//! The way to kubelets and pods: logs, exec, attach, port-forward, proxy.

/// How kubelets are reached.
#[derive(Default)]
pub struct KubeletClient {}
