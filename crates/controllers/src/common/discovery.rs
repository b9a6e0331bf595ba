//! Which resources the API server has, in their preferred versions.

use kube::api::ApiResource;
use kube::client::{APIGroupDiscovery, APIGroupDiscoveryList};

/// A resource of the API server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Found {
    /// Empty for the core group.
    pub group: String,
    /// Preferred version.
    pub version: String,
    /// Plural name.
    pub resource: String,
    /// Kind.
    pub kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// What can be done with it.
    pub verbs: Vec<String>,
}

impl Found {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods`, `deployments.apps`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    /// True if all `verbs` can be done with it.
    pub fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|v| v == verb))
    }

    /// As `kube` names it.
    pub fn api_resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.clone(),
            version: self.version.clone(),
            api_version: self.api_version(),
            kind: self.kind.clone(),
            plural: self.resource.clone(),
        }
    }
}

/// What the API server has, and the group versions that an aggregated server did not answer for.
#[derive(Debug, Default)]
pub struct Discovered {
    /// All resources, by group and name.
    pub resources: Vec<Found>,
    /// `group/version` of those whose content is unknown now.
    pub stale: Vec<String>,
}

/// Asks the API server.
pub async fn discover(client: &kube::Client) -> Result<Discovered, kube::Error> {
    let (core, groups) =
        futures::try_join!(client.list_core_api_versions_aggregated(), client.list_api_groups_aggregated())?;
    Ok(preferred([core, groups]))
}

/// Every resource once, in the first version of its group that has it.
fn preferred(lists: impl IntoIterator<Item = APIGroupDiscoveryList>) -> Discovered {
    let mut found = Discovered::default();
    for group in lists.into_iter().flat_map(|list| list.items) {
        add_group(&mut found, &group);
    }
    found.resources.sort();
    found
}

fn add_group(found: &mut Discovered, group: &APIGroupDiscovery) {
    let name = group.metadata.as_ref().and_then(|m| m.name.clone()).unwrap_or_default();
    let before = found.resources.len();
    for version in &group.versions {
        let text = version.version.clone().unwrap_or_default();
        if version.freshness.as_deref() == Some("Stale") {
            found.stale.push(format!("{name}/{text}"));
        }
        for resource in &version.resources {
            let plural = resource.resource.clone().unwrap_or_default();
            if found.resources[before..].iter().any(|f| f.resource == plural) {
                continue;
            }
            let kind = resource.response_kind.as_ref().and_then(|k| k.kind.clone()).unwrap_or_default();
            found.resources.push(Found {
                group: name.clone(),
                version: text.clone(),
                resource: plural,
                kind,
                namespaced: resource.scope.as_deref() == Some("Namespaced"),
                verbs: resource.verbs.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_version_that_has_a_resource_counts() {
        let resource = |name: &str| {
            json!({"resource": name, "scope": "Namespaced",
            "responseKind": {"kind": "K"}, "verbs": ["list"]})
        };
        let list = serde_json::from_value(json!({"items": [{"metadata": {"name": "g"}, "versions": [
            {"version": "v2", "resources": [resource("a")]},
            {"version": "v1", "resources": [resource("a"), resource("b")], "freshness": "Stale"}]}]}))
        .unwrap();
        let found = preferred([list]);
        let names: Vec<String> =
            found.resources.iter().map(|f| format!("{}/{}", f.version, f.resource)).collect();
        assert_eq!(names, ["v1/b", "v2/a"]);
        assert_eq!(found.stale, ["g/v1"]);
    }
}
