//! Checks that all kinds of devices share: names, sets, opaque parameters.

use schema::Value;

use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::names::{c_identifier, dns1123_subdomain};

const MAX_DRIVER_BYTES: usize = 63;
const MAX_ID_BYTES: usize = 32;
const MAX_POOL_BYTES: usize = 253;
const MAX_PARAMETERS_BYTES: usize = 10 * 1024;

/// Each item of a list that is not too long.
pub(super) fn items(
    c: &Cursor<'_>,
    max: usize,
    out: &mut Errors,
    mut check: impl FnMut(&Cursor<'_>, &mut Errors),
) {
    if c.len() > max {
        return out.push(FieldError::too_many(&c.path, c.len(), max));
    }
    c.items().for_each(|item| check(&item, out));
}

/// As [`items`], and no key twice.
pub(super) fn keyed_set(
    c: &Cursor<'_>,
    max: usize,
    out: &mut Errors,
    key: impl Fn(&Value) -> String,
    check: impl FnMut(&Cursor<'_>, &mut Errors),
) {
    if c.len() > max {
        return out.push(FieldError::too_many(&c.path, c.len(), max));
    }
    items(c, max, out, check);
    let mut seen: Vec<String> = Vec::new();
    for item in c.items() {
        let own = key(item.value);
        match seen.contains(&own) {
            true => out.push(FieldError::duplicate(&item.path, own.as_str())),
            false => seen.push(own),
        }
    }
}

/// The name of a driver, which is that of a CSI driver.
pub(super) fn driver_name(c: &Cursor<'_>, name: &str, out: &mut Errors) {
    if name.is_empty() {
        return c.required(out, "");
    }
    if name.len() > MAX_DRIVER_BYTES {
        out.push(FieldError::too_long(&c.path, MAX_DRIVER_BYTES));
    }
    dns1123_subdomain(&name.to_lowercase()).into_iter().for_each(|m| c.invalid_as(out, name, m));
}

/// The name of a pool: subdomains separated by slashes.
pub(super) fn pool_name(c: &Cursor<'_>, out: &mut Errors) {
    if c.text().is_empty() {
        return c.required(out, "");
    }
    if c.text().len() > MAX_POOL_BYTES {
        out.push(FieldError::too_long(&c.path, MAX_POOL_BYTES));
    }
    for part in c.text().split('/') {
        dns1123_subdomain(part).into_iter().for_each(|m| c.invalid_as(out, part, m));
    }
}

/// The name of an attribute or capacity, whose domain may be left out; errors stand at `c`.
pub(super) fn qualified(c: &Cursor<'_>, name: &str, out: &mut Errors) {
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => identifier(c, id, out),
        [domain, id] => {
            match domain.is_empty() {
                true => c.invalid_as(out, "", "the domain must not be empty"),
                false => driver_name(c, domain, out),
            }
            match id.is_empty() {
                true => c.invalid_as(out, "", "the name must not be empty"),
                false => identifier(c, id, out),
            }
        }
        _ => c.invalid_as(out, name, "must not contain more than one slash"),
    }
}

/// As [`qualified`], with a domain.
pub(super) fn fully_qualified(c: &Cursor<'_>, out: &mut Errors) {
    qualified(c, c.text(), out);
    if !c.text().contains('/') {
        c.invalid_as(
            out,
            c.text(),
            "a fully qualified name must be a domain and a name separated by a slash",
        );
    }
}

fn identifier(c: &Cursor<'_>, id: &str, out: &mut Errors) {
    if id.len() > MAX_ID_BYTES {
        out.push(FieldError::too_long(&c.path, MAX_ID_BYTES));
    }
    c_identifier(id).into_iter().for_each(|m| c.invalid_as(out, id, m));
}

/// A configuration, of which opaque parameters are the only kind.
pub(super) fn opaque(config: &Cursor<'_>, out: &mut Errors) {
    let c = config.field("opaque");
    if !c.is_set() {
        return c.required(out, "");
    }
    super::validate_driver(&c.field("driver"), out);
    raw_object(&c.field("parameters"), out);
}

/// Some JSON object of limited size.
pub(super) fn raw_object(c: &Cursor<'_>, out: &mut Errors) {
    if !c.is_set() {
        c.required(out, "");
    } else if crate::field::json(c.value).len() > MAX_PARAMETERS_BYTES {
        out.push(FieldError::too_long(&c.path, MAX_PARAMETERS_BYTES));
    } else if !matches!(c.value, Value::Map(_)) {
        c.invalid_as(out, "<value omitted>", "must be a valid JSON object");
    }
}

/// A uid in the form that RFC 4122 prefers.
pub(super) fn uid(c: &Cursor<'_>, out: &mut Errors) {
    let text = c.text();
    let hex = text.bytes().enumerate().all(|(i, b)| match i {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    });
    if text.len() != 36 {
        c.invalid_as(out, text, format!("error validating uid: invalid UUID length: {}", text.len()));
    } else if !hex {
        c.invalid_as(out, text, "error validating uid: invalid UUID format");
    } else if text.bytes().any(|b| b.is_ascii_uppercase()) {
        c.invalid_as(
            out,
            text,
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal \
             characters",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, errors) in [
            ("model", 0),
            ("example.com/model", 0),
            ("Example.com/model", 0),
            ("/model", 1),
            ("a/", 1),
            ("a/b/c", 1),
            ("1a", 1),
        ] {
            let (value, mut out) = (Value::from(name), Errors::new());
            qualified(&Cursor::root(&value), name, &mut out);
            assert_eq!(out.len(), errors, "{name}");
        }
        for (text, errors) in [
            ("0f8fad5b-d9cb-469f-a165-70867728950e", 0),
            ("x", 1),
            ("0F8fad5b-d9cb-469f-a165-70867728950e", 1),
        ] {
            let (value, mut out) = (Value::from(text), Errors::new());
            uid(&Cursor::root(&value), &mut out);
            assert_eq!(out.len(), errors, "{text}");
        }
    }
}
