//! Volume sources that pods and persistent volumes share, the old in-tree ones above all.

use super::paths::{validate_descending_path, validate_no_backsteps};
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::names::{dns1123_label, dns1123_subdomain, inclusive_range};

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const MAX_CSI_DRIVER_BYTES: usize = 63;
const MAX_ISCSI_PORTAL_BYTES: usize = 64;

fn require(c: &Cursor<'_>, names: &[&str], out: &mut Errors) {
    names.iter().filter(|name| c.field(name).is_empty()).for_each(|name| c.field(name).required(out, ""));
}

/// A source of which only its own fields are checked. `volume` is the volume's name.
pub(in crate::kinds) fn validate_plain_source(kind: &str, c: &Cursor<'_>, volume: &str, out: &mut Errors) {
    match kind {
        "hostPath" => validate_host_path(c, out),
        "gitRepo" => {
            require(c, &["repository"], out);
            validate_descending_path(&c.field("directory"), out);
        }
        "nfs" => {
            require(c, &["server", "path"], out);
            if !c.text_of("path").starts_with('/') {
                c.field("path").invalid_as(out, c.text_of("path"), "must be an absolute path");
            }
        }
        "iscsi" => validate_iscsi(c, volume, out),
        "glusterfs" => require(c, &["endpoints", "path"], out),
        "flocker" => validate_flocker(c, out),
        "persistentVolumeClaim" => require(c, &["claimName"], out),
        "rbd" => require(c, &["monitors", "image"], out),
        "cinder" => {
            require(c, &["volumeID"], out);
            validate_secret_name(c, out);
        }
        "cephfs" => require(c, &["monitors"], out),
        "quobyte" => validate_quobyte(c, out),
        "fc" => validate_fibre_channel(c, out),
        "flexVolume" => validate_flex(c, out),
        "azureFile" => require(c, &["secretName", "shareName"], out),
        "vsphereVolume" => require(c, &["volumePath"], out),
        "photonPersistentDisk" => require(c, &["pdID"], out),
        "portworxVolume" => require(c, &["volumeID"], out),
        "azureDisk" => validate_azure_disk(c, out),
        "storageos" => validate_storage_os(c, out),
        "scaleIO" => require(c, &["gateway", "system", "volumeName"], out),
        "csi" => validate_csi(c, out),
        "gcePersistentDisk" => validate_disk(c, "pdName", out),
        "awsElasticBlockStore" => validate_disk(c, "volumeID", out),
        _ => {}
    }
}

fn validate_disk(c: &Cursor<'_>, name: &str, out: &mut Errors) {
    require(c, &[name], out);
    let partition = c.field("partition");
    if !(0..=255).contains(&partition.int()) {
        partition.invalid(out, inclusive_range(1, 255));
    }
}

pub(in crate::kinds) fn validate_host_path(c: &Cursor<'_>, out: &mut Errors) {
    let path = c.field("path");
    if path.text().is_empty() {
        return path.required(out, "");
    }
    validate_no_backsteps(&path, out);
    if c.has("type") {
        c.field("type").among(out, &HOST_PATH_TYPES);
    }
}

fn validate_secret_name(c: &Cursor<'_>, out: &mut Errors) {
    let secret = c.field("secretRef");
    if secret.is_set() && secret.text_of("name").is_empty() {
        secret.field("name").required(out, "");
    }
}

fn is_iscsi_name(name: &str) -> Result<(), &'static str> {
    const FORMAT: &str = "must be valid format";
    if let Some(rest) = name.strip_prefix("iqn") {
        // iqn.YYYY-MM.domain:identifier
        let shape = rest.strip_prefix('.').is_some_and(|rest| {
            let (date, rest) = rest.split_at_checked(8).unwrap_or(("", ""));
            let bytes = date.as_bytes();
            let digits =
                |r: std::ops::Range<usize>| bytes.get(r).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
            digits(0..4)
                && digits(5..7)
                && bytes[4] == b'-'
                && bytes[7] == b'.'
                && rest.split_once(':').is_some_and(|(domain, id)| {
                    !domain.is_empty()
                        && !id.is_empty()
                        && domain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
                        && !id.contains([',', ';', '*', '&', '$', '|'])
                        && !id.contains(char::is_whitespace)
                })
        });
        return if shape { Ok(()) } else { Err(FORMAT) };
    }
    for (prefix, len) in [("eui", 16), ("naa", 32)] {
        if let Some(rest) = name.strip_prefix(prefix) {
            let shape = rest.len() == len + 1 && rest[1..].bytes().all(|b| b.is_ascii_alphanumeric());
            return if shape { Ok(()) } else { Err(FORMAT) };
        }
    }
    Err("must be valid format starting with iqn, eui, or naa")
}

