//! Volumes of pods, and how containers use them.

use schema::Value;

use super::env::{FILE_FIELDS, validate_field_ref, validate_resource_ref};
use super::paths::{validate_descending_path, validate_local_path, validate_mode, validate_no_backsteps};
use super::volume_sources::validate_plain_source;
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::kinds::claim::validate_claim_template;
use crate::label_selector::validate_label_selector;
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::quantities::quantity;

/// Sources in upstream's order, and the word that the "more than one" error uses.
const SOURCES: [(&str, &str); 30] = [
    ("emptyDir", "emptyDir"),
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephFS"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
];
const MIN_TOKEN_SECONDS: i64 = 600;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;

/// Checks all volumes and gives the right ones by name. `pod_name` is empty in templates.
pub(super) fn validate_volumes<'a>(
    c: &Cursor<'a>,
    pod_name: &str,
    out: &mut Errors,
) -> Vec<(&'a str, &'a Value)> {
    let mut good: Vec<(&str, &Value)> = Vec::new();
    let created: Vec<String> = match pod_name {
        "" => Vec::new(),
        pod => c
            .value
            .items()
            .iter()
            .filter(|v| !v["ephemeral"].is_null())
            .map(|v| format!("{pod}-{}", v["name"].as_str().unwrap_or("")))
            .collect(),
    };
    for (i, value) in c.value.items().iter().enumerate() {
        let volume = c.index(i);
        let name = value["name"].as_str().unwrap_or("");
        let mut errors = Errors::new();
        validate_source(&volume, name, pod_name, &mut errors);
        volume.field("name").required_name(&mut errors, dns1123_label);
        if good.iter().any(|(n, _)| *n == name) {
            volume.field("name").duplicate(&mut errors);
        }
        if errors.is_empty() {
            good.push((name, value));
        }
        out.append(&mut errors);
        let claim = volume.field("persistentVolumeClaim");
        let claim_name = claim.field("claimName");
        if claim.is_set() && created.iter().any(|c| c == claim_name.text()) {
            claim_name.invalid(out, "must not reference a PVC that gets created for an ephemeral volume");
        }
    }
    good
}

