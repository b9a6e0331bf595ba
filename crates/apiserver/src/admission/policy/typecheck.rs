//! Checking a policy's expressions against the types of what it matches: warnings in its status.

use std::sync::Arc;

use base::TaskScope;
use cel::{Env, Type};
use rules::expressions::{Available, Composition, add_variables, admission_env, compile};
use schema::{Catalog, GroupVersion, GroupVersionKind, Kind, Node, Schema, SmolStr, Value, value};

use super::super::matching::GROUP;
use crate::registry::{Registry, meta};
use crate::status::{ApiError, ApiResult};

const PLURAL: &str = "validatingadmissionpolicies";
/// Kinds that one policy is checked against at most (`maxTypesToCheck`).
const MAX_KINDS: usize = 10;
/// Deepest fields whose type is known; deeper ones are dyn. Schemas of schemas have no end.
const MAX_DEPTH: usize = 16;

/// Keeps `status.typeChecking` of policies, as upstream's controller manager does, in a task of `scope`.
pub fn run(registry: Arc<Registry>, scope: &TaskScope) {
    scope.spawn(async move {
        let Some(served) = registry.stored_resource(GROUP, PLURAL) else { return };
        let mut follower = registry.follow(&served);
        while follower.next().await.is_some() {
            follower.skip_known();
            check_all(&registry).await;
        }
    });
}

async fn check_all(registry: &Registry) {
    let policies = match registry.find_all(GROUP, PLURAL, None) {
        Ok(policies) => policies,
        Err(error) => return tracing::error!(%error, "read admission policies"),
    };
    for policy in policies {
        let generation = policy.int_at("metadata.generation");
        if policy.int_at("status.observedGeneration") == generation {
            continue;
        }
        if let Err(error) = write_status(registry, &policy).await {
            tracing::warn!(policy = meta::name(&policy), %error, "write the status of an admission policy");
        }
    }
}

async fn write_status(registry: &Registry, policy: &Value) -> ApiResult<()> {
    let Some(served) = registry.stored_resource(GROUP, PLURAL) else { return Ok(()) };
    let warnings = warnings(policy, registry);
    let mut checked = Value::map();
    if !warnings.is_empty() {
        checked.insert("expressionWarnings", Value::List(warnings));
    }
    let name = meta::name(policy);
    let transform = |live: Option<&Value>| {
        let mut object = live.cloned().ok_or_else(|| ApiError::not_found(served.group_resource(), name))?;
        if object["metadata"]["generation"] == policy["metadata"]["generation"] {
            object.set("status.observedGeneration", policy["metadata"]["generation"].clone());
            object.set("status.typeChecking", checked.clone());
        }
        Ok(object)
    };
    registry.own().update(&served, "status", ("", name), &transform).await.map(|_| ())
}

/// `expressionWarnings` of a policy.
fn warnings(policy: &Value, registry: &Registry) -> Vec<Value> {
    let environments = environments(policy, registry);
    let mut all = Vec::new();
    for (i, validation) in policy.items_at("spec.validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let Some(source) = validation.str_at(field).filter(|source| !source.is_empty()) else { continue };
            let messages: Vec<String> = environments
                .iter()
                .filter_map(|(kind, env)| Some(format!("{kind}: {}\n", issues(env, source)?)))
                .collect();
            if !messages.is_empty() {
                all.push(value!({
                    "fieldRef": (format!("spec.validations[{i}].{field}")), "warning": (messages.join("\n"))
                }));
            }
        }
    }
    all
}

fn issues(env: &Env, source: &str) -> Option<String> {
    let why = compile(env, source, &[]).err()?;
    Some(why.strip_prefix("compilation failed: ").unwrap_or(&why).to_owned())
}

/// An environment for each kind that the policy names, with the kind as Go prints it.
fn environments(policy: &Value, registry: &Registry) -> Vec<(String, Env)> {
    let parameter = parameter_kind(policy).and_then(|kind| schema_of(&kind, registry));
    let params = parameter.as_ref().map(|schema| type_of(schema.root(), "Params", 0));
    let available = Available { params: params.is_some(), authorizer: true };
    kinds(policy, registry)
        .into_iter()
        .filter_map(|kind| {
            let schema = schema_of(&kind, registry)?;
            let of = whole(&schema, &kind.kind);
            let mut base = admission_env(available).variable("object", of.clone()).variable("oldObject", of);
            if let Some(params) = &params {
                base = base.variable("params", params.clone());
            }
            let mut composition = Composition::new();
            add_variables(&mut composition, &base, policy);
            let shown = format!("{}, Kind={}", Slashed(&kind.group, &kind.version), kind.kind);
            Some((shown, composition.env(base)))
        })
        .collect()
}

/// `group/version`, with the slash even without a group, as Go prints kinds.
struct Slashed<'a>(&'a str, &'a str);

impl std::fmt::Display for Slashed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

