//! Facts about kinds that the registry acts on, as upstream's strategies have them.

use rules::names;

/// When `metadata.generation` moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// The kind has none.
    None,
    /// 1 at creation, one more when anything but metadata and status changes.
    OnSpecChange,
    /// 1 at creation, one more as well when labels or annotations change (`EndpointSlice` heeds labels).
    OnSpecOrLabelsChange,
    /// The strategy moves it itself.
    ByStrategy,
}

pub use rules::meta::NameRule;

/// What of metadata a write of `status` may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusMetadata {
    /// All that any write may.
    Open,
    /// Not the owners (pods).
    OwnersKept,
    /// Not the labels (deployments).
    LabelsKept,
    /// Nothing but managed fields.
    Kept,
}

/// What the registry must know of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// PUT of an object that is not there creates it.
    pub allow_create_on_update: bool,
    /// PUT without a resourceVersion overwrites whatever is there.
    pub allow_unconditional_update: bool,
    /// The kind's generation.
    pub generation: Generation,
    /// Has a `status` that only the status subresource may write.
    pub status: bool,
    /// What a write of it may change besides.
    pub status_metadata: StatusMetadata,
    /// Nobody comes to own the spec, since no update changes it (certificate signing requests).
    pub spec_fixed: bool,
    /// DELETE answers with the object instead of a Status.
    pub returns_deleted: bool,
    /// Finalizers that orphan dependents unless told otherwise (`OrphanDependents` as the default policy).
    pub orphans_by_default: bool,
    /// Objects expire: the lease's seconds (events).
    pub ttl_s: Option<i64>,
    /// Finalizers without a domain must be known ones.
    pub kube_finalizers: bool,
    /// The kind's own check of a change looks at metadata once more, as upstream's do but for a few.
    pub metadata_twice: bool,
    /// Names.
    pub name_rule: NameRule,
}

impl Traits {
    /// What most kinds are like.
    pub const DEFAULT: Self = Self {
        allow_create_on_update: false,
        allow_unconditional_update: true,
        generation: Generation::None,
        status: false,
        status_metadata: StatusMetadata::Open,
        spec_fixed: false,
        returns_deleted: false,
        orphans_by_default: false,
        ttl_s: None,
        kube_finalizers: true,
        metadata_twice: true,
        name_rule: dns_subdomain,
    };
}

/// Most names: a lower-case DNS subdomain.
pub fn dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    names::dns1123_subdomain(&masked(name, prefix))
}

/// Namespaces, services and stateful sets: a DNS label.
pub fn dns_label(name: &str, prefix: bool) -> Vec<String> {
    names::dns1123_label(&masked(name, prefix))
}

/// Device classes: a DNS subdomain, whose length is told in bytes.
pub fn long_name(name: &str, prefix: bool) -> Vec<String> {
    let mut messages = dns_subdomain(name, prefix);
    if name.len() > names::SUBDOMAIN_MAX_LEN {
        messages.retain(|message| *message != names::max_len(names::SUBDOMAIN_MAX_LEN));
        messages.insert(0, format!("must be no more than {} bytes", names::SUBDOMAIN_MAX_LEN));
    }
    messages
}

/// IP addresses are their own names.
pub fn ip_address(name: &str, _: bool) -> Vec<String> {
    rules::net::ip(name)
}

/// Whatever fits into a path (RBAC kinds).
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix { names::path_segment_prefix(name) } else { names::path_segment(name) }
}

/// Anything (checked elsewhere).
pub fn any_name(_: &str, _: bool) -> Vec<String> {
    Vec::new()
}

/// A prefix may end with dashes, which a suffix follows.
fn masked(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    if prefix { names::mask_trailing_dash(name) } else { name.into() }
}
