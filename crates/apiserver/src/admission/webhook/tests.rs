//! Webhooks end to end.
