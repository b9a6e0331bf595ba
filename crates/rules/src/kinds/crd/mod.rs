//! CustomResourceDefinitions (`pkg/apis/apiextensions/validation`, structural schemas included).

use super::KindRules;

pub(super) const RULES: KindRules = KindRules::NONE;