fn validate_iscsi(c: &Cursor<'_>, volume: &str, out: &mut Errors) {
    require(c, &["targetPortal"], out);
    let iqn = c.field("iqn");
    match iqn.text() {
        "" => iqn.required(out, ""),
        text => {
            if let Err(message) = is_iscsi_name(text) {
                iqn.invalid(out, message);
            }
        }
    }
    let lun = c.field("lun");
    if !(0..=255).contains(&lun.int()) {
        lun.invalid(out, inclusive_range(0, 255));
    }
    if (c.bool_of("chapAuthDiscovery") || c.bool_of("chapAuthSession")) && !c.has("secretRef") {
        c.field("secretRef").required(out, "");
    }
    if c.has("initiatorName") {
        if let Err(message) = is_iscsi_name(c.text_of("initiatorName")) {
            c.field("initiatorname").invalid_as(out, c.text_of("initiatorName"), message);
        }
        if volume.len() + 1 + c.text_of("targetPortal").len() > MAX_ISCSI_PORTAL_BYTES {
            c.field("targetportal").invalid_as(
                out,
                c.text_of("targetPortal"),
                "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                 iscsi.initiatorName is specified.",
            );
        }
    }
}

fn validate_flocker(c: &Cursor<'_>, out: &mut Errors) {
    let (name, uuid) = (c.text_of("datasetName"), c.text_of("datasetUUID"));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => c.required(out, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            c.invalid_as(out, "resource", "datasetName and datasetUUID can not be specified simultaneously");
        }
        _ => {}
    }
    if name.contains('/') {
        c.field("datasetName").invalid(out, "must not contain '/'");
    }
}

fn validate_quobyte(c: &Cursor<'_>, out: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = c.field("registry");
    if registry.text().is_empty() {
        registry.required(out, PAIRS);
    } else if c.text_of("tenant").len() >= 65 {
        c.field("tenant").required(out, "must be a UUID and may not exceed a length of 64 characters");
    } else {
        registry
            .text()
            .split(',')
            .filter(|pair| !pair.contains(':'))
            .for_each(|_| registry.invalid(out, PAIRS));
    }
    require(c, &["volume"], out);
}

fn validate_fibre_channel(c: &Cursor<'_>, out: &mut Errors) {
    let (names, ids) = (c.field("targetWWNs"), c.field("wwids"));
    match (names.is_empty(), ids.is_empty()) {
        (true, true) => names.required(out, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => {
            names.invalid(out, "targetWWNs and wwids can not be specified simultaneously");
        }
        _ => {}
    }
    if !names.is_empty() {
        let lun = c.field("lun");
        match lun.as_int() {
            None => lun.required(out, "lun is required if targetWWNs is specified"),
            Some(number) if !(0..=255).contains(&number) => lun.invalid(out, inclusive_range(0, 255)),
            Some(_) => {}
        }
    }
}

fn validate_flex(c: &Cursor<'_>, out: &mut Errors) {
    require(c, &["driver"], out);
    let options = c.field("options");
    for (key, _) in options.value.entries() {
        let namespace = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            let path = options.path.key(key);
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            out.push(FieldError::invalid(&path, key.as_str(), detail));
        }
    }
}

fn validate_azure_disk(c: &Cursor<'_>, out: &mut Errors) {
    require(c, &["diskName", "diskURI"], out);
    if c.has("cachingMode") {
        c.field("cachingMode").among(out, &["None", "ReadOnly", "ReadWrite"]);
    }
    if !c.has("kind") {
        return;
    }
    c.field("kind").among(out, &["Dedicated", "Managed", "Shared"]);
    let (uri, managed) = (c.field("diskURI"), c.text_of("kind") == "Managed");
    let (prefix, example) = match managed {
        true => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        false => {
            ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
        }
    };
    if !uri.text().starts_with(prefix) {
        out.push(FieldError::not_supported(&uri.path, uri.text(), &[example]));
    }
}

fn validate_storage_os(c: &Cursor<'_>, out: &mut Errors) {
    c.field("volumeName").required_name(out, dns1123_label);
    if !c.text_of("volumeNamespace").is_empty() {
        c.field("volumeNamespace").check(out, dns1123_label);
    }
    validate_secret_name(c, out);
}

/// The name of a CSI driver (`ValidateCSIDriverName`).
pub(in crate::kinds) fn validate_csi_driver_name(c: &Cursor<'_>, out: &mut Errors) {
    let name = c.text();
    if name.is_empty() {
        c.required(out, "");
    }
    if name.len() > MAX_CSI_DRIVER_BYTES {
        out.push(FieldError::too_long(&c.path, MAX_CSI_DRIVER_BYTES));
    }
    dns1123_subdomain(&name.to_lowercase()).into_iter().for_each(|m| c.invalid_as(out, name, m));
}

fn validate_csi(c: &Cursor<'_>, out: &mut Errors) {
    validate_csi_driver_name(&c.field("driver"), out);
    let secret = c.field("nodePublishSecretRef");
    if secret.is_set() {
        match secret.text_of("name") {
            "" => secret.field("name").required(out, ""),
            name => {
                dns1123_subdomain(name).into_iter().for_each(|m| c.field("name").invalid_as(out, name, m))
            }
        }
    }
}
