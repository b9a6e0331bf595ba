//! All plugins in their order.

use std::sync::Arc;

use super::{Admission, Attributes};
use crate::registry::Registry;
use crate::status::ApiResult;

/// The enabled plugins; mutating ones run first, all in the order given.
#[derive(Default)]
pub struct AdmissionChain(Vec<Arc<dyn Admission>>);

impl AdmissionChain {
    /// Runs them in this order.
    pub fn new(plugins: Vec<Arc<dyn Admission>>) -> Self {
        Self(plugins)
    }

    /// Lets every plugin change or refuse; a second time when one of them wants to see what others changed.
    pub async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        self.admit_once(attributes, registry).await?;
        if attributes.reinvocation.wanted {
            attributes.reinvocation.again = true;
            self.admit_once(attributes, registry).await?;
        }
        Ok(())
    }

    async fn admit_once(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let operation = attributes.operation;
        for plugin in self.0.iter().filter(|p| p.handles(operation)) {
            plugin.admit(attributes, registry).await?;
        }
        Ok(())
    }

    /// Lets every plugin refuse.
    pub async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let operation = attributes.operation;
        for plugin in self.0.iter().filter(|p| p.handles(operation)) {
            plugin.validate(attributes, registry).await?;
        }
        Ok(())
    }

    /// Lets every plugin add what is to be stored with the object.
    pub async fn charge(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let operation = attributes.operation;
        for plugin in self.0.iter().filter(|p| p.handles(operation)) {
            plugin.charge(attributes, registry).await?;
        }
        Ok(())
    }

    /// Tells every plugin how the write ended.
    pub async fn finished(&self, attributes: &Attributes<'_>, stored: bool) {
        for plugin in self.0.iter().filter(|p| p.handles(attributes.operation)) {
            plugin.finished(attributes, stored).await;
        }
    }
}
