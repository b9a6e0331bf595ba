//! A value as a tree of Go's fields, and its JSON.

use schema::{Field, Kind, Member, Node, Object, Presence, Value};

use crate::field::json;

/// JSON with fields in the order of their struct.
pub(super) enum Tree {
    Scalar(String),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

/// Types that keep JSON names and `omitempty` inside the server.
const TAGGED: &str = "io.k8s.apimachinery.pkg.apis.meta.";

/// Structs whose fields stand in another order than their protobuf numbers, by JSON name; `@name` is what only the
/// internal type has there, from the pod's spec.
const ORDERS: [(&str, &str); 11] = [
    (
        "PersistentVolumeSource",
        "gcePersistentDisk awsElasticBlockStore hostPath glusterfs nfs rbd quobyte iscsi flexVolume cinder cephfs fc \
         flocker azureFile vsphereVolume azureDisk photonPersistentDisk portworxVolume scaleIO local storageos csi",
    ),
    (
        "PersistentVolumeClaimSpec",
        "accessModes selector resources volumeName storageClassName volumeMode dataSource dataSourceRef \
         volumeAttributesClassName",
    ),
    ("OwnerReference", "apiVersion kind name uid controller blockOwnerDeletion"),
    (
        "Container",
        "name image command args workingDir ports envFrom env resources resizePolicy restartPolicy \
         restartPolicyRules volumeMounts volumeDevices livenessProbe readinessProbe startupProbe lifecycle \
         terminationMessagePath terminationMessagePolicy imagePullPolicy securityContext stdin stdinOnce tty",
    ),
    (
        "SecurityContext",
        "capabilities privileged seLinuxOptions windowsOptions runAsUser runAsGroup runAsNonRoot \
         readOnlyRootFilesystem allowPrivilegeEscalation procMount seccompProfile appArmorProfile",
    ),
    (
        "PodSecurityContext",
        "@hostNetwork @hostPID @hostIPC @shareProcessNamespace @hostUsers seLinuxOptions windowsOptions runAsUser \
         runAsGroup runAsNonRoot supplementalGroups supplementalGroupsPolicy fsGroup fsGroupChangePolicy sysctls \
         seccompProfile appArmorProfile seLinuxChangePolicy",
    ),
    (
        "PodSpec",
        "volumes initContainers containers ephemeralContainers restartPolicy terminationGracePeriodSeconds \
         activeDeadlineSeconds dnsPolicy nodeSelector serviceAccountName automountServiceAccountToken nodeName \
         securityContext imagePullSecrets hostname subdomain setHostnameAsFQDN affinity schedulerName tolerations \
         hostAliases priorityClassName priority preemptionPolicy dnsConfig readinessGates runtimeClassName overhead \
         enableServiceLinks topologySpreadConstraints os schedulingGates resourceClaims resources hostnameOverride \
         schedulingGroup",
    ),
    ("VolumeMount", "name readOnly recursiveReadOnly mountPath subPath mountPropagation subPathExpr"),
    (
        "VolumeSource",
        "hostPath emptyDir gcePersistentDisk awsElasticBlockStore gitRepo secret nfs iscsi glusterfs \
         persistentVolumeClaim rbd quobyte flexVolume cinder cephfs flocker downwardAPI fc azureFile configMap \
         vsphereVolume azureDisk photonPersistentDisk projected portworxVolume scaleIO storageos csi ephemeral image",
    ),
    (
        "VolumeProjection",
        "secret downwardAPI configMap serviceAccountToken clusterTrustBundle podCertificate",
    ),
    ("ServicePort", "name protocol appProtocol port targetPort nodePort"),
];

/// Go names that the rule of [`go_name`] does not give.
const NAMES: [(&str, &str); 6] = [
    ("storageos", "StorageOS"),
    ("cephfs", "CephFS"),
    ("wwids", "WWIDs"),
    ("chapAuthDiscovery", "DiscoveryCHAPAuth"),
    ("chapAuthSession", "SessionCHAPAuth"),
    ("initiatorName", "InitiatorName"),
];

/// First words of JSON names that Go writes in capitals.
const INITIALISMS: [&str; 36] = [
    "api", "aws", "ca", "cel", "cidr", "cpu", "csi", "dns", "fc", "fs", "gce", "gmsa", "grpc", "http", "id",
    "ip", "ipc", "iqn", "iscsi", "json", "nfs", "os", "pd", "pid", "qos", "rbd", "se", "tcp", "tls", "ttl",
    "tty", "uid", "uri", "url", "uuid", "cidrs",
];

/// The Go name of a field.
fn go_name(json_name: &str) -> String {
    if let Some((_, name)) = NAMES.iter().find(|(from, _)| *from == json_name) {
        return (*name).to_owned();
    }
    if let Some(rest) = json_name.strip_prefix("x-kubernetes-") {
        return format!("X{}", rest.split('-').map(capitalized).collect::<String>());
    }
    let end = json_name.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(json_name.len());
    let (first, rest) = json_name.split_at(end);
    match first {
        "cidrs" => format!("CIDRs{rest}"),
        _ if INITIALISMS.contains(&first) => format!("{}{rest}", first.to_ascii_uppercase()),
        _ => format!("{}{rest}", capitalized(first)),
    }
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}", first.to_ascii_uppercase(), chars.as_str()))
}

