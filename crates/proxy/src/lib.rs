//! kube-proxy: Services and EndpointSlices made into kernel rules.
