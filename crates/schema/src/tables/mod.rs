//! The tables under `api/`: which there are, and how they become the built-in [`Catalog`].
//!
//! `api/README.md` describes their form. [`parse`] reads lines into definitions, [`link`] turns definitions into an
//! arena of nodes, [`serve`] builds the resources.

mod attributes;
mod link;
mod parse;
mod serve;

pub(crate) use attributes::{list_type, map_type};
pub(crate) use link::finish;

use crate::catalog::Catalog;
use crate::error::Error;

/// One embedded table: its name (also its file below `api/`, without `.api`) and text.
pub(crate) type Source = (&'static str, &'static str);

macro_rules! tables {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../api/", $name, ".api")))),*]
    };
}

/// All tables. Those that serve resources come first and in discovery's order of groups and versions.
pub(crate) const TABLES: &[Source] = tables![
    "core/v1",
    "apiregistration.k8s.io/v1",
    "apps/v1",
    "events.k8s.io/v1",
    "authentication.k8s.io/v1",
    "authorization.k8s.io/v1",
    "autoscaling/v2",
    "autoscaling/v1",
    "batch/v1",
    "certificates.k8s.io/v1",
    "networking.k8s.io/v1",
    "policy/v1",
    "rbac.authorization.k8s.io/v1",
    "storage.k8s.io/v1",
    "admissionregistration.k8s.io/v1",
    "apiextensions.k8s.io/v1",
    "scheduling.k8s.io/v1",
    "coordination.k8s.io/v1",
    "node.k8s.io/v1",
    "discovery.k8s.io/v1",
    "resource.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1",
    "meta/v1",
    "admission.k8s.io/v1",
    "admission.k8s.io/v1beta1",
    "admissionregistration.k8s.io/v1alpha1",
    "admissionregistration.k8s.io/v1beta1",
    "apidiscovery.k8s.io/v2",
    "apidiscovery.k8s.io/v2beta1",
    "apps/v1beta1",
    "apps/v1beta2",
    "authentication.k8s.io/v1beta1",
    "authorization.k8s.io/v1beta1",
    "batch/v1beta1",
    "certificates.k8s.io/v1alpha1",
    "certificates.k8s.io/v1beta1",
    "coordination.k8s.io/v1alpha2",
    "coordination.k8s.io/v1beta1",
    "discovery.k8s.io/v1beta1",
    "events.k8s.io/v1beta1",
    "extensions/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1beta2",
    "flowcontrol.apiserver.k8s.io/v1beta3",
    "imagepolicy.k8s.io/v1alpha1",
    "internal.apiserver.k8s.io/v1alpha1",
    "networking.k8s.io/v1beta1",
    "node.k8s.io/v1alpha1",
    "node.k8s.io/v1beta1",
    "policy/v1beta1",
    "rbac.authorization.k8s.io/v1alpha1",
    "rbac.authorization.k8s.io/v1beta1",
    "resource.k8s.io/v1alpha3",
    "resource.k8s.io/v1beta1",
    "resource.k8s.io/v1beta2",
    "scheduling.k8s.io/v1alpha2",
    "scheduling.k8s.io/v1beta1",
    "storage.k8s.io/v1alpha1",
    "storage.k8s.io/v1beta1",
    "storagemigration.k8s.io/v1beta1",
];

/// The catalog of the embedded tables.
///
/// # Panics
/// When a table is malformed: the tables are part of the program, and a test of this crate loads them.
pub(crate) fn load() -> Catalog {
    match try_load(TABLES) {
        Ok(catalog) => catalog,
        Err(error) => panic!("malformed API table: {error}"),
    }
}

/// The catalog of `sources`.
pub(crate) fn try_load(sources: &[Source]) -> Result<Catalog, Error> {
    let tables =
        sources.iter().map(|(name, text)| parse::table(name, text)).collect::<Result<Vec<_>, _>>()?;
    let types = link::link(&tables)?;
    serve::catalog(&tables, types)
}
