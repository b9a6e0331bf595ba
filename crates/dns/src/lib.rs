//! Cluster DNS: services, headless and named pods, and forwarding.
