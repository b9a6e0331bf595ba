//! What the files of config map, secret and downward API volumes hold.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Secret};

use super::atomic::{FileEntry, Payload};
use crate::container::env::Objects;
use crate::container::field::{self, FieldSource};

/// Which keys of an object become files.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// These under their paths; without any all keys under their names.
    items: &'a [KeyToPath],
    /// Of files whose item says none.
    mode: u32,
    /// Neither the object nor its keys need be there.
    optional: bool,
}

impl<'a> Keys<'a> {
    /// As a volume's source says it.
    pub fn new(items: Option<&'a [KeyToPath]>, mode: u32, optional: Option<bool>) -> Self {
        Self { items: items.unwrap_or_default(), mode, optional: optional == Some(true) }
    }
}

/// Adds the keys of a config map.
pub async fn add_config_map(
    payload: &mut Payload,
    objects: &dyn Objects,
    (namespace, name): (&str, &str),
    keys: &Keys<'_>,
) -> Result<(), String> {
    match objects.config_map(namespace, name).await? {
        Some(map) => add_keys(payload, config_map_data(map), keys, "config"),
        None if keys.optional => Ok(()),
        None => Err(format!("configmap {name:?} not found")),
    }
}

/// Adds the keys of a secret.
pub async fn add_secret(
    payload: &mut Payload,
    objects: &dyn Objects,
    (namespace, name): (&str, &str),
    keys: &Keys<'_>,
) -> Result<(), String> {
    match objects.secret(namespace, name).await? {
        Some(secret) => add_keys(payload, secret_data(secret), keys, "secret"),
        None if keys.optional => Ok(()),
        None => Err(format!("secret {name:?} not found")),
    }
}

/// `what` names the object's kind in the error for a key that is not there.
fn add_keys(
    payload: &mut Payload,
    data: BTreeMap<String, Vec<u8>>,
    keys: &Keys<'_>,
    what: &str,
) -> Result<(), String> {
    let entry = |data: Vec<u8>, mode: u32| FileEntry { data, mode, uid: None };
    if keys.items.is_empty() {
        payload.extend(data.into_iter().map(|(key, data)| (key, entry(data, keys.mode))));
        return Ok(());
    }
    for item in keys.items {
        let mode = item.mode.map_or(keys.mode, |m| m as u32);
        match data.get(&item.key) {
            Some(data) => drop(payload.insert(item.path.clone(), entry(data.clone(), mode))),
            None if keys.optional => {}
            None => return Err(format!("references non-existent {what} key: {}", item.key)),
        }
    }
    Ok(())
}

/// The content of a config map.
fn config_map_data(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    text.chain(map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0))).collect()
}

/// The content of a secret.
fn secret_data(secret: Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
}

/// Adds the files of a downward API volume.
pub fn add_fields(
    payload: &mut Payload,
    items: &[DownwardAPIVolumeFile],
    default_mode: u32,
    source: &FieldSource<'_>,
) -> Result<(), String> {
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => field::field(source, &reference.field_path)?,
            (None, Some(selector)) => field::resource(source, selector, "")?,
            (None, None) => continue,
        };
        let mode = item.mode.map_or(default_mode, |m| m as u32);
        payload.insert(item.path.clone(), FileEntry { data: text.into_bytes(), mode, uid: None });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_choose_and_rename() {
        let data = BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let items: Vec<KeyToPath> = serde_json::from_value(serde_json::json!([
            {"key": "b", "path": "x/y", "mode": 0o600}, {"key": "c", "path": "z"},
        ]))
        .unwrap();
        let mut payload = Payload::new();
        let keys = |optional| Keys::new(Some(&items), 0o644, Some(optional));
        add_keys(&mut payload, data.clone(), &keys(true), "config").unwrap();
        assert_eq!(payload["x/y"], FileEntry { data: b"2".to_vec(), mode: 0o600, uid: None });
        assert_eq!(payload.len(), 1);
        let error = add_keys(&mut payload, data, &keys(false), "config");
        assert_eq!(error, Err("references non-existent config key: c".to_owned()));
    }
}
