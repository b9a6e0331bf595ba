//! PodSecurity (KEP-2579): the pod security standards, by labels of the namespace.

mod baseline;
mod checks;
mod config;
mod policy;
mod restricted;

use std::collections::BTreeMap;

use async_trait::async_trait;
use schema::{Map, Value};

use self::checks::{Subject, Violations};
pub use self::config::Config;
use self::policy::{Level, LevelVersion, Policy};
use crate::admission::{Admission, Attributes, Operation};
use crate::registry::{Registry, meta};
use crate::status::{ApiError, ApiResult};

/// Pods of a namespace that are looked at when its enforced level changes (`defaultNamespaceMaxPodsToCheck`).
const MAX_PODS: usize = 3000;
const AUDIT: &str = "pod-security.kubernetes.io";
/// Subresources of pods that do not change what a pod may do.
const IGNORED: [&str; 9] =
    ["attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "resize", "status"];
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// See the module.
pub struct PodSecurity {
    config: Config,
}

impl PodSecurity {
    /// With defaults and exemptions.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

/// Where kinds with pods have their template; None for other kinds.
fn template_of<'a>(group: &str, plural: &str, object: &'a Value) -> Option<&'a Value> {
    match (group, plural) {
        ("", "podtemplates") => object.at("template"),
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => object.at("spec.template"),
        ("batch", "cronjobs") => object.at("spec.jobTemplate.spec.template"),
        _ => None,
    }
}