fn parameter_kind(policy: &Value) -> Option<GroupVersionKind> {
    let version = GroupVersion::parse(policy.str_at("spec.paramKind.apiVersion")?)?;
    Some(version.kind(policy.str_at("spec.paramKind.kind")?))
}

fn schema_of(kind: &GroupVersionKind, registry: &Registry) -> Option<Schema> {
    let table = registry.resources.load();
    let found = table.all().iter().find(|served| served.resource.gvk() == *kind);
    found.map(|served| served.resource.schema.clone())
}

/// The kinds that the policy's rules name without wildcards, in order.
fn kinds(policy: &Value, registry: &Registry) -> Vec<GroupVersionKind> {
    let table = registry.resources.load();
    let mut kinds = Vec::new();
    for rule in policy.items_at("spec.matchConstraints.resourceRules") {
        let names =
            |field: &str| -> Vec<&str> { rule.items_at(field).iter().filter_map(Value::as_str).collect() };
        let (groups, versions) = (names("apiGroups"), names("apiVersions"));
        if groups.iter().chain(&versions).any(|name| name.contains('*')) {
            continue;
        }
        let resources: Vec<&str> =
            names("resources").into_iter().filter(|name| !name.contains(['*', '/'])).collect();
        for group in &groups {
            for version in &versions {
                let version = GroupVersion::new(*group, *version);
                let found = resources.iter().filter_map(|r| table.get(&version.resource(*r)));
                kinds.extend(found.map(|served| served.resource.gvk()));
            }
        }
    }
    kinds.sort_by(|a, b| (&a.group, &a.version, &a.kind).cmp(&(&b.group, &b.version, &b.kind)));
    kinds.dedup();
    kinds.truncate(MAX_KINDS);
    kinds
}

/// The type of a whole object: what every object has is known even where a custom schema does not say it.
fn whole(schema: &Schema, name: &str) -> Type {
    let of = type_of(schema.root(), name, 0);
    let Type::Object(object) = &of else { return of };
    let mut fields: Vec<(SmolStr, Type)> =
        object.fields.iter().map(|(name, of)| (name.clone(), of.clone())).collect();
    for (field, of) in [("apiVersion", Type::String), ("kind", Type::String)] {
        fields.push((field.into(), of));
    }
    let metadata = Catalog::builtin().kind(&GroupVersionKind::new("", "v1", "ConfigMap")).cloned();
    if let Some(field) = metadata.as_ref().and_then(|schema| schema.root().field("metadata")) {
        fields.push(("metadata".into(), type_of(field.node(), "ObjectMeta", 0)));
    }
    Type::object(name, fields)
}

/// The type of a schema's values (`SchemaDeclType`).
fn type_of(node: Node<'_>, name: &str, depth: usize) -> Type {
    if depth > MAX_DEPTH || node.preserve_unknown() {
        return Type::Dyn;
    }
    match node.kind() {
        Kind::Object(object) => {
            let fields = object.fields().filter_map(|field| {
                let below = format!("{name}.{}", field.name());
                Some((cel::escape(field.name())?, type_of(field.node(), &below, depth + 1)))
            });
            Type::object(name, fields.collect::<Vec<_>>())
        }
        Kind::Map(values) => Type::map(Type::String, type_of(values, &format!("{name}.@elem"), depth + 1)),
        Kind::List(items) => Type::list(type_of(items, &format!("{name}.@idx"), depth + 1)),
        Kind::String | Kind::Quantity => Type::String,
        Kind::Int32 | Kind::Int64 => Type::Int,
        Kind::Number => Type::Double,
        Kind::Boolean => Type::Bool,
        Kind::Time | Kind::MicroTime => Type::Timestamp,
        Kind::Duration => Type::String,
        Kind::Bytes => Type::Bytes,
        Kind::Variant(..) | Kind::IntOrString | Kind::Any => Type::Dyn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_held_against_the_kinds_that_are_named() {
        let store = Arc::new(store::Embedded::in_memory(base::system_clock()).unwrap());
        let table = crate::registry::ResourceTable::builtin(Catalog::builtin());
        let registry = Registry::new(store, table, base::system_clock());
        let policy = |expression: &str| {
            value!({"spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]
                }]},
                "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
                "validations": [{"expression": expression}]
            }})
        };
        for right in ["object.spec.replicas > 1", "variables.replicas > 1", "object.metadata.name == 'x'"] {
            assert!(warnings(&policy(right), &registry).is_empty(), "{right}");
        }
        let found = warnings(&policy("object.spec.replicas > '1'"), &registry);
        assert_eq!(found[0].str_at("fieldRef"), Some("spec.validations[0].expression"));
        let words = found[0].str_at("warning").unwrap();
        assert!(
            words.starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload"),
            "{words}"
        );
        assert!(
            warnings(&policy("object.spec.nothing == 1"), &registry)[0]
                .str_at("warning")
                .unwrap()
                .contains("undefined field 'nothing'")
        );
    }
}
