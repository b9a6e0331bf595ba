//! The registry in the small: what answers depend on besides the rules themselves.

use rules::kinds::{KindRules, Write, rules_of};
use rules::{Cursor, Errors, Path};
use schema::{Resource, Value};

pub const NAMESPACE: &str = "ns1";
/// The uid of every object.
pub const UID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const NOW: &str = "2024-01-01T00:00:00Z";

/// What became of a request.
pub enum Outcome {
    Undecodable,
    Invalid(Errors),
    Stored(Value),
}

pub struct Server {
    resource: &'static Resource,
    rules: KindRules,
    groups: Vec<String>,
}

impl Server {
    pub fn new(resource: &'static Resource) -> Self {
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        Self { resource, rules: rules_of(&resource.group, &resource.plural), groups }
    }

    fn write(&self) -> Write<'_> {
        Write { subresource: "", user: "admin", uid: UID, groups: &self.groups, now: NOW }
    }

    fn decode(&self, body: &Value) -> Option<Value> {
        let mut object = codec::json::conform(body, &self.resource.schema).ok()?.value;
        rules::apply_defaults(self.resource.schema.root(), &mut object);
        (self.rules.defaults)(&mut object);
        if self.resource.namespaced {
            object.set("metadata.namespace", NAMESPACE);
        }
        Some(object)
    }

    pub fn create(&self, body: &Value) -> Outcome {
        let Some(mut object) = self.decode(body) else { return Outcome::Undecodable };
        object.set("metadata.uid", UID);
        object.set("metadata.creationTimestamp", NOW);
        admit(self.resource, &mut object);
        allocate(self.resource, &mut object);
        if self.resource.subresource("status").is_some() && self.resource.plural != "nodes" {
            object.remove("status");
        }
        (self.rules.prepare_create)(&mut object, &self.write());
        object = codec::json::conform(&object, &self.resource.schema).unwrap().value;
        let path = Path::new("metadata");
        let metadata = &object["metadata"];
        let subdomain: rules::meta::NameRule = |name, prefix| match prefix {
            true => rules::names::dns1123_subdomain(&rules::names::mask_trailing_dash(name)),
            false => rules::names::dns1123_subdomain(name),
        };
        let any: rules::meta::NameRule = |_, _| Vec::new();
        let own_rule = ["rbac.", "apiextensions.", "apiregistration."];
        let rule = if own_rule.iter().any(|g| self.resource.group.starts_with(g)) { any } else { subdomain };
        let mut errors = rules::meta::validate_object_meta(metadata, self.resource.namespaced, rule, &path);
        (self.rules.validate)(&Cursor::root(&object), &self.write(), &mut errors);
        self.outcome(object, errors)
    }

    fn outcome(&self, mut object: Value, mut errors: Errors) -> Outcome {
        if errors.is_empty() {
            if self.resource.plural == "jobs" {
                rules::kinds::take_template_labels(&mut object);
            }
            return Outcome::Stored(object);
        }
        rules::show_values(&mut errors, self.resource.schema.root());
        Outcome::Invalid(errors)
    }

    pub fn update(&self, body: &Value, old: &Value) -> Outcome {
        let Some(mut object) = self.decode(body) else { return Outcome::Undecodable };
        for field in ["uid", "creationTimestamp"] {
            object.set(&format!("metadata.{field}"), &old["metadata"][field]);
        }
        object.set("metadata.resourceVersion", "1");
        if self.resource.subresource("status").is_some() {
            match old.get("status") {
                Some(status) => object.insert("status", status),
                None => object.remove("status"),
            };
        }
        let mut old = old.clone();
        old.set("metadata.resourceVersion", "1");
        keep_families(self.resource, &mut object, &old);
        (self.rules.prepare_update)(&mut object, &old, &self.write());
        object = codec::json::conform(&object, &self.resource.schema).unwrap().value;
        let path = Path::new("metadata");
        let mut errors =
            rules::meta::validate_object_meta_update(&object["metadata"], &old["metadata"], &path);
        (self.rules.validate_update)(&Cursor::root(&object), &old, &self.write(), &mut errors);
        self.outcome(object, errors)
    }
}

/// What admission does to pods before they are checked.
fn admit(resource: &Resource, object: &mut Value) {
    if resource.group.is_empty() && resource.plural == "nodes" {
        let taints = object.make_map().entry_map("spec").entry_list("taints");
        taints.push(schema::value!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}));
    }
    let pod = resource.group.is_empty() && resource.plural == "pods";
    if !pod {
        return;
    }
    if object["spec"]["serviceAccountName"].is_zero() {
        object.set("spec.serviceAccountName", "default");
        object.set("spec.serviceAccount", "default");
    }
    let spec = object.make_map().entry_map("spec");
    let token = schema::value!({"name": "kube-api-access-x", "emptyDir": {}});
    spec.entry_list("volumes").push(token);
}

/// Addresses and ports that a service gets before it is checked.
fn allocate(resource: &Resource, object: &mut Value) {
    if resource.plural != "services" {
        return;
    }
    let kind = object["spec"]["type"].as_str().unwrap_or("").to_owned();
    if kind == "ExternalName" {
        return;
    }
    let spec = object.make_map().entry_map("spec");
    if spec.get_str("clusterIP").unwrap_or("").is_empty() {
        spec.insert("clusterIP", "10.96.0.5");
    }
    let ip = spec.get_str("clusterIP").unwrap_or("").to_owned();
    spec.entry("clusterIPs", || Value::from([ip.as_str()]));
    // Endpoints of a headless service without a selector may be of any family.
    let any = ip == "None" && spec.get("selector").is_none_or(Value::is_zero);
    let (families, policy): (&[&str], _) = match any {
        true => (&["IPv4", "IPv6"], "RequireDualStack"),
        false => (&["IPv4"], "SingleStack"),
    };
    spec.entry("ipFamilies", || families.iter().map(|f| Value::str(*f)).collect::<Vec<_>>().into());
    spec.entry("ipFamilyPolicy", || Value::str(policy));
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        let allocate = spec.get("allocateLoadBalancerNodePorts").and_then(Value::as_bool) != Some(false);
        if let Some(Value::List(ports)) = spec.get_mut("ports") {
            for port in ports.iter_mut() {
                if port["nodePort"].is_zero() && (kind == "NodePort" || allocate) {
                    let number = 30_000 + port["port"].as_int().unwrap_or(0);
                    port.insert("nodePort", number);
                }
            }
        }
        if kind == "LoadBalancer" && spec.get_str("externalTrafficPolicy") == Some("Local") {
            spec.entry("healthCheckNodePort", || Value::Int(31_000));
        }
    }
}

/// The families of a service's addresses stay when they are not given.
fn keep_families(resource: &Resource, object: &mut Value, old: &Value) {
    if resource.plural != "services" || object["spec"]["type"].as_str() == Some("ExternalName") {
        return;
    }
    for field in ["ipFamilies", "ipFamilyPolicy"] {
        if object["spec"][field].is_zero() && !old["spec"][field].is_zero() {
            object.set(&format!("spec.{field}"), &old["spec"][field]);
        }
    }
}
