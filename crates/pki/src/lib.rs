//! Keys, certificates and TLS configurations that reload themselves.
