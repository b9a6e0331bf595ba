//! Lines of a table into definitions, without resolving any reference.

use crate::error::Error;

/// One file.
#[derive(Debug, Default)]
pub(super) struct Table<'a> {
    /// `apps/v1`, also how other tables refer to it.
    pub name: &'a str,
    /// API group; `core` is empty, `-` (no group of its own) is `None`.
    pub group: Option<&'a str>,
    pub version: &'a str,
    pub package: &'a str,
    pub types: Vec<TypeDef<'a>>,
    pub resources: Vec<ResourceDef<'a>>,
}

/// What a `type`, `kind` or `list` line begins.
#[derive(Debug)]
pub(super) struct TypeDef<'a> {
    pub line: usize,
    pub name: &'a str,
    pub form: Form<'a>,
    /// Attributes as text, e.g. `map=atomic`.
    pub attrs: &'a str,
    pub fields: Vec<FieldDef<'a>>,
    pub unions: Vec<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Form<'a> {
    /// Part of a kind.
    Type,
    /// A kind, with `apiVersion` and `kind`.
    Kind,
    /// A kind without `apiVersion` and `kind` (`WatchEvent`).
    Bare,
    /// The list of a kind.
    List(&'a str),
}

#[derive(Debug)]
pub(super) struct FieldDef<'a> {
    pub line: usize,
    /// 0 for none.
    pub number: u32,
    pub name: &'a str,
    /// The type as text, presence marks and all.
    pub kind: &'a str,
    /// Attributes and description as text.
    pub attrs: &'a str,
}

#[derive(Debug)]
pub(super) struct ResourceDef<'a> {
    pub line: usize,
    /// `resource` line without the first word.
    pub text: &'a str,
    /// Indented lines: first word and rest.
    pub details: Vec<(usize, &'a str, &'a str)>,
}

enum Open {
    None,
    Type,
    Resource,
}

/// First word and the rest, both trimmed.
pub(super) fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// Reads one table.
pub(super) fn table<'a>(name: &'a str, text: &'a str) -> Result<Table<'a>, Error> {
    let mut table = Table { name, ..Table::default() };
    let mut open = Open::None;
    for (at, raw) in text.lines().enumerate() {
        let line = at + 1;
        let fail = |reason: &str| Error::Table { table: name.into(), line, reason: reason.to_owned() };
        if raw.trim().is_empty() || raw.trim_start().starts_with('#') {
            continue;
        }
        let (first, rest) = word(raw);
        if raw.starts_with(' ') {
            match open {
                Open::Type => {
                    let current = table.types.last_mut().ok_or_else(|| fail("field outside a type"))?;
                    if first == "union" {
                        current.unions.push(rest);
                    } else {
                        current.fields.push(field(line, first, rest).ok_or_else(|| fail("not a field"))?);
                    }
                }
                Open::Resource => {
                    let current =
                        table.resources.last_mut().ok_or_else(|| fail("detail outside a resource"))?;
                    current.details.push((line, first, rest));
                }
                Open::None => return Err(fail("an indented line belongs to a type or resource")),
            }
            continue;
        }
        match first {
            "group" => {
                table.group = match rest {
                    "-" => None,
                    "core" => Some(""),
                    group => Some(group),
                }
            }
            "version" => table.version = rest,
            "package" => table.package = rest,
            "type" | "kind" | "list" => {
                table.types.push(type_def(line, first, rest));
                open = Open::Type;
            }
            "resource" => {
                table.resources.push(ResourceDef { line, text: rest, details: Vec::new() });
                open = Open::Resource;
            }
            _ => return Err(fail("expected group, version, package, resource, type, kind or list")),
        }
    }
    Ok(table)
}

fn type_def<'a>(line: usize, first: &str, rest: &'a str) -> TypeDef<'a> {
    let (name, attrs) = word(rest);
    let (form, attrs) = match (first, attrs.strip_prefix("bare")) {
        ("list", _) => (Form::List(attrs), ""),
        ("kind", Some(attrs)) => (Form::Bare, attrs.trim()),
        ("kind", None) => (Form::Kind, attrs),
        _ => (Form::Type, attrs),
    };
    TypeDef { line, name, form, attrs, fields: Vec::new(), unions: Vec::new() }
}

fn field<'a>(line: usize, number: &str, rest: &'a str) -> Option<FieldDef<'a>> {
    let number = if number == "-" { 0 } else { number.parse().ok()? };
    let (name, rest) = word(rest);
    let (kind, attrs) = word(rest);
    (!name.is_empty() && !kind.is_empty()).then_some(FieldDef { line, number, name, kind, attrs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_example_of_the_readme() {
        let text = "group apps\nversion v1\npackage p\n# note\nkind A\n  1 metadata meta/v1.ObjectMeta!\n  - x []T list=atomic -- what for\nlist AList A\n";
        let table = table("apps/v1", text).unwrap();
        assert_eq!(table.types.len(), 2);
        assert_eq!(table.types[0].fields[1].attrs, "list=atomic -- what for");
        assert_eq!(table.types[1].form, Form::List("A"));
        assert!(super::table("x/v1", "  1 a string").is_err());
        assert!(super::table("x/v1", "wat").is_err());
    }
}
