//! Field paths as error messages and field managers name them (`field.Path` upstream).

use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A named field: `.name`.
    Field(SmolStr),
    /// A list index: `[0]`.
    Index(usize),
    /// A map key: `[app]`.
    Key(SmolStr),
}

/// A persistent path from an object's root. A child shares its parent, so going down costs one small allocation.
///
/// Prints as upstream's `field.Path`: `spec.containers[0].name`, `metadata.labels[app]`; the root prints as `<nil>`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Path(Option<Arc<Link>>);

#[derive(PartialEq, Eq)]
struct Link {
    parent: Path,
    segment: Segment,
}

impl Path {
    /// The object itself.
    pub const fn root() -> Self {
        Self(None)
    }

    /// Field names separated by dots, e.g. `spec.template.spec`; empty for the root.
    pub fn of(dotted: &str) -> Self {
        dotted.split('.').filter(|s| !s.is_empty()).fold(Self::root(), |path, name| path.child(name))
    }

    /// This path with one more step.
    pub fn push(&self, segment: Segment) -> Self {
        Self(Some(Arc::new(Link { parent: self.clone(), segment })))
    }

    /// The field `name` of this object.
    pub fn child(&self, name: impl Into<SmolStr>) -> Self {
        self.push(Segment::Field(name.into()))
    }

    /// The item at `index` of this list.
    pub fn index(&self, index: usize) -> Self {
        self.push(Segment::Index(index))
    }

    /// The entry at `key` of this map.
    pub fn key(&self, key: impl Into<SmolStr>) -> Self {
        self.push(Segment::Key(key.into()))
    }

    /// All but the last step; `None` for the root.
    pub fn parent(&self) -> Option<Path> {
        self.0.as_ref().map(|link| link.parent.clone())
    }

    /// The last step; `None` for the root.
    pub fn last(&self) -> Option<&Segment> {
        self.0.as_ref().map(|link| &link.segment)
    }

    /// True for the object itself.
    pub fn is_root(&self) -> bool {
        self.0.is_none()
    }

    /// The steps from the root on.
    pub fn segments(&self) -> Vec<Segment> {
        let mut steps = Vec::new();
        let mut at = self.0.as_ref();
        while let Some(link) = at {
            steps.push(link.segment.clone());
            at = link.parent.0.as_ref();
        }
        steps.reverse();
        steps
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(link) = &self.0 else { return f.write_str("<nil>") };
        if !link.parent.is_root() {
            write!(f, "{}", link.parent)?;
        }
        match &link.segment {
            Segment::Field(name) if link.parent.is_root() => f.write_str(name),
            Segment::Field(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({self})")
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_upstream() {
        assert_eq!(
            Path::of("spec").child("containers").index(0).child("name").to_string(),
            "spec.containers[0].name"
        );
        assert_eq!(Path::of("metadata.labels").key("app").to_string(), "metadata.labels[app]");
        assert_eq!(Path::root().to_string(), "<nil>");
        assert_eq!(Path::root().index(1).to_string(), "[1]");
    }

    #[test]
    fn equal_by_steps() {
        assert_eq!(Path::of("a.b"), Path::of("a").child("b"));
        assert_ne!(Path::of("a").key("b"), Path::of("a.b"));
        assert_eq!(Path::of("a.b").parent(), Some(Path::of("a")));
    }
}
