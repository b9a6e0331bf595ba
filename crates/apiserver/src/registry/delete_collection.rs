//! Deleting all objects of a list.

use super::options::{DeleteOptions, ListOptions};
use super::write::{Saved, WriteContext};
use super::{Filter, ListRequest, filter, stored};
use crate::status::ApiResult;

impl WriteContext<'_> {
    /// Deletes what a list of the options gives; the objects as they were listed.
    pub async fn delete_collection(
        &self,
        filter: &Filter,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> ApiResult<(u64, Vec<Saved>)> {
        let request = ListRequest { served: self.served, namespace: self.namespace, filter, options: list };
        let page = self.registry.list(&request).await?;
        let mut deleted = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            let (namespace, name) = filter::key_parts(&self.served.hub, &entry);
            let one = WriteContext {
                namespace,
                name,
                registry: self.registry,
                served: self.served,
                subresource: self.subresource,
                user: self.user,
                options: self.options,
                options_value: self.options_value,
                admission: self.admission,
                warnings: self.warnings,
                conversions: super::Conversions::default(),
            };
            match one.delete(options).await {
                Ok(_) => {
                    let object = stored::memo(&entry).decode(&entry)?;
                    deleted.push(Saved { object, entry: Some(entry.clone()) });
                }
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        Ok((page.revision, deleted))
    }
}
