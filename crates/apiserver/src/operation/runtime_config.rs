//! `--runtime-config`: which built-in versions are served.

use schema::{GroupVersion, Resource};

use crate::Error;
use crate::registry::ResourceTable;

/// The table without the versions that are switched off. Versions that are not here cannot be switched on.
pub fn apply(table: ResourceTable, wishes: &[(String, bool)]) -> Result<ResourceTable, Error> {
    if wishes.is_empty() {
        return Ok(table);
    }
    for (name, on) in wishes {
        if name.starts_with("api/") {
            if !matches!(name.as_str(), "api/all" | "api/ga" | "api/beta" | "api/alpha" | "api/legacy") {
                return Err(wrong(format!("unknown api groups {name}")));
            }
            continue;
        }
        let known = match GroupVersion::parse(name) {
            Some(version) => table.has_version(&version),
            None => false,
        };
        if *on && !known {
            return Err(wrong(format!("{name}: this version is not implemented")));
        }
    }
    let kept = table.all().iter().filter(|s| is_on(&s.resource, wishes)).cloned().collect();
    Ok(ResourceTable::new(kept))
}

fn wrong(reason: String) -> Error {
    Error::Flag { flag: "runtime-config", reason }
}

/// A version's own entry counts most, then the one of its stability, then the one for all.
fn is_on(resource: &Resource, wishes: &[(String, bool)]) -> bool {
    let of = |name: &str| wishes.iter().rev().find(|(wish, _)| wish == name).map(|(_, on)| *on);
    let version = resource.version.as_str();
    let stability = match version {
        v if v.contains("alpha") => "api/alpha",
        v if v.contains("beta") => "api/beta",
        _ => "api/ga",
    };
    of(&schema::api_version(&resource.group, version))
        .or_else(|| of(stability))
        .or_else(|| of("api/all"))
        .unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::Catalog;

    fn check(wishes: &[(&str, bool)]) -> Result<ResourceTable, Error> {
        let wishes: Vec<(String, bool)> = wishes.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect();
        apply(ResourceTable::builtin(Catalog::builtin()), &wishes)
    }

    #[test]
    fn versions_are_switched_off() {
        let has = |table: &ResourceTable, name: &str| table.has_version(&GroupVersion::parse(name).unwrap());
        let table = check(&[("batch/v1", false)]).unwrap();
        assert!(!has(&table, "batch/v1") && has(&table, "apps/v1"));
        let table = check(&[("api/all", false), ("v1", true)]).unwrap();
        assert!(has(&table, "v1") && !has(&table, "apps/v1"));
        assert!(check(&[("api/all", true)]).is_ok());
        let error = check(&[("example.com/v1", true)]).err().unwrap().to_string();
        assert!(error.contains("example.com/v1"), "{error}");
        assert!(check(&[("api/nope", true)]).is_err());
    }
}
