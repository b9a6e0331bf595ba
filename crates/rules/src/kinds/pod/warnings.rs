//! What upstream says about pods and pod templates that are right all the same (`pkg/api/pod/warnings.go`).

use base::Quantity;
use schema::Value;

use crate::{Path, quote};

/// Labels of nodes that have newer names: since when, and which.
const OLD_NODE_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// Annotations that fields have replaced; a slash at the end stands for a prefix.
const OLD_ANNOTATIONS: [(&str, &str); 6] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "seccomp.security.alpha.kubernetes.io/pod",
        "non-functional in v1.27+; use the \"seccompProfile\" field instead",
    ),
    (
        "container.seccomp.security.alpha.kubernetes.io/",
        "non-functional in v1.27+; use the \"seccompProfile\" field instead",
    ),
    (
        "container.apparmor.security.beta.kubernetes.io/",
        "deprecated since v1.30; use the \"appArmorProfile\" field instead",
    ),
];

/// Sources of volumes that are on their way out.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// In one.
const NANOS: i128 = 1_000_000_000;
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Of a pod, which updates draw none of.
pub(super) fn of_pod(pod: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() { Vec::new() } else { of_template(pod, &Path::ROOT) }
}

/// Of the template at `dotted` in a workload, unless it is as it was.
pub(in crate::kinds) fn of_template_at(object: &Value, old: Option<&Value>, dotted: &str) -> Vec<String> {
    let at = |object: &Value| object.at(dotted).cloned().unwrap_or_default();
    let template = at(object);
    match old {
        Some(old) if at(old) == template => Vec::new(),
        _ => of_template(&template, &Path::new(dotted)),
    }
}

fn of_template(template: &Value, path: &Path<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let (spec, spec_path) = (&template["spec"], path.child("spec"));
    node_labels(spec, &spec_path, &mut out);
    let annotations = path.child("metadata.annotations");
    for (key, _) in template["metadata"]["annotations"].entries() {
        let old = OLD_ANNOTATIONS.iter().find(|(name, _)| match name.strip_suffix('/') {
            Some(prefix) => key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')),
            None => key == name,
        });
        if let Some((_, words)) = old {
            out.push(format!("{}: {words}", annotations.key(key)));
        }
    }
    let volumes = spec_path.child("volumes");
    for (i, volume) in spec["volumes"].items().iter().enumerate() {
        for (source, words) in OLD_VOLUMES.iter().filter(|(source, _)| !volume[*source].is_null()) {
            out.push(format!("{}: {words}", volumes.index(i).child(source)));
        }
    }
    doubles(spec, &spec_path, &mut out);
    fractions(&spec["overhead"], &spec_path.child("overhead"), &mut out);
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        let list = spec_path.child(kind);
        for (i, container) in spec[kind].items().iter().enumerate() {
            of_container(container, &list.index(i), &mut out);
        }
    }
    if spec["terminationGracePeriodSeconds"].as_int().is_some_and(|seconds| seconds < 0) {
        let at = spec_path.child("terminationGracePeriodSeconds");
        out.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    selectors(spec, &spec_path, &mut out);
    out
}

fn old_label(key: &str) -> Option<String> {
    let (_, since, new) = OLD_NODE_LABELS.iter().find(|(old, ..)| *old == key)?;
    Some(format!("deprecated since {since}; use {} instead", quote(new)))
}

fn node_labels(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let selector = path.child("nodeSelector");
    for (key, _) in spec["nodeSelector"].entries() {
        if let Some(words) = old_label(key) {
            out.push(format!("{}: {words}", selector.key(key)));
        }
    }
    let mut term = |term: &Value, at: &Path<'_>| {
        for list in ["matchExpressions", "matchFields"] {
            let expressions = at.child(list);
            for (i, expression) in term[list].items().iter().enumerate() {
                let key = expression["key"].as_str().unwrap_or("");
                if let Some(words) = old_label(key) {
                    out.push(format!("{}: {key} is {words}", expressions.index(i).child("key")));
                }
            }
        }
    };
    let (affinity, at) = (&spec["affinity"]["nodeAffinity"], path.child("affinity.nodeAffinity"));
    let (required, preferred) = (at.child(REQUIRED), at.child(PREFERRED));
    let terms = required.child("nodeSelectorTerms");
    for (i, one) in affinity[REQUIRED]["nodeSelectorTerms"].items().iter().enumerate() {
        term(one, &terms.index(i));
    }
    for (i, one) in affinity[PREFERRED].items().iter().enumerate() {
        term(&one["preference"], &preferred.index(i).child("preference"));
    }
    let spread = path.child("topologySpreadConstraints");
    for (i, constraint) in spec["topologySpreadConstraints"].items().iter().enumerate() {
        let key = constraint["topologyKey"].as_str().unwrap_or("");
        if let Some(words) = old_label(key) {
            out.push(format!("{}: {key} is {words}", spread.index(i).child("topologyKey")));
        }
    }
}

