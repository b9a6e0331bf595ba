//! The CNI plugins: bridge, host-local, portmap and loopback.
