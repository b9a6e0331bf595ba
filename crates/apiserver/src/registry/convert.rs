//! Between versions of a kind whose fields differ.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use schema::{Resource, SmolStr, Value};

use super::Served;
use crate::status::{ApiError, ApiResult};

/// Converts objects of one kind between the served and the stored version. `apiVersion` is set by the caller.
pub trait Conversion: Send + Sync + 'static {
    /// To the stored version.
    fn convert_to_hub(&self, object: Value) -> ApiResult<Value>;
    /// To the served version.
    fn convert_from_hub(&self, object: Value) -> ApiResult<Value>;
    /// True if an object that was stored at `revision` is the same in both but for its `apiVersion`.
    fn is_needless(&self, _revision: u64) -> bool {
        false
    }
}

/// Converts objects of a custom resource by asking somebody else.
#[async_trait]
pub trait RemoteConversion: Send + Sync + 'static {
    /// The objects in the version of `target`, in order. Those that are in it already are not sent.
    async fn convert(&self, objects: Vec<Value>, target: &Resource) -> ApiResult<Vec<Value>>;
}

/// Who converts between the versions of a resource.
#[derive(Clone)]
pub enum Converter {
    /// This server.
    Local(Arc<dyn Conversion>),
    /// A webhook. Every version of the resource has it, the stored one as well: objects may be stored in another.
    Remote(Arc<dyn RemoteConversion>),
}

/// The conversion of a built-in resource, if its fields differ from those stored.
pub fn conversion_for(resource: &Resource, hub: &Resource) -> Option<Converter> {
    if hub_equals(resource, hub) {
        return None;
    }
    crate::conversions::between(resource, hub).map(Converter::Local)
}

/// True when both are the same group and version.
pub fn hub_equals(resource: &Resource, hub: &Resource) -> bool {
    resource.group == hub.group && resource.version == hub.version
}

impl Served {
    /// True if the object that was stored at `revision` is the same in the served version but for its `apiVersion`.
    pub fn is_same(&self, revision: u64) -> bool {
        match &self.conversion {
            None => true,
            Some(Converter::Local(conversion)) => conversion.is_needless(revision),
            Some(Converter::Remote(_)) => false,
        }
    }

    /// An object of the served version, in the stored one, whose defaults it gets where a webhook leaves them out.
    pub async fn convert_to_hub(&self, object: Value) -> ApiResult<Value> {
        match &self.conversion {
            Some(Converter::Remote(_)) => self.bring_to_hub(object).await,
            _ => self.convert_to_hub_here(object),
        }
    }

    /// An object of the stored version (or any other that was stored once), in the served one.
    pub async fn convert_from_hub(&self, object: Value) -> ApiResult<Value> {
        match &self.conversion {
            Some(Converter::Remote(_)) => one(self.convert_all_from_hub(vec![object]).await?),
            _ => self.convert_from_hub_here(object),
        }
    }

    /// A stored object, which may have been stored when another version was, in the version that is stored now.
    pub async fn bring_to_hub(&self, object: Value) -> ApiResult<Value> {
        match &self.conversion {
            Some(Converter::Remote(remote)) => {
                let mut object = one(remote.convert(vec![object], &self.hub).await?)?;
                rules::apply_defaults(self.hub.schema.root(), &mut object);
                Ok(object)
            }
            _ => Ok(object),
        }
    }

    /// As [`Served::convert_from_hub`], all at once.
    pub async fn convert_all_from_hub(&self, objects: Vec<Value>) -> ApiResult<Vec<Value>> {
        match &self.conversion {
            Some(Converter::Remote(remote)) => {
                let mut converted = remote.convert(objects, &self.resource).await?;
                converted.iter_mut().for_each(|o| rules::apply_defaults(self.resource.schema.root(), o));
                Ok(converted)
            }
            _ => objects.into_iter().map(|object| self.convert_from_hub_here(object)).collect(),
        }
    }

    fn convert_to_hub_here(&self, object: Value) -> ApiResult<Value> {
        if hub_equals(&self.resource, &self.hub) {
            return Ok(object);
        }
        let mut object = match &self.conversion {
            Some(Converter::Local(conversion)) => conversion.convert_to_hub(object)?,
            _ => object,
        };
        object.insert("apiVersion", self.hub.api_version());
        Ok(object)
    }

    fn convert_from_hub_here(&self, object: Value) -> ApiResult<Value> {
        let mut object = match &self.conversion {
            Some(Converter::Local(conversion)) => conversion.convert_from_hub(object)?,
            _ => object,
        };
        object.insert("apiVersion", self.resource.api_version());
        object.insert("kind", self.resource.kind.clone());
        Ok(object)
    }

    fn remote(&self) -> Option<&Arc<dyn RemoteConversion>> {
        match &self.conversion {
            Some(Converter::Remote(remote)) => Some(remote),
            _ => None,
        }
    }
}

fn one(objects: Vec<Value>) -> ApiResult<Value> {
    objects.into_iter().next().ok_or_else(|| ApiError::internal("a conversion gave no object"))
}

/// Conversions that code without awaits asked for: what is not known yet is noted, fetched by [`Conversions::fetch`],
/// and found when the same code runs again.
#[derive(Default)]
pub struct Conversions(Mutex<Asked>);

#[derive(Default)]
struct Asked {
    known: Vec<(Value, SmolStr, Option<Value>)>,
    missing: Vec<(Value, Arc<Served>)>,
}

impl Conversions {
    /// An object of `from`'s version in the version of `target`; `None` when that cannot be, or is not known yet.
    pub fn convert(&self, object: &Value, from: &Served, target: &Arc<Served>) -> Option<Value> {
        if target.remote().is_none() {
            let hub = from.convert_to_hub_here(object.clone()).ok()?;
            return target.convert_from_hub_here(hub).ok();
        }
        let version = &target.resource.version;
        let mut asked = self.0.lock();
        if let Some((.., found)) = asked.known.iter().find(|(o, v, _)| v == version && o == object) {
            return found.clone();
        }
        asked.missing.push((object.clone(), target.clone()));
        None
    }

    /// Converts what was asked for in vain; true if there was anything.
    pub async fn fetch(&self) -> bool {
        let missing = std::mem::take(&mut self.0.lock().missing);
        let any = !missing.is_empty();
        for (object, target) in missing {
            let converted = target.convert_from_hub(object.clone()).await;
            let converted = converted.map_err(|error| tracing::warn!(%error, "convert for field ownership"));
            self.0.lock().known.push((object, target.resource.version.clone(), converted.ok()));
        }
        any
    }
}