/// What is there twice, or empty, and helps nobody.
fn doubles(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or("").to_owned();
    for (list, field, what) in [("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")] {
        let at = path.child(list);
        let mut seen = Vec::new();
        for (i, item) in spec[list].items().iter().enumerate() {
            let value = text(item, field);
            if seen.contains(&value) {
                out.push(format!("{}: duplicate {what} {}", at.index(i).child(field), quote(&value)));
            }
            seen.push(value);
        }
    }
    let secrets = path.child("imagePullSecrets");
    for (i, _) in
        spec["imagePullSecrets"].items().iter().enumerate().filter(|(_, s)| text(s, "name").is_empty())
    {
        out.push(format!("{}: invalid empty name \"\"", secrets.index(i).child("name")));
    }
}

fn of_container(container: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let env = path.child("env");
    let mut names: Vec<&str> = Vec::new();
    for (i, variable) in container["env"].items().iter().enumerate() {
        let name = variable["name"].as_str().unwrap_or("");
        let refers = variable["value"].as_str().is_some_and(|text| text.contains(&format!("$({name})")));
        if names.contains(&name) && !refers {
            out.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                env.index(i),
                quote(name)
            ));
        }
        names.push(name);
    }
    for list in ["limits", "requests"] {
        let at = path.child("resources");
        fractions(&container["resources"][list], &at.child(list), out);
    }
    ports(container, &path.child("ports"), out);
}

fn ports(container: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let ports = container["ports"].items();
    let same = |a: &Value, b: &Value| {
        ["containerPort", "protocol", "hostPort", "hostIP"].iter().all(|field| a[*field] == b[*field])
    };
    for (i, port) in ports.iter().enumerate() {
        if let Some(other) = ports[..i].iter().position(|before| same(before, port)) {
            out.push(format!("{}: duplicate port definition with {}", path.index(i), path.index(other)));
        }
    }
}

/// Bytes come in whole ones.
fn fractions(amounts: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        let Some(text) = amounts.get(name).and_then(Value::as_str) else { continue };
        let whole = Quantity::parse(text).is_ok_and(|quantity| quantity.nanos() % NANOS == 0);
        if !whole {
            out.push(format!(
                "{}: fractional byte value {} is invalid, must be an integer",
                path.key(name),
                quote(text)
            ));
        }
    }
}

/// Selectors that are not there select nothing, which is hardly what was meant.
fn selectors(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let spread = path.child("topologySpreadConstraints");
    for (i, constraint) in spec["topologySpreadConstraints"].items().iter().enumerate() {
        if constraint["labelSelector"].is_null() {
            out.push(format!("{}: {NO_SELECTOR}", spread.index(i).child("labelSelector")));
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = path.child("affinity");
        let (terms, at) = (&spec["affinity"][kind], affinity.child(kind));
        for (i, term) in terms[REQUIRED].items().iter().enumerate() {
            if term["labelSelector"].is_null() {
                out.push(format!("{}: {NO_SELECTOR}", at.child(REQUIRED).index(i).child("labelSelector")));
            }
        }
        for (i, term) in terms[PREFERRED].items().iter().enumerate() {
            if term["podAffinityTerm"]["labelSelector"].is_null() {
                let at = at.child(PREFERRED);
                out.push(format!("{}: {NO_SELECTOR}", at.index(i).child("podAffinityTerm.labelSelector")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn says_what_upstream_says() {
        let pod = value!({
            "metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "x"}},
            "spec": {
                "nodeSelector": {"beta.kubernetes.io/os": "linux"},
                "imagePullSecrets": [{}],
                "volumes": [{"name": "g", "gitRepo": {"repository": "r"}}],
                "containers": [{"name": "c", "env": [
                    {"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]}],
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}
            }
        });
        assert_eq!(
            of_pod(&pod, None),
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \
                 \"seccompProfile\" field instead",
                "spec.volumes[0].gitRepo: deprecated in v1.11",
                "spec.imagePullSecrets[0].name: invalid empty name \"\"",
                "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null \
                 labelSelector results in matching no pod",
            ]
        );
        assert!(of_pod(&pod, Some(&pod)).is_empty());
    }

    #[test]
    fn templates_are_named_by_where_they_stand() {
        let set = value!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": (-1)}}}});
        assert_eq!(
            of_template_at(&set, None, "spec.template"),
            [
                "spec.template.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be \
              treated as 1"
            ]
        );
        assert!(of_template_at(&set, Some(&set), "spec.template").is_empty());
    }
}