fn short(object: Object<'_>) -> &str {
    object.name().rsplit('.').next().unwrap_or_default()
}

/// The tree of `value`, which is of the type `node`.
pub(super) fn tree(value: &Value, node: Node<'_>) -> Tree {
    match (node.kind(), value) {
        (Kind::Object(object), Value::Map(_)) if object.name().starts_with(TAGGED) => tagged(value, object),
        (Kind::Object(object), Value::Map(_)) => internal(value, object),
        (Kind::List(items), Value::List(list)) => Tree::List(list.iter().map(|v| tree(v, items)).collect()),
        (Kind::Map(values), Value::Map(map)) => {
            Tree::Fields(map.iter().map(|(k, v)| (k.to_string(), tree(v, values))).collect())
        }
        _ => Tree::Scalar(json(value)),
    }
}

/// The fields of a struct in its order; an inlined struct gives its own at its place.
fn ordered<'a>(object: Object<'a>, out: &mut Vec<Field<'a>>) {
    if let Some((_, order)) = ORDERS.iter().find(|(name, _)| *name == short(object)) {
        out.extend(order.split(' ').filter_map(|name| object.field(name)));
        return;
    }
    for member in object.members() {
        match member {
            Member::Field(field) => out.push(field),
            Member::Inline(inline) => ordered(inline.object, out),
        }
    }
}

fn tagged(value: &Value, object: Object<'_>) -> Tree {
    let mut fields = Vec::new();
    ordered(object, &mut fields);
    let field = |field: &Field<'_>| {
        let shown = match value.get(field.name()) {
            Some(value) if !value.is_null() => tree(value, field.node()),
            _ if field.presence() == Presence::Always => zero(*field),
            _ => return None,
        };
        Some((field.name().to_owned(), shown))
    };
    Tree::Fields(fields.iter().filter_map(field).collect())
}

fn internal(value: &Value, object: Object<'_>) -> Tree {
    let mut out = Vec::new();
    // Embedded without a name, so that their fields stand here.
    for embedded in ["apiVersion", "kind", "metadata"] {
        let Some(field) = object.field(embedded) else { continue };
        match (field.node().as_object(), value.get(embedded)) {
            (Some(metadata), Some(value)) if metadata.name().starts_with(TAGGED) => {
                if let Tree::Fields(mut fields) = tagged(value, metadata) {
                    fields.retain(|(_, shown)| !matches!(shown, Tree::Scalar(text) if text == "null"));
                    out.append(&mut fields);
                }
            }
            (None, Some(Value::Str(text))) if field.proto().is_none() && !text.is_empty() => {
                out.push((embedded.to_owned(), Tree::Scalar(json(&value[embedded]))));
            }
            _ => {}
        }
    }
    let mut fields = Vec::new();
    ordered(object, &mut fields);
    for field in fields {
        let is_metadata = field.name() == "metadata" && field.node().type_name().starts_with(TAGGED);
        if !is_metadata {
            out.push((go_name(field.name()), field_tree(value, field)));
        }
    }
    Tree::Fields(out)
}

