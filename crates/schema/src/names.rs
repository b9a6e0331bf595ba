//! Groups, versions, kinds and resources by name.

use std::fmt;

use smol_str::{SmolStr, format_smolstr};

/// A group and a version; the core group's name is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupVersion {
    /// Group, e.g. `apps`; empty for core.
    pub group: SmolStr,
    /// Version, e.g. `v1`.
    pub version: SmolStr,
}

/// A kind in one version (`GroupVersionKind`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupVersionKind {
    /// Group, e.g. `apps`; empty for core.
    pub group: SmolStr,
    /// Version, e.g. `v1`.
    pub version: SmolStr,
    /// Kind, e.g. `Deployment`.
    pub kind: SmolStr,
}

/// A resource in one version (`GroupVersionResource`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupVersionResource {
    /// Group, e.g. `apps`; empty for core.
    pub group: SmolStr,
    /// Version, e.g. `v1`.
    pub version: SmolStr,
    /// Plural name, e.g. `deployments`.
    pub resource: SmolStr,
}

/// `v1` for the core group, else `group/version`.
pub fn api_version(group: &str, version: &str) -> SmolStr {
    if group.is_empty() { SmolStr::new(version) } else { format_smolstr!("{group}/{version}") }
}

impl GroupVersion {
    /// From its two names.
    pub fn new(group: impl Into<SmolStr>, version: impl Into<SmolStr>) -> Self {
        Self { group: group.into(), version: version.into() }
    }

    /// From an object's `apiVersion`; `None` when it has more than one slash.
    pub fn parse(api_version: &str) -> Option<Self> {
        match api_version.split_once('/') {
            None => Some(Self::new("", api_version)),
            Some((_, version)) if version.contains('/') => None,
            Some((group, version)) => Some(Self::new(group, version)),
        }
    }

    /// As written in `apiVersion`.
    pub fn api_version(&self) -> SmolStr {
        api_version(&self.group, &self.version)
    }

    /// The kind of that name in this group and version.
    pub fn kind(&self, kind: impl Into<SmolStr>) -> GroupVersionKind {
        GroupVersionKind { group: self.group.clone(), version: self.version.clone(), kind: kind.into() }
    }

    /// The resource of that name in this group and version.
    pub fn resource(&self, resource: impl Into<SmolStr>) -> GroupVersionResource {
        GroupVersionResource {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: resource.into(),
        }
    }
}

impl GroupVersionKind {
    /// From its three names.
    pub fn new(group: impl Into<SmolStr>, version: impl Into<SmolStr>, kind: impl Into<SmolStr>) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// From an object's `apiVersion` and `kind`.
    pub fn of(object: &crate::Value) -> Option<Self> {
        Some(GroupVersion::parse(object.get("apiVersion")?.as_str()?)?.kind(object.get("kind")?.as_str()?))
    }

    /// As written in `apiVersion`.
    pub fn api_version(&self) -> SmolStr {
        api_version(&self.group, &self.version)
    }

    /// Group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(self.group.clone(), self.version.clone())
    }
}

impl GroupVersionResource {
    /// From its three names.
    pub fn new(group: impl Into<SmolStr>, version: impl Into<SmolStr>, resource: impl Into<SmolStr>) -> Self {
        Self { group: group.into(), version: version.into(), resource: resource.into() }
    }

    /// As written in `apiVersion`.
    pub fn api_version(&self) -> SmolStr {
        api_version(&self.group, &self.version)
    }

    /// Group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(self.group.clone(), self.version.clone())
    }

    /// `deployments.apps`, or `pods` in the core group.
    pub fn group_resource(&self) -> SmolStr {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format_smolstr!("{}.{}", self.resource, self.group)
        }
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.api_version())
    }
}

impl fmt::Display for GroupVersionKind {
    /// As upstream prints one: `apps/v1, Kind=Deployment`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

impl fmt::Display for GroupVersionResource {
    /// As upstream prints one: `apps/v1, Resource=deployments`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Resource={}", self.group, self.version, self.resource)
    }
}
