//! All plugins in their order.

use std::sync::Arc;

use std::time::Instant;

use super::{Admission, Attributes};
use crate::metrics::families::{ADMISSION_CONTROLLER, ADMISSION_STEP};
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
        let since = Instant::now();
        let mut outcome = self.admit_once(attributes, registry).await;
        if outcome.is_ok() && attributes.reinvocation.wanted {
            attributes.reinvocation.again = true;
            outcome = self.admit_once(attributes, registry).await;
        }
        let rejected = said(outcome.is_err());
        ADMISSION_STEP.took(&[attributes.operation.as_str(), rejected, "admit"], since.elapsed());
        outcome
    }

    async fn admit_once(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let operation = attributes.operation;
        for plugin in self.0.iter().filter(|p| p.handles(operation)) {
            let since = Instant::now();
            let outcome = plugin.admit(attributes, registry).await;
            observe(&**plugin, attributes, outcome.is_err(), "admit", since);
            outcome?;
        }
        Ok(())
    }

    /// Lets every plugin refuse.
    pub async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let since = Instant::now();
        let outcome = self.validate_each(attributes, registry).await;
        let rejected = said(outcome.is_err());
        ADMISSION_STEP.took(&[attributes.operation.as_str(), rejected, "validate"], since.elapsed());
        outcome
    }

    async fn validate_each(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let operation = attributes.operation;
        for plugin in self.0.iter().filter(|p| p.handles(operation)) {
            let since = Instant::now();
            let outcome = plugin.validate(attributes, registry).await;
            observe(&**plugin, attributes, outcome.is_err(), "validate", since);
            outcome?;
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

fn said(rejected: bool) -> &'static str {
    if rejected { "true" } else { "false" }
}

fn observe(plugin: &dyn Admission, attributes: &Attributes<'_>, rejected: bool, step: &str, since: Instant) {
    let labels = [plugin.name(), attributes.operation.as_str(), said(rejected), step];
    ADMISSION_CONTROLLER.took(&labels, since.elapsed());
}
