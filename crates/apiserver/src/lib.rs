//! kube-apiserver: authentication, authorization, admission and the registry over the store.
