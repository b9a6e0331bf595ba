//! Writes that the server makes itself: nobody is asked and no admission runs.

use std::sync::Arc;

use base::UserInfo;
use schema::Value;

use super::options::DeleteOptions;
use super::write::{Saved, Warnings, WriteContext, WriteOptions};
use super::{Deleted, Registry, Served, Transform, Update};
use crate::admission::AdmissionChain;
use crate::status::ApiResult;

/// Who the server is to itself.
const NAME: &str = "system:apiserver";
/// The field manager of such writes.
const MANAGER: &str = "kube-apiserver";

/// Writes as the server.
pub struct Own<'a> {
    registry: &'a Registry,
    admission: AdmissionChain,
    user: UserInfo,
    options: WriteOptions,
    warnings: Warnings,
}

impl Registry {
    /// A writer for the server's own parts.
    pub fn own(&self) -> Own<'_> {
        Own {
            registry: self,
            admission: AdmissionChain::default(),
            user: UserInfo::authenticated(NAME, &["system:masters"]),
            options: WriteOptions {
                field_manager: MANAGER.to_owned(),
                manager: MANAGER.to_owned(),
                ..WriteOptions::default()
            },
            warnings: Warnings::default(),
        }
    }
}

impl Own<'_> {
    fn context<'b>(
        &'b self,
        served: &'b Arc<Served>,
        subresource: &'b str,
        (namespace, name): (&'b str, &'b str),
    ) -> WriteContext<'b> {
        WriteContext {
            registry: self.registry,
            served,
            subresource,
            namespace,
            name,
            user: &self.user,
            options: &self.options,
            options_value: &Value::Null,
            admission: &self.admission,
            warnings: &self.warnings,
            conversions: super::Conversions::default(),
        }
    }

    /// Creates an object.
    pub async fn create(&self, served: &Arc<Served>, namespace: &str, object: Value) -> ApiResult<Saved> {
        self.context(served, "", (namespace, "")).create(object).await
    }

    /// Changes an object, or a subresource of it.
    pub async fn update(
        &self,
        served: &Arc<Served>,
        subresource: &str,
        (namespace, name): (&str, &str),
        transform: &Transform<'_>,
    ) -> ApiResult<Saved> {
        let update = Update { transform, fields_tracked: false, force_create: false };
        Ok(self.context(served, subresource, (namespace, name)).update(&update).await?.saved)
    }

    /// Deletes an object.
    pub async fn delete(
        &self,
        served: &Arc<Served>,
        (namespace, name): (&str, &str),
        options: &DeleteOptions,
    ) -> ApiResult<Deleted> {
        self.context(served, "", (namespace, name)).delete(options).await
    }
}
