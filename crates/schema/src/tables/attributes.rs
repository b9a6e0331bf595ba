//! The words after a field's type: `required list=map key=name =10 enum=A|B min=0 -- what it is for`.

use smol_str::SmolStr;

use super::parse::word;
use crate::Value;
use crate::attrs::{Attrs, ListType, MapType};

/// What a line says of a field or type.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub required: bool,
    pub deprecated: bool,
    /// Of the value itself.
    pub own: Attrs,
    /// Of the innermost items or values, from words that begin with `item.`.
    pub item: Attrs,
}

/// Reads all words; the error is the reason.
pub(super) fn parse(text: &str) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(description) = rest.strip_prefix("--") {
            parsed.own.description = Some(description.trim().into());
            break;
        }
        if let Some(json) = rest.strip_prefix('=') {
            let (value, after) = default_value(json)?;
            parsed.own.default = Some(value);
            rest = after;
            continue;
        }
        let (first, after) = word(rest);
        rest = after;
        match first {
            "required" => parsed.required = true,
            "deprecated" => parsed.deprecated = true,
            _ => match first.strip_prefix("item.") {
                Some(first) => attribute(&mut parsed.item, first)?,
                None => attribute(&mut parsed.own, first)?,
            },
        }
    }
    Ok(parsed)
}

/// A JSON value, or a bare word as a string.
fn default_value(text: &str) -> Result<(Value, &str), String> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    if let Some(Ok(value)) = stream.next() {
        let after = &text[stream.byte_offset()..];
        if after.is_empty() || after.starts_with(char::is_whitespace) {
            return Ok((value, after.trim_start()));
        }
    }
    let (bare, after) = word(text);
    if bare.is_empty() || bare.starts_with(['{', '[', '"']) || text.starts_with(char::is_whitespace) {
        return Err(format!("default ={text} is neither JSON nor a word"));
    }
    Ok((Value::str(bare), after))
}

fn attribute(attrs: &mut Attrs, text: &str) -> Result<(), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let number = || value.parse::<f64>().map_err(|_| format!("{name} needs a number"));
    let count = || value.parse::<u64>().map_err(|_| format!("{name} needs a whole number"));
    let limits = &mut attrs.constraints;
    match name {
        "list" => attrs.list_type = Some(list_type(value).ok_or_else(|| format!("no list type {value}"))?),
        "key" => attrs.list_keys = value.split(',').map(SmolStr::new).collect(),
        "map" => attrs.map_type = Some(map_type(value).ok_or_else(|| format!("no map type {value}"))?),
        "patch" => {
            for strategy in value.split(',') {
                match strategy {
                    "merge" => attrs.patch.merge = true,
                    "retainKeys" => attrs.patch.retain_keys = true,
                    "replace" => attrs.patch.replace = true,
                    _ => return Err(format!("no patch strategy {strategy}")),
                }
            }
        }
        "merge-key" => attrs.merge_key = Some(value.into()),
        "immutable" => attrs.immutable = true,
        "nullable" => attrs.nullable = true,
        "enum" => limits.enumeration = value.split('|').map(Value::str).collect(),
        "min" => limits.minimum = Some(number()?),
        "max" => limits.maximum = Some(number()?),
        "above" => {
            limits.minimum = Some(number()?);
            limits.exclusive_minimum = true;
        }
        "below" => {
            limits.maximum = Some(number()?);
            limits.exclusive_maximum = true;
        }
        "minlen" => limits.min_length = Some(count()?),
        "maxlen" => limits.max_length = Some(count()?),
        "minitems" => limits.min_items = Some(count()?),
        "maxitems" => limits.max_items = Some(count()?),
        "minprops" => limits.min_properties = Some(count()?),
        "maxprops" => limits.max_properties = Some(count()?),
        "pattern" => limits.pattern = Some(value.into()),
        "format" => limits.format = Some(value.into()),
        "unique" => limits.unique_items = true,
        _ => return Err(format!("no attribute {name}")),
    }
    Ok(())
}

/// `atomic`, `set` or `map`.
pub(crate) fn list_type(text: &str) -> Option<ListType> {
    match text {
        "atomic" => Some(ListType::Atomic),
        "set" => Some(ListType::Set),
        "map" => Some(ListType::Map),
        _ => None,
    }
}

/// `atomic` or `granular`.
pub(crate) fn map_type(text: &str) -> Option<MapType> {
    match text {
        "atomic" => Some(MapType::Atomic),
        "granular" => Some(MapType::Granular),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value;

    #[test]
    fn words() {
        let parsed = parse("required list=map key=a,b =[1, 2] item.enum=X|Y min=-1 -- the = thing").unwrap();
        assert!(parsed.required);
        assert_eq!(parsed.own.list_keys, ["a", "b"]);
        assert_eq!(parsed.own.default, Some(value!([1, 2])));
        assert_eq!(parsed.own.constraints.minimum, Some(-1.0));
        assert_eq!(parsed.item.constraints.enumeration.len(), 2);
        assert_eq!(parsed.own.description.as_deref(), Some("the = thing"));
    }

    #[test]
    fn defaults() {
        for (text, expected) in [
            ("=10", Value::Int(10)),
            ("=true", Value::Bool(true)),
            ("=ClusterFirst", Value::str("ClusterFirst")),
            ("=25%", Value::str("25%")),
            ("=\"10\"", Value::str("10")),
            ("={}", Value::map()),
            ("=/dev/termination-log immutable", Value::str("/dev/termination-log")),
        ] {
            assert_eq!(parse(text).unwrap().own.default, Some(expected), "{text}");
        }
        assert!(parse("=").is_err());
        assert!(parse("={").is_err());
        assert!(parse("wat=1").is_err());
    }
}
