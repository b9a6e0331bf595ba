//! Paths inside volumes, and the walk over all containers.

use crate::Cursor;
use crate::field::Errors;

/// No `..` between slashes.
pub(in crate::kinds) fn validate_no_backsteps(c: &Cursor<'_>, out: &mut Errors) {
    if c.text().split('/').any(|part| part == "..") {
        c.invalid(out, "must not contain '..'");
    }
}

/// Relative, and without `..`.
pub(in crate::kinds) fn validate_descending_path(c: &Cursor<'_>, out: &mut Errors) {
    if c.text().starts_with('/') {
        c.invalid(out, "must be a relative path");
    }
    validate_no_backsteps(c, out);
}

/// As above, and not beginning with `..` at all.
pub(in crate::kinds) fn validate_local_path(c: &Cursor<'_>, out: &mut Errors) {
    validate_descending_path(c, out);
    if c.text().starts_with("..") && !c.text().starts_with("../") {
        c.invalid(out, "must not start with '..'");
    }
}

/// A file mode of nine bits.
pub(in crate::kinds) fn validate_mode(c: &Cursor<'_>, out: &mut Errors) {
    if c.as_int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        c.invalid(out, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// Init, regular and ephemeral containers, in this order.
pub(in crate::kinds) fn visit_containers(spec: &Cursor<'_>, mut visit: impl FnMut(&Cursor<'_>)) {
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        spec.field(kind).items().for_each(|container| visit(&container));
    }
}
