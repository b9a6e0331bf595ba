//! kubelet: pod workers, probes, volumes, cgroups, status and the node's HTTPS API.
