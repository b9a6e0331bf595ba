//! Devices: classes, claims, templates of claims and slices of `resource.k8s.io` (KEP-4381).

use super::KindRules;

pub(super) const CLASSES: KindRules = KindRules::NONE;
pub(super) const CLAIMS: KindRules = KindRules::NONE;
pub(super) const TEMPLATES: KindRules = KindRules::NONE;
pub(super) const SLICES: KindRules = KindRules::NONE;
