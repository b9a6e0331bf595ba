//! Projected volumes: several sources in one folder, rotating tokens among them.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ProjectedVolumeSource, VolumeProjection};

use super::atomic::{FileEntry, Payload};
use super::payload::Keys;
use super::{Tokens, payload};
use crate::container::env::Objects;
use crate::container::field::FieldSource;
use crate::pod::spec;

const DEFAULT_MODE: u32 = 0o644;
/// The mode of a token that belongs to one user or group.
const PRIVATE_MODE: u32 = 0o600;

/// The files, and the time until a token among them is to be renewed.
pub async fn files(
    source: &ProjectedVolumeSource,
    pod: &Pod,
    fields: &FieldSource<'_>,
    objects: &dyn Objects,
    tokens: &Tokens,
) -> Result<(Payload, Option<Duration>), String> {
    let mut files = Payload::new();
    let mut renew: Option<Duration> = None;
    let mode = source.default_mode.map_or(DEFAULT_MODE, |m| m as u32);
    for part in source.sources.iter().flatten() {
        if let Some(left) = add(&mut files, part, mode, pod, fields, objects, tokens).await? {
            renew = Some(renew.map_or(left, |r| r.min(left)));
        }
    }
    Ok((files, renew))
}

async fn add(
    files: &mut Payload,
    part: &VolumeProjection,
    mode: u32,
    pod: &Pod,
    fields: &FieldSource<'_>,
    objects: &dyn Objects,
    tokens: &Tokens,
) -> Result<Option<Duration>, String> {
    let namespace = spec::namespace(pod);
    if let Some(source) = &part.config_map {
        let keys = Keys::new(source.items.as_deref(), mode, source.optional);
        payload::add_config_map(files, objects, (namespace, &source.name), &keys).await?;
    } else if let Some(source) = &part.secret {
        let keys = Keys::new(source.items.as_deref(), mode, source.optional);
        payload::add_secret(files, objects, (namespace, &source.name), &keys).await?;
    } else if let Some(source) = &part.downward_api {
        payload::add_fields(files, source.items.as_deref().unwrap_or_default(), mode, fields)?;
    } else if let Some(source) = &part.service_account_token {
        let (text, left) = tokens.get(pod, source.audience.as_deref(), source.expiration_seconds).await?;
        let group = spec::spec(pod).security_context.as_ref().and_then(|s| s.fs_group);
        let user = only_user(pod);
        let mode = if user.is_some() || group.is_some() { PRIVATE_MODE } else { mode };
        let uid = user.filter(|_| group.is_none());
        files.insert(source.path.clone(), FileEntry { data: text.into_bytes(), mode, uid });
        return Ok(Some(left));
    } else if part.cluster_trust_bundle.is_some() {
        return Err("clusterTrustBundle projections are not supported by this kubelet".to_owned());
    } else if part.pod_certificate.is_some() {
        return Err("podCertificate projections are not supported by this kubelet".to_owned());
    }
    Ok(None)
}

/// The user that all containers run as, if the pod says one.
fn only_user(pod: &Pod) -> Option<u32> {
    let of_pod = spec::spec(pod).security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = spec::all_containers(pod)
        .map(|c| c.container.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}
