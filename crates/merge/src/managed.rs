//! The managedFields of an object: who owns which fields, since when, in which version.

use schema::{SmolStr, Value};

use crate::fields::{FieldsError, Set};

/// Why managedFields cannot be read. The texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManagedError {
    /// Neither `Apply` nor `Update`.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// No version.
    #[error("apiVersion must not be empty")]
    ApiVersion,
    /// No `fieldsType`.
    #[error("missing fieldsType in managed fields entry {0}")]
    MissingType(usize),
    /// Another `fieldsType` than `FieldsV1`.
    #[error("invalid fieldsType {1:?} in managed fields entry {0}")]
    Type(usize, SmolStr),
    /// A `fieldsV1` that is none.
    #[error("error decoding versioned set: {0}")]
    Fields(#[from] FieldsError),
}

/// Who owns fields. Two entries with equal owners are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Name of the manager, e.g. `kubectl`.
    pub name: SmolStr,
    /// By apply; else by any other write.
    pub applied: bool,
    /// Version of an owner by update. An applier is the same one in all versions, so it is empty there.
    pub version: SmolStr,
    /// Subresource that was written; empty for the object itself.
    pub subresource: SmolStr,
}

impl Owner {
    /// An owner by update in `version`.
    pub fn updater(name: &str, version: &str, subresource: &str) -> Self {
        Self {
            name: SmolStr::new(if name.is_empty() { "unknown" } else { name }),
            applied: false,
            version: version.into(),
            subresource: subresource.into(),
        }
    }

    /// An owner by apply.
    pub fn applier(name: &str, subresource: &str) -> Self {
        Self { applied: true, version: SmolStr::default(), ..Self::updater(name, "", subresource) }
    }
}

impl std::fmt::Display for Owner {
    /// As conflict messages name it: `"kubectl" with subresource "scale" using apps/v1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.name.as_str())?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource.as_str())?;
        }
        if !self.applied {
            write!(f, " using {}", self.version)?;
        }
        Ok(())
    }
}

/// What one owner owns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Owned {
    pub owner: Owner,
    pub version: SmolStr,
    pub set: Set,
    /// RFC 3339 in seconds.
    pub time: Option<SmolStr>,
}

/// All owners of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ManagedFields {
    pub(crate) entries: Vec<Owned>,
}

impl ManagedFields {
    /// Reads `metadata.managedFields`. Nothing and null read as empty.
    pub fn decode(value: Option<&Value>) -> Result<Self, ManagedError> {
        let mut out = Self::default();
        for (i, entry) in value.map_or(&[][..], Value::items).iter().enumerate() {
            let text = |name: &str| entry.get(name).and_then(Value::as_smol).cloned().unwrap_or_default();
            let applied = match text("operation").as_str() {
                "Apply" => true,
                "Update" => false,
                _ => return Err(ManagedError::Operation),
            };
            let version = text("apiVersion");
            if version.is_empty() {
                return Err(ManagedError::ApiVersion);
            }
            match text("fieldsType").as_str() {
                "FieldsV1" => {}
                "" => return Err(ManagedError::MissingType(i)),
                other => return Err(ManagedError::Type(i, other.into())),
            }
            let (name, subresource) = (text("manager"), text("subresource"));
            let owner_version = if applied { SmolStr::default() } else { version.clone() };
            let set = entry.get("fieldsV1").map_or(Ok(Set::new()), Set::from_value)?;
            let time = entry.get("time").and_then(Value::as_smol).cloned();
            out.put(Owned {
                owner: Owner { name, applied, version: owner_version, subresource },
                version,
                set,
                time,
            });
        }
        Ok(out)
    }

