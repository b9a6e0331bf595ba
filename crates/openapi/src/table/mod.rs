//! Table output (`meta.k8s.io/v1` Table): upstream's columns and cells for every built-in kind, JSONPath columns for
//! custom kinds.
//!
//! Headings live in the API tables (`column` lines); what a cell says is one small pure function per kind here.

mod config;
mod format;
mod jsonpath;
mod network;
mod pods;
mod policy;
mod storage;
mod workloads;

use schema::{Column, Map, Resource, SmolStr, Value, value};

pub use format::human_duration;
pub use jsonpath::JsonPath;

/// Seconds since 1970: what ages are counted from.
pub type Seconds = i64;

/// What each row holds of its object (`includeObject` of `metav1.TableOptions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// Makes the Tables of one resource: columns are worked out once, rows object by object.
pub struct TableMaker<'r> {
    resource: &'r Resource,
    columns: Vec<Column>,
    paths: Vec<Option<JsonPath>>,
    include: IncludeObject,
    /// `meta.k8s.io/v1` or `v1beta1`.
    api_version: SmolStr,
}

impl<'r> TableMaker<'r> {
    /// For `resource`; `version` is that of `meta.k8s.io` which the client asked for.
    pub fn new(resource: &'r Resource, version: &str, include: IncludeObject) -> Self {
        let columns = columns(resource);
        let paths = columns.iter().map(|c| JsonPath::parse(&c.json_path).ok()).collect();
        let api_version = SmolStr::from(format!("meta.k8s.io/{version}"));
        Self { resource, columns, paths, include, api_version }
    }

    /// A Table without rows. `columns` is false for all but the first event of a watch. `list_metadata` is a list's
    /// `metadata`; for a single object take [`Self::list_metadata`].
    pub fn table(&self, list_metadata: Value, columns: bool, rows: Vec<Value>) -> Value {
        let definitions = if columns { self.columns.iter().map(definition).collect() } else { Value::Null };
        value!({
            "kind": "Table", "apiVersion": (&self.api_version), "metadata": list_metadata,
            "columnDefinitions": definitions, "rows": (Value::List(rows)),
        })
    }

    /// The Table's `metadata` when it holds the one object.
    pub fn list_metadata(object: &Value) -> Value {
        let mut meta = Value::map();
        for name in ["resourceVersion", "selfLink"] {
            if let Some(text) = object.get("metadata").and_then(|m| m.get(name)) {
                meta.insert(name, text);
            }
        }
        meta
    }

    /// The row of one object, ages counted from `now`.
    pub fn row(&self, object: &Value, now: Seconds) -> Value {
        let mut row = Map::with_capacity(3);
        row.insert("cells", Value::List(self.cells(object, now)));
        let conditions = pods::row_conditions(self.resource, object);
        if !conditions.is_zero() {
            row.insert("conditions", conditions);
        }
        match self.include {
            IncludeObject::None => {}
            IncludeObject::Object => {
                row.insert("object", object);
            }
            IncludeObject::Metadata => {
                row.insert("object", self.partial(object));
            }
        }
        Value::Map(row)
    }

    /// The cells of one object, one per column.
    pub fn cells(&self, object: &Value, now: Seconds) -> Vec<Value> {
        let name = object.get("metadata").and_then(|m| m.get("name")).cloned().unwrap_or(Value::str(""));
        if self.resource.custom {
            let rest = self.columns[1..].iter().zip(&self.paths[1..]);
            let rest = rest.map(|(column, path)| custom_cell(column, path.as_ref(), object, now));
            return std::iter::once(name).chain(rest).collect();
        }
        if self.resource.columns.is_empty() {
            let created = object.str_at("metadata.creationTimestamp").unwrap_or_default();
            return vec![name, Value::str(created)];
        }
        let cells = built_in(self.resource, object, now);
        match cells {
            Some(Cells::AfterName(mut cells)) if self.resource.kind == "StorageClass" => {
                let mark = if storage::is_default_class(object) { " (default)" } else { "" };
                cells.insert(0, Value::from(format!("{}{mark}", name.as_str().unwrap_or_default())));
                cells
            }
            // The name is everywhere first but for events.
            Some(Cells::AfterName(mut cells)) => {
                cells.insert(0, name);
                cells
            }
            Some(Cells::All(cells)) => cells,
            None => vec![name, format::age(object, now)],
        }
    }

    fn partial(&self, object: &Value) -> Value {
        value!({
            "kind": "PartialObjectMetadata", "apiVersion": (&self.api_version),
            "metadata": (object.get("metadata").cloned().unwrap_or(Value::map())),
        })
    }
}

