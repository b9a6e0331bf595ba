//! The strategy of kinds of which the schema says it all.

use super::{Strategy, Traits};

/// Nothing but facts.
pub struct Generic(pub Traits);

impl Strategy for Generic {
    fn traits(&self) -> &Traits {
        &self.0
    }
}