    /// Writes `metadata.managedFields`, sorted as upstream sorts; `None` when there is nothing to write.
    pub fn encode(&self) -> Option<Value> {
        if self.entries.is_empty() {
            return None;
        }
        let mut sorted: Vec<&Owned> = self.entries.iter().collect();
        // RFC 3339 in UTC sorts as text; no time comes first.
        sorted.sort_by(|a, b| {
            (b.owner.applied.cmp(&a.owner.applied))
                .then_with(|| a.time.cmp(&b.time))
                .then_with(|| a.owner.name.cmp(&b.owner.name))
                .then_with(|| a.version.cmp(&b.version))
                .then_with(|| a.owner.subresource.cmp(&b.owner.subresource))
        });
        Some(sorted.into_iter().map(encode_one).collect())
    }

    pub(crate) fn get(&self, owner: &Owner) -> Option<&Owned> {
        self.entries.iter().find(|e| e.owner == *owner)
    }

    pub(crate) fn get_mut(&mut self, owner: &Owner) -> Option<&mut Owned> {
        self.entries.iter_mut().find(|e| e.owner == *owner)
    }

    pub(crate) fn put(&mut self, owned: Owned) {
        match self.get_mut(&owned.owner) {
            Some(present) => *present = owned,
            None => self.entries.push(owned),
        }
    }

    pub(crate) fn drop_empty(&mut self) {
        self.entries.retain(|e| !e.set.is_empty());
    }

    /// Every owner with its version and fields.
    pub fn owners(&self) -> impl Iterator<Item = (&Owner, &SmolStr, &Set)> {
        self.entries.iter().map(|e| (&e.owner, &e.version, &e.set))
    }
}

fn encode_one(owned: &Owned) -> Value {
    let mut entry = Value::map();
    if !owned.owner.name.is_empty() {
        entry.insert("manager", &owned.owner.name);
    }
    entry.insert("operation", if owned.owner.applied { "Apply" } else { "Update" });
    entry.insert("apiVersion", &owned.version);
    if let Some(time) = &owned.time {
        entry.insert("time", time);
    }
    entry.insert("fieldsType", "FieldsV1");
    entry.insert("fieldsV1", owned.set.to_value());
    if !owned.owner.subresource.is_empty() {
        entry.insert("subresource", &owned.owner.subresource);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn round_trip_in_order() {
        let managed = parse(
            r#"[{"manager":"b","operation":"Update","apiVersion":"v1","time":"2024-01-02T00:00:00Z",
                 "fieldsType":"FieldsV1","fieldsV1":{"f:a":{}}},
                {"manager":"a","operation":"Apply","apiVersion":"v1","time":"2025-01-02T00:00:00Z",
                 "fieldsType":"FieldsV1","fieldsV1":{"f:b":{}}},
                {"manager":"c","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1",
                 "fieldsV1":{"f:c":{}},"subresource":"status"}]"#,
        );
        let decoded = ManagedFields::decode(Some(&managed)).unwrap();
        let encoded = decoded.encode().unwrap();
        let names: Vec<_> = encoded.items().iter().map(|e| e["manager"].as_str().unwrap()).collect();
        assert_eq!(names, ["c", "a", "b"]);
        assert_eq!(ManagedFields::decode(Some(&encoded)).unwrap().entries.len(), 3);
    }

    #[test]
    fn unreadable() {
        for (text, error) in [
            (r#"[{"operation":"X"}]"#, ManagedError::Operation),
            (r#"[{"operation":"Apply"}]"#, ManagedError::ApiVersion),
            (r#"[{"operation":"Apply","apiVersion":"v1"}]"#, ManagedError::MissingType(0)),
            (
                r#"[{"operation":"Apply","apiVersion":"v1","fieldsType":"F2"}]"#,
                ManagedError::Type(0, "F2".into()),
            ),
        ] {
            assert_eq!(ManagedFields::decode(Some(&parse(text))), Err(error));
        }
    }

    #[test]
    fn owners_print_as_in_conflicts() {
        assert_eq!(
            Owner::updater("p", "apps/v1", "scale").to_string(),
            r#""p" with subresource "scale" using apps/v1"#
        );
        assert_eq!(Owner::applier("", "").to_string(), r#""unknown""#);
    }
}
