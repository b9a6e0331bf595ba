//! Addresses and ports of services.