/// One field of an internal struct.
fn field_tree(holder: &Value, field: Field<'_>) -> Tree {
    let value = holder.get(field.name()).filter(|value| !value.is_null());
    if field.node().type_name().ends_with(".PodSecurityContext") {
        return pod_security(holder, value, field);
    }
    match value {
        Some(value) if matches!(field.node().kind(), Kind::Map(_) | Kind::List(_)) && value.is_zero() => {
            Tree::Scalar("null".to_owned())
        }
        Some(value) => tree(value, field.node()),
        None => zero(field),
    }
}

/// What the API has in the pod's spec and the internal type in its security context.
fn pod_security(spec: &Value, context: Option<&Value>, field: Field<'_>) -> Tree {
    let flag = |name: &str| Tree::Scalar(spec[name].as_bool().unwrap_or(false).to_string());
    let pointer = |name: &str| Tree::Scalar(json(&spec[name]));
    let mut out = vec![
        ("HostNetwork".to_owned(), flag("hostNetwork")),
        ("HostPID".to_owned(), flag("hostPID")),
        ("HostIPC".to_owned(), flag("hostIPC")),
        ("ShareProcessNamespace".to_owned(), pointer("shareProcessNamespace")),
        ("HostUsers".to_owned(), pointer("hostUsers")),
    ];
    let empty = Value::map();
    let own = tree(context.unwrap_or(&empty), field.node());
    let nothing_set =
        context.is_none() && ["hostNetwork", "hostPID", "hostIPC"].iter().all(|name| spec[*name].is_zero());
    match own {
        _ if nothing_set => Tree::Scalar("null".to_owned()),
        Tree::Fields(mut fields) => {
            out.append(&mut fields);
            Tree::Fields(out)
        }
        other => other,
    }
}

/// Go's zero value of a field.
fn zero(field: Field<'_>) -> Tree {
    let null = || Tree::Scalar("null".to_owned());
    let pointer = field.presence() == Presence::Optional;
    match field.node().kind() {
        Kind::Object(_) if field.presence() == Presence::Always => tree(&Value::map(), field.node()),
        Kind::String if !pointer => Tree::Scalar("\"\"".to_owned()),
        Kind::Int32 | Kind::Int64 | Kind::Number | Kind::IntOrString if !pointer => {
            Tree::Scalar("0".to_owned())
        }
        Kind::Boolean if !pointer => Tree::Scalar("false".to_owned()),
        Kind::Quantity if !pointer => Tree::Scalar("\"0\"".to_owned()),
        _ => null(),
    }
}

/// Without white space.
pub(super) fn compact(tree: &Tree) -> String {
    match tree {
        Tree::Scalar(text) => text.clone(),
        Tree::List(items) => format!("[{}]", items.iter().map(compact).collect::<Vec<_>>().join(",")),
        Tree::Fields(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("\"{name}\":{}", compact(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
    }
}

/// One line per value, indented by one space a level.
pub(super) fn indented(tree: &Tree) -> Vec<String> {
    let mut out = Vec::new();
    write(tree, "", 0, "", &mut out);
    out
}

fn write(tree: &Tree, label: &str, depth: usize, comma: &str, out: &mut Vec<String>) {
    let pad = " ".repeat(depth);
    let ends = |at: usize, len: usize| if at + 1 < len { "," } else { "" };
    match tree {
        Tree::List(items) if !items.is_empty() => {
            out.push(format!("{pad}{label}["));
            for (i, item) in items.iter().enumerate() {
                write(item, "", depth + 1, ends(i, items.len()), out);
            }
            out.push(format!("{pad}]{comma}"));
        }
        Tree::Fields(fields) if !fields.is_empty() => {
            out.push(format!("{pad}{label}{{"));
            for (i, (name, value)) in fields.iter().enumerate() {
                write(value, &format!("\"{name}\": "), depth + 1, ends(i, fields.len()), out);
            }
            out.push(format!("{pad}}}{comma}"));
        }
        other => out.push(format!("{pad}{label}{}{comma}", compact(other))),
    }
}
