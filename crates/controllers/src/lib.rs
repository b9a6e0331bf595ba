//! kube-controller-manager: one folder per controller.