fn validate_source(volume: &Cursor<'_>, name: &str, pod_name: &str, out: &mut Errors) {
    let mut found = false;
    for (kind, shown) in SOURCES.iter().filter(|(kind, _)| volume.has(kind)) {
        if found {
            volume.field(shown).forbidden(out, "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        let source = volume.field(kind);
        match *kind {
            "emptyDir" => {
                let limit = source.field("sizeLimit");
                if quantity(limit.value).is_some_and(|q| q.sign() < 0) {
                    limit.forbidden(out, "SizeLimit field must be a valid resource quantity");
                }
            }
            "secret" | "configMap" => validate_key_source(&source, kind, out),
            "downwardAPI" => {
                validate_mode(&source.field("defaultMode"), out);
                for file in source.value["items"].items() {
                    validate_downward_file(&Cursor::new(file, source.path), out);
                }
            }
            "projected" => validate_projected(&source, out),
            "ephemeral" => validate_ephemeral(volume, &source, name, pod_name, out),
            "image" => {
                source.field("pullPolicy").one_of(out, &["Always", "IfNotPresent", "Never"]);
                if source.text_of("reference").is_empty() && !pod_name.is_empty() {
                    source.field("reference").required(out, "");
                }
            }
            kind => validate_plain_source(kind, &source, name, out),
        }
    }
    if !found {
        volume.required(out, "must specify a volume type");
    }
}

fn validate_ephemeral(volume: &Cursor<'_>, c: &Cursor<'_>, name: &str, pod_name: &str, out: &mut Errors) {
    let template = c.field("volumeClaimTemplate");
    match template.is_set() {
        true => validate_claim_template(&template, out),
        false => template.required(out, ""),
    }
    if !pod_name.is_empty() && !name.is_empty() {
        let claim = format!("{pod_name}-{name}");
        for message in dns1123_subdomain(&claim) {
            volume.field("name").invalid_as(
                out,
                name,
                format!("PVC name {}: {message}", crate::quote(&claim)),
            );
        }
    }
}

fn validate_key_source(c: &Cursor<'_>, kind: &str, out: &mut Errors) {
    let name = c.field(if kind == "secret" { "secretName" } else { "name" });
    if name.text().is_empty() {
        name.required(out, "");
    }
    validate_mode(&c.field("defaultMode"), out);
    c.field("items").items().for_each(|item| validate_key_to_path(&item, out));
}

fn validate_key_to_path(c: &Cursor<'_>, out: &mut Errors) {
    for name in ["key", "path"] {
        if c.text_of(name).is_empty() {
            c.field(name).required(out, "");
        }
    }
    validate_local_path(&c.field("path"), out);
    validate_mode(&c.field("mode"), out);
}

/// `c` is the file's value under its volume's path, as upstream reports it.
fn validate_downward_file(c: &Cursor<'_>, out: &mut Errors) {
    let path = c.field("path");
    if path.text().is_empty() {
        path.required(out, "");
    }
    validate_local_path(&path, out);
    match (c.has("fieldRef"), c.has("resourceFieldRef")) {
        (true, both) => {
            validate_field_ref(&c.field("fieldRef"), &FILE_FIELDS, out);
            if both {
                c.invalid_as(
                    out,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
        }
        (false, true) => validate_resource_ref(&c.field("resourceFieldRef"), true, out),
        (false, false) => c.required(out, "one of fieldRef and resourceFieldRef is required"),
    }
    validate_mode(&c.field("mode"), out);
}

/// Files of one volume may not have the same path.
fn claim_path<'a>(
    volume: &Cursor<'_>,
    paths: &mut Vec<&'a str>,
    path: &'a Value,
    shown: &str,
    out: &mut Errors,
) {
    let path = path.as_str().unwrap_or("");
    if path.is_empty() {
        return;
    }
    if paths.contains(&path) {
        volume.invalid_as(out, shown, "conflicting duplicate paths");
    } else {
        paths.push(path);
    }
}

fn validate_projected(c: &Cursor<'_>, out: &mut Errors) {
    validate_mode(&c.field("defaultMode"), out);
    let mut paths: Vec<&str> = Vec::new();
    let sources = c.field("sources");
    for (i, value) in sources.value.items().iter().enumerate() {
        let source = sources.index(i);
        let mut count = 0;
        for kind in ["secret", "configMap"].into_iter().filter(|kind| source.has(kind)) {
            count += 1;
            let projection = source.field(kind);
            if projection.text_of("name").is_empty() {
                projection.field("name").required(out, "");
            }
            projection.field("items").items().for_each(|item| validate_key_to_path(&item, out));
            for item in value[kind]["items"].items() {
                claim_path(c, &mut paths, &item["path"], projection.text_of("name"), out);
            }
        }
        if source.has("downwardAPI") {
            count += 1;
            let projection = source.field("downwardAPI");
            for file in value["downwardAPI"]["items"].items() {
                validate_downward_file(&Cursor::new(file, projection.path), out);
                claim_path(c, &mut paths, &file["path"], file["path"].as_str().unwrap_or(""), out);
            }
        }
        if source.has("serviceAccountToken") {
            count += 1;
            validate_token(c, &source.field("serviceAccountToken"), out);
        }
        if source.has("clusterTrustBundle") {
            count += 1;
            validate_trust_bundle(&source.field("clusterTrustBundle"), out);
            let path = &value["clusterTrustBundle"]["path"];
            claim_path(c, &mut paths, path, path.as_str().unwrap_or(""), out);
        }
        count += usize::from(source.has("podCertificate"));
        if count > 1 {
            source.forbidden(out, "may not specify more than 1 volume type per source");
        }
    }
}

fn validate_token(volume: &Cursor<'_>, c: &Cursor<'_>, out: &mut Errors) {
    let seconds = c.field("expirationSeconds");
    if seconds.int() < MIN_TOKEN_SECONDS {
        seconds.invalid_as(out, seconds.int(), "may not specify a duration less than 10 minutes");
    }
    if seconds.int() > MAX_TOKEN_SECONDS {
        seconds.invalid(out, "may not specify a duration larger than 2^32 seconds");
    }
    let path = c.field("path");
    let shown = path.at(volume.path.child("path"));
    match path.text() {
        "" => shown.required(out, ""),
        _ => validate_local_path(&shown, out),
    }
}

fn validate_trust_bundle(c: &Cursor<'_>, out: &mut Errors) {
    match (c.has("name"), c.has("signerName")) {
        (true, true) => c.invalid(out, "only one of name and signerName may be used"),
        (true, false) => {
            if c.text_of("name").is_empty() {
                c.field("name").required(out, "must be a valid object name");
            }
            if c.has("labelSelector") {
                c.field("labelSelector").invalid(out, "labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            if c.text_of("signerName").is_empty() {
                c.field("signerName").required(out, "must be a valid signer name");
            }
            validate_label_selector(&c.field("labelSelector"), out);
        }
        (false, false) => c.required(out, "either name or signerName must be specified"),
    }
    let path = c.field("path");
    if path.text().is_empty() {
        path.required(out, "");
    }
    validate_local_path(&path, out);
}

fn names_and_paths<'a>(list: &'a Value, path: &str) -> Vec<(&'a str, &'a str)> {
    let text = |v: &'a Value, name: &str| v[name].as_str().unwrap_or("");
    list.items().iter().map(|item| (text(item, "name"), text(item, path))).collect()
}

pub(super) fn validate_mounts(container: &Cursor<'_>, volumes: &[(&str, &Value)], out: &mut Errors) {
    let devices = names_and_paths(&container.value["volumeDevices"], "devicePath");
    let mounts = container.field("volumeMounts");
    let mut points: Vec<&str> = Vec::new();
    for (i, value) in mounts.value.items().iter().enumerate() {
        let mount = mounts.index(i);
        let (name, path) = (mount.field("name"), mount.field("mountPath"));
        let volume = volumes.iter().find(|(n, _)| *n == name.text()).map(|(_, v)| *v);
        if name.text().is_empty() {
            name.required(out, "");
        }
        if volume.is_none() {
            out.push(FieldError::not_found(&name.path, name.text()));
        }
        if path.text().is_empty() {
            path.required(out, "");
        }
        let point = value["mountPath"].as_str().unwrap_or("");
        if points.contains(&point) {
            path.invalid_as(out, point, "must be unique");
        }
        points.push(point);
        if devices.iter().any(|(n, _)| *n == name.text()) {
            name.invalid(out, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|(_, p)| *p == point) {
            path.invalid(out, "must not already exist as a path in volumeDevices");
        }
        validate_sub_paths(&mounts, &mount, volume.is_some_and(|v| !v["image"].is_null()), out);
        validate_propagation(container, &mounts, &mount, out);
    }
}

fn validate_sub_paths(mounts: &Cursor<'_>, mount: &Cursor<'_>, in_image: bool, out: &mut Errors) {
    let (sub, expression) = (mount.field("subPath"), mount.field("subPathExpr"));
    // Path errors of both are reported at the list itself.
    if !sub.text().is_empty() {
        if in_image {
            validate_descending_path(&sub, out);
        }
        validate_descending_path(&sub.at(mounts.path.child("subPath")), out);
    }
    if !expression.text().is_empty() {
        if !sub.text().is_empty() {
            expression.invalid(out, "subPathExpr and subPath are mutually exclusive");
        }
        validate_descending_path(&expression.at(mounts.path.child("subPathExpr")), out);
    }
}

fn validate_propagation(container: &Cursor<'_>, mounts: &Cursor<'_>, mount: &Cursor<'_>, out: &mut Errors) {
    let propagation = mount.field("mountPropagation");
    if propagation.is_set() {
        let shown = propagation.at(mounts.path.child("mountPropagation"));
        shown.among(out, &["Bidirectional", "HostToContainer", "None"]);
        let privileged = container.value["securityContext"]["privileged"].as_bool() == Some(true);
        if propagation.text() == "Bidirectional" && !privileged {
            shown
                .forbidden(out, "Bidirectional mount propagation is available only to privileged containers");
        }
    }
    let recursive = mount.field("recursiveReadOnly");
    let shown = recursive.at(mounts.path.child("recursiveReadOnly"));
    match recursive.text() {
        _ if !recursive.is_set() => {}
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.bool_of("readOnly") {
                shown.forbidden(out, "may only be specified when readOnly is true");
            }
            if !matches!(propagation.text(), "" | "None") {
                shown.forbidden(out, "may only be specified when mountPropagation is None or not specified");
            }
        }
        _ => shown.not_supported(out, &["Disabled", "Enabled", "IfPossible"]),
    }
}

pub(super) fn validate_devices(container: &Cursor<'_>, volumes: &[(&str, &Value)], out: &mut Errors) {
    let mounts = names_and_paths(&container.value["volumeMounts"], "mountPath");
    let devices = container.field("volumeDevices");
    let (mut names, mut paths): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (i, value) in devices.value.items().iter().enumerate() {
        let device = devices.index(i);
        let (name, path) = (device.field("name"), device.field("devicePath"));
        let (name_text, path_text) =
            (value["name"].as_str().unwrap_or(""), value["devicePath"].as_str().unwrap_or(""));
        if name_text.is_empty() {
            name.required(out, "");
        }
        if names.contains(&name_text) {
            name.invalid(out, "must be unique");
        }
        match volumes.iter().find(|(n, _)| *n == name_text) {
            None => out.push(FieldError::not_found(&name.path, name_text)),
            Some((_, v)) if v["persistentVolumeClaim"].is_null() && v["ephemeral"].is_null() => name.invalid(
                out,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            ),
            Some(_) => {}
        }
        if path_text.is_empty() {
            path.required(out, "");
        }
        if paths.contains(&path_text) {
            path.invalid(out, "must be unique");
        }
        let mut backsteps = Errors::new();
        validate_no_backsteps(&path, &mut backsteps);
        match backsteps.is_empty() {
            false => path.invalid(out, "can not contain backsteps ('..')"),
            true => paths.push(path_text),
        }
        if mounts.iter().any(|(n, _)| *n == name_text) {
            name.invalid(out, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|(_, p)| *p == path_text) {
            path.invalid(out, "must not already exist as a path in volumeMounts");
        }
        if !name_text.is_empty() {
            names.push(name_text);
        }
    }
}