#[async_trait]
impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        match (attributes.resource.group.as_str(), attributes.resource.resource.as_str()) {
            ("", "namespaces") if attributes.subresource.is_empty() => self.namespace(attributes, registry),
            ("", "pods") if !IGNORED.contains(&attributes.subresource) => self.pod(attributes, registry),
            (group, plural) if attributes.subresource.is_empty() => {
                let template = template_of(group, plural, &attributes.object).cloned();
                match template {
                    Some(template) => self.controller(attributes, registry, &template),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

impl PodSecurity {
    fn namespace(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let name = meta::name(&attributes.object).to_owned();
        let (policy, errors) = self.config.policy(labels(&attributes.object));
        let exempt = self.config.exempt_namespaces.contains(&name);
        let (old, old_errors) = match attributes.operation {
            Operation::Update => self.config.policy(labels(attributes.old_object)),
            _ => (self.config.defaults, Vec::new()),
        };
        let words = |all: &[rules::FieldError]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        if !errors.is_empty() && words(&errors) != words(&old_errors) {
            return Err(ApiError::invalid("", "Namespace", &name, &errors));
        }
        if exempt {
            let ignored = policy.compact();
            if !ignored.is_empty() && (attributes.operation == Operation::Create || policy != old) {
                attributes.warnings.push(format!(
                    "namespace {} is exempt from Pod Security, and the policy ({ignored}) will be ignored",
                    rules::quote(&name)
                ));
            }
            return Ok(());
        }
        let relaxed = policy.enforce.level == Level::Privileged
            || (policy.enforce.version == old.enforce.version && policy.enforce.level <= old.enforce.level);
        if attributes.operation == Operation::Update && policy.enforce != old.enforce && !relaxed {
            attributes.warnings.extend(self.existing_pods(&name, policy.enforce, registry)?);
        }
        Ok(())
    }

    /// Warnings about pods that the new level would not let in.
    fn existing_pods(
        &self,
        name: &str,
        enforce: LevelVersion,
        registry: &Registry,
    ) -> ApiResult<Vec<String>> {
        let Some(served) = registry.stored_resource("", "pods") else { return Ok(Vec::new()) };
        let entries = registry.entries(&served, Some(name))?;
        // Reason to the first pod that has it, and how many have.
        let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
        for entry in entries.iter().take(MAX_PODS) {
            let pod = crate::registry::stored::memo(entry).decode(entry)?;
            if self.exempt_class(&pod["spec"]) {
                continue;
            }
            let violations = checks::evaluate(enforce, &Subject::of(&pod));
            if !violations.is_empty() {
                let place =
                    found.entry(violations.reasons()).or_insert_with(|| (meta::name(&pod).to_owned(), 0));
                place.1 += 1;
            }
        }
        let mut warnings = Vec::new();
        if entries.len() > MAX_PODS {
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {MAX_PODS} of {} existing pods",
                entries.len()
            ));
        }
        if found.is_empty() {
            return Ok(warnings);
        }
        warnings.push(format!(
            "existing pods in namespace {} violate the new PodSecurity enforce level \"{enforce}\"",
            rules::quote(name)
        ));
        let mut lines: Vec<String> = found
            .into_iter()
            .map(|(reasons, (pod, count))| match count {
                1 => format!("{pod}: {reasons}"),
                2 => format!("{pod} (and 1 other pod): {reasons}"),
                _ => format!("{pod} (and {} other pods): {reasons}", count - 1),
            })
            .collect();
        lines.sort();
        warnings.append(&mut lines);
        Ok(warnings)
    }

    /// The namespace's policy with what is wrong in its labels; None if who asks, or where, is exempt.
    fn policy_for(
        &self,
        attributes: &mut Attributes<'_>,
        registry: &Registry,
    ) -> ApiResult<Option<(Policy, Vec<rules::FieldError>)>> {
        let namespace = attributes.namespace.to_owned();
        let exempt = if self.config.exempt_namespaces.contains(&namespace) {
            Some("namespace")
        } else if self.config.exempt_users.contains(&attributes.user.name) {
            Some("user")
        } else {
            None
        };
        if let Some(exempt) = exempt {
            attributes.audit_annotations.push((format!("{AUDIT}/exempt"), exempt.to_owned()));
            return Ok(None);
        }
        let namespace = registry.find("", "namespaces", "", attributes.namespace)?;
        let Some(namespace) = namespace else {
            let words = format!("failed to lookup namespace {}", rules::quote(attributes.namespace));
            return Err(ApiError::internal_plain(words));
        };
        Ok(Some(self.config.policy(labels(&namespace))))
    }

    fn pod(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let Some((policy, errors)) = self.policy_for(attributes, registry)? else { return Ok(()) };
        let enforced = (format!("{AUDIT}/enforce-policy"), policy.enforce.to_string());
        if errors.is_empty() && policy.is_privileged() {
            attributes.audit_annotations.push(enforced);
            return Ok(());
        }
        if attributes.operation == Operation::Update
            && !is_significant(&attributes.object, attributes.old_object)
        {
            return Ok(());
        }
        attributes.audit_annotations.push(enforced);
        let pod = std::mem::take(&mut attributes.object);
        let outcome = self.evaluate(attributes, &policy, &errors, &pod, true);
        attributes.object = pod;
        outcome.map_err(|words| attributes.forbidden(words))
    }

    fn controller(
        &self,
        attributes: &mut Attributes<'_>,
        registry: &Registry,
        template: &Value,
    ) -> ApiResult<()> {
        let Some((policy, errors)) = self.policy_for(attributes, registry)? else { return Ok(()) };
        let silent = policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged;
        if errors.is_empty() && silent {
            return Ok(());
        }
        // Nothing is enforced here, so nothing is refused.
        let _ = self.evaluate(attributes, &policy, &errors, template, false);
        Ok(())
    }

    /// Judges a pod or a template; the error says what the enforced level forbids.
    fn evaluate(
        &self,
        attributes: &mut Attributes<'_>,
        policy: &Policy,
        errors: &[rules::FieldError],
        pod: &Value,
        enforce: bool,
    ) -> Result<(), String> {
        if self.exempt_class(&pod["spec"]) {
            attributes.audit_annotations.push((format!("{AUDIT}/exempt"), "runtimeClass".to_owned()));
            return Ok(());
        }
        if !errors.is_empty() {
            let words = format!("Failed to parse policy: {}", rules::aggregate(errors));
            attributes.audit_annotations.push((format!("{AUDIT}/error"), words));
        }
        let subject = Subject::of(pod);
        let mut known: Vec<(LevelVersion, Violations)> = Vec::new();
        let mut judge = |of: LevelVersion| match known.iter().find(|(level, _)| *level == of) {
            Some((_, violations)) => violations.details(),
            None => {
                let violations = checks::evaluate(of, &subject);
                let details = violations.details();
                known.push((of, violations));
                details
            }
        };
        let refused = enforce.then(|| judge(policy.enforce)).filter(|details| !details.is_empty());
        let audit = judge(policy.audit);
        if !audit.is_empty() {
            let words = format!("would violate PodSecurity \"{}\": {audit}", policy.audit);
            attributes.audit_annotations.push((format!("{AUDIT}/audit-violations"), words));
        }
        if let Some(details) = refused {
            return Err(format!("violates PodSecurity \"{}\": {details}", policy.enforce));
        }
        let warn = judge(policy.warn);
        if !warn.is_empty() {
            attributes.warnings.push(format!("would violate PodSecurity \"{}\": {warn}", policy.warn));
        }
        Ok(())
    }

    fn exempt_class(&self, spec: &Value) -> bool {
        let class = spec.str_at("runtimeClassName").filter(|class| !class.is_empty());
        class.is_some_and(|class| self.config.exempt_classes.iter().any(|exempt| exempt == class))
    }
}

fn labels(object: &Value) -> Option<&Map> {
    object.map_at("metadata.labels")
}

/// Whether a change of a pod can matter to the standards.
fn is_significant(new: &Value, old: &Value) -> bool {
    let annotation = |pod: &Value, key: &str| {
        pod.map_at("metadata.annotations").and_then(|a| a.get_str(key)).unwrap_or_default().to_owned()
    };
    let differs = |container: &Value, before: &Value| {
        let key = format!("{SECCOMP_CONTAINER}{}", container.str_at("name").unwrap_or_default());
        container["image"] != before["image"] || annotation(new, &key) != annotation(old, &key)
    };
    if annotation(new, SECCOMP_POD) != annotation(old, SECCOMP_POD) {
        return true;
    }
    for list in ["spec.containers", "spec.initContainers"] {
        let (now, before) = (new.items_at(list), old.items_at(list));
        if now.len() != before.len() || now.iter().zip(before).any(|(now, before)| differs(now, before)) {
            return true;
        }
    }
    let before = old.items_at("spec.ephemeralContainers");
    new.items_at("spec.ephemeralContainers").iter().any(|container| {
        let same = before.iter().find(|one| one["name"] == container["name"]);
        same.is_none_or(|before| differs(container, before))
    })
}

#[cfg(test)]
mod tests;
