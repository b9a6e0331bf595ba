//! The environment of a container (upstream `makeEnvironmentVariables`).

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Secret};

use super::expand::expand;
use super::field::{self, FieldSource};
use crate::pod::spec;

/// Where the environment's objects come from.
#[async_trait]
pub trait Objects: Send + Sync {
    /// A config map; `None` if it is not there, an error if that is not known.
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, String>;
    /// A secret; `None` if it is not there, an error if that is not known.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, String>;
}

/// What an environment is made from.
pub struct EnvInputs<'a> {
    /// The pod and node.
    pub source: &'a FieldSource<'a>,
    /// Variables about services.
    pub services: BTreeMap<String, String>,
    /// Config maps and secrets.
    pub objects: &'a dyn Objects,
}

/// The variables in order. The error is the message of `CreateContainerConfigError`.
pub async fn environment(
    inputs: &EnvInputs<'_>,
    container: &Container,
) -> Result<Vec<(String, String)>, String> {
    let mut env = Env { known: BTreeMap::new(), order: Vec::new() };
    for (name, value) in env_from(inputs, container).await? {
        env.set(name, value);
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => value_from(inputs, container, variable, source).await?,
            None => {
                let lookup = |name: &str| env.known.get(name).or_else(|| inputs.services.get(name)).cloned();
                Some(expand(variable.value.as_deref().unwrap_or_default(), lookup))
            }
        };
        if let Some(value) = value {
            env.set(variable.name.clone(), value);
        }
    }
    for (name, value) in &inputs.services {
        if !env.known.contains_key(name) {
            env.set(name.clone(), value.clone());
        }
    }
    Ok(env
        .order
        .into_iter()
        .map(|name| (name.clone(), env.known.remove(&name).unwrap_or_default()))
        .collect())
}

struct Env {
    known: BTreeMap<String, String>,
    order: Vec<String>,
}

impl Env {
    fn set(&mut self, name: String, value: String) {
        if self.known.insert(name.clone(), value).is_none() {
            self.order.push(name);
        }
    }
}

async fn env_from(inputs: &EnvInputs<'_>, container: &Container) -> Result<Vec<(String, String)>, String> {
    let namespace = spec::namespace(inputs.source.pod);
    let mut all = Vec::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let data: BTreeMap<String, String> = if let Some(reference) = &from.config_map_ref {
            match inputs.objects.config_map(namespace, &reference.name).await? {
                Some(map) => map.data.unwrap_or_default(),
                None if reference.optional == Some(true) => continue,
                None => return Err(format!("configmap {:?} not found", reference.name)),
            }
        } else if let Some(reference) = &from.secret_ref {
            match inputs.objects.secret(namespace, &reference.name).await? {
                Some(secret) => texts(secret),
                None if reference.optional == Some(true) => continue,
                None => return Err(format!("secret {:?} not found", reference.name)),
            }
        } else {
            continue;
        };
        let named = data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value));
        all.extend(named.filter(|(name, _)| is_variable_name(name)));
    }
    Ok(all)
}

fn texts(secret: Secret) -> BTreeMap<String, String> {
    let data = secret.data.unwrap_or_default().into_iter();
    data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect()
}

/// Any printable ASCII but `=` (`RelaxedEnvironmentVariableValidation`).
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=')
}

async fn value_from(
    inputs: &EnvInputs<'_>,
    container: &Container,
    variable: &EnvVar,
    source: &EnvVarSource,
) -> Result<Option<String>, String> {
    let namespace = spec::namespace(inputs.source.pod);
    if let Some(reference) = &source.field_ref {
        return field::field(inputs.source, &reference.field_path).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return field::resource(inputs.source, selector, &container.name).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let map = match inputs.objects.config_map(namespace, &reference.name).await? {
            Some(map) => map,
            None if optional => return Ok(None),
            None => return Err(format!("configmap {:?} not found", reference.name)),
        };
        return match map.data.and_then(|mut data| data.remove(&reference.key)) {
            None if !optional => Err(format!(
                "couldn't find key {} in ConfigMap {namespace}/{}",
                reference.key, reference.name
            )),
            value => Ok(value),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let secret = match inputs.objects.secret(namespace, &reference.name).await? {
            Some(secret) => secret,
            None if optional => return Ok(None),
            None => return Err(format!("secret {:?} not found", reference.name)),
        };
        return match texts(secret).remove(&reference.key) {
            None if !optional => {
                Err(format!("couldn't find key {} in Secret {namespace}/{}", reference.key, reference.name))
            }
            value => Ok(value),
        };
    }
    if source.file_key_ref.is_some() {
        return Err(format!(
            "environment variable {}: fileKeyRef is not supported by this kubelet",
            variable.name
        ));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::resources::Amounts;

    struct Fixed;

    #[async_trait]
    impl Objects for Fixed {
        async fn config_map(&self, _: &str, name: &str) -> Result<Option<ConfigMap>, String> {
            let data = serde_json::json!({"data": {"k": "v", "bad=key": "x"}});
            Ok((name == "cm").then(|| serde_json::from_value(data).unwrap()))
        }
        async fn secret(&self, _: &str, name: &str) -> Result<Option<Secret>, String> {
            let data = serde_json::json!({"data": {"s": "aGlkZGVu"}});
            Ok((name == "sec").then(|| serde_json::from_value(data).unwrap()))
        }
    }

    async fn of(container: serde_json::Value) -> Result<String, String> {
        let pod =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "namespace": "n"}})).unwrap();
        let source = FieldSource { pod: &pod, pod_ips: &[], host_ips: &[], allocatable: &Amounts::new() };
        let services = BTreeMap::from([("DB_HOST".to_owned(), "10.0.0.9".to_owned())]);
        let inputs = EnvInputs { source: &source, services, objects: &Fixed };
        let container = serde_json::from_value(container).unwrap();
        let env = environment(&inputs, &container).await?;
        Ok(env.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "))
    }

    #[tokio::test]
    async fn sources_override_each_other_in_order() {
        let all = of(serde_json::json!({
            "name": "c",
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "sec"}},
                        {"configMapRef": {"name": "none", "optional": true}}],
            "env": [
                {"name": "A", "value": "$(P_k)-$(DB_HOST)-$(B)"},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "s", "value": "shown"},
                {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
                {"name": "O", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "x", "optional": true}}},
            ],
        }))
        .await;
        assert_eq!(all.as_deref(), Ok("P_k=v s=shown A=v-10.0.0.9-$(B) B=p K=v DB_HOST=10.0.0.9"));
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let key = serde_json::json!({"name": "c", "env": [
            {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "x"}}}]});
        assert_eq!(of(key).await, Err("couldn't find key x in ConfigMap n/cm".to_owned()));
        let object = serde_json::json!({"name": "c", "envFrom": [{"secretRef": {"name": "gone"}}]});
        assert_eq!(of(object).await, Err("secret \"gone\" not found".to_owned()));
    }
}