/// All columns of a resource's Table, the name included.
pub fn columns(resource: &Resource) -> Vec<Column> {
    if !resource.custom {
        return match resource.columns.is_empty() {
            true => vec![Column::name(), Column::created_at()],
            false => resource.columns.clone(),
        };
    }
    let age = Column {
        name: "Age".into(),
        data_type: "date".into(),
        json_path: ".metadata.creationTimestamp".into(),
        description: Column::created_at().description,
        ..Column::default()
    };
    let own = if resource.columns.is_empty() { std::slice::from_ref(&age) } else { &resource.columns };
    let described = own.iter().map(|column| match column.description.is_empty() {
        true => Column {
            description: format!(
                "Custom resource definition column (in JSONPath format): {}",
                column.json_path
            )
            .into(),
            ..column.clone()
        },
        false => column.clone(),
    });
    std::iter::once(Column::name()).chain(described).collect()
}

fn definition(column: &Column) -> Value {
    value!({
        "name": (&column.name), "type": (&column.data_type), "format": (&column.format),
        "description": (&column.description), "priority": (column.priority),
    })
}

fn custom_cell(column: &Column, path: Option<&JsonPath>, object: &Value, now: Seconds) -> Value {
    let Some(found) = path.and_then(|p| p.find(object).into_iter().next()) else { return Value::Null };
    match (column.data_type.as_str(), found) {
        ("string", found) => Value::from(jsonpath::print(found)),
        ("integer", Value::Int(_))
        | ("number", Value::Int(_) | Value::Float(_))
        | ("boolean", Value::Bool(_)) => found.clone(),
        ("integer", Value::Float(f)) => Value::Int(*f as i64),
        ("date", Value::Str(text)) => format::since(text, now),
        _ => Value::Null,
    }
}

/// Cells of a built-in kind.
enum Cells {
    /// The name goes before them.
    AfterName(Vec<Value>),
    /// The name is among them.
    All(Vec<Value>),
}

fn built_in(resource: &Resource, object: &Value, now: Seconds) -> Option<Cells> {
    if resource.kind == "Event" {
        return Some(Cells::All(config::event(object, now)));
    }
    let cells: fn(&Value, Seconds) -> Vec<Value> = match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pods::pod,
        ("", "PodTemplate") => workloads::pod_template,
        ("", "ReplicationController") => workloads::replication_controller,
        ("apps", "ReplicaSet") => workloads::replica_set,
        ("apps", "Deployment") => workloads::deployment,
        ("apps", "DaemonSet") => workloads::daemon_set,
        ("apps", "StatefulSet") => workloads::stateful_set,
        ("apps", "ControllerRevision") => workloads::controller_revision,
        ("batch", "Job") => workloads::job,
        ("batch", "CronJob") => workloads::cron_job,
        ("autoscaling", "HorizontalPodAutoscaler") => workloads::horizontal_pod_autoscaler,
        ("", "Service") => network::service,
        ("", "Endpoints") => network::endpoints,
        ("discovery.k8s.io", "EndpointSlice") => network::endpoint_slice,
        ("networking.k8s.io", "Ingress") => network::ingress,
        ("networking.k8s.io", "IngressClass") => network::ingress_class,
        ("networking.k8s.io", "NetworkPolicy") => network::network_policy,
        ("networking.k8s.io", "ServiceCIDR") => network::service_cidr,
        ("networking.k8s.io", "IPAddress") => network::ip_address,
        ("", "PersistentVolume") => storage::persistent_volume,
        ("", "PersistentVolumeClaim") => storage::persistent_volume_claim,
        ("storage.k8s.io", "StorageClass") => storage::storage_class,
        ("storage.k8s.io", "CSIDriver") => storage::csi_driver,
        ("storage.k8s.io", "CSINode") => storage::csi_node,
        ("storage.k8s.io", "VolumeAttachment") => storage::volume_attachment,
        ("storage.k8s.io", "VolumeAttributesClass") => storage::volume_attributes_class,
        ("resource.k8s.io", "ResourceClaim") => storage::resource_claim,
        ("resource.k8s.io", "ResourceSlice") => storage::resource_slice,
        ("", "Node") => config::node,
        ("", "Namespace") => config::namespace,
        ("", "ConfigMap") => config::config_map,
        ("", "Secret") => config::secret,
        ("", "ResourceQuota") => config::resource_quota,
        ("", "ComponentStatus") => config::component_status,
        ("coordination.k8s.io", "Lease") => config::lease,
        ("node.k8s.io", "RuntimeClass") => config::runtime_class,
        ("scheduling.k8s.io", "PriorityClass") => config::priority_class,
        ("apiregistration.k8s.io", "APIService") => config::api_service,
        ("policy", "PodDisruptionBudget") => policy::pod_disruption_budget,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => policy::role_binding,
        ("certificates.k8s.io", "CertificateSigningRequest") => policy::certificate_signing_request,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => policy::flow_schema,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => policy::priority_level,
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => policy::webhooks,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => policy::validating_policy,
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => policy::mutating_policy,
        (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding",
        ) => policy::policy_binding,
        _ => return None,
    };
    Some(Cells::AfterName(cells(object, now)))
}
