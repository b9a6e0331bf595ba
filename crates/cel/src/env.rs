//! What an expression may use: its variables, on top of the standard and Kubernetes libraries.

use smol_str::SmolStr;

use crate::check::check;
use crate::parser::parse;
use crate::source::{Issue, render};
use crate::{CompileError, Program, Type};

/// The declarations that expressions are compiled against.
#[derive(Debug, Clone, Default)]
pub struct Env {
    variables: Vec<(SmolStr, Type)>,
    patch_types: bool,
}

impl Env {
    /// All libraries of Kubernetes v1.36, and no variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// This and the variable `name`.
    #[must_use]
    pub fn variable(mut self, name: impl Into<SmolStr>, of: Type) -> Self {
        let name = name.into();
        self.variables.retain(|(n, _)| *n != name);
        self.variables.push((name, of));
        self
    }

    /// This and what MutatingAdmissionPolicy has: `Object{}`, `Object.spec{}`, ..., `JSONPatch{}`, `jsonpatch.escapeKey`.
    #[must_use]
    pub fn patch_types(mut self) -> Self {
        self.patch_types = true;
        self
    }

    /// The type of a variable.
    pub(crate) fn variable_type(&self, name: &str) -> Option<&Type> {
        self.variables.iter().find(|(n, _)| n == name).map(|(_, of)| of)
    }

    /// The type that an object literal of that name makes.
    pub(crate) fn object_type(&self, name: &str) -> Option<Type> {
        if !self.patch_types {
            return None;
        }
        if name == "JSONPatch" {
            let text = ["op", "path", "from"].map(|field| (field, Type::String));
            return Some(Type::object("JSONPatch", text.into_iter().chain([("value", Type::Dyn)])));
        }
        (name == "Object" || name.starts_with("Object.")).then(|| Type::open_object(name))
    }

    /// Parses and checks `source`, whose result must be of one of `expected` (any when empty; dyn always fits).
    pub fn compile(&self, source: &str, expected: &[Type]) -> Result<Program, CompileError> {
        let chars: Vec<char> = source.chars().collect();
        let issues = |mut issues: Vec<Issue>| {
            issues.sort_by_key(|issue| issue.offset);
            CompileError::Issues(render(&chars, &issues))
        };
        let parsed = parse(&chars).map_err(issues)?;
        let checked = check(self, &parsed).map_err(issues)?;
        let program = Program::new(parsed.root, checked);
        let found = program.result_type();
        let fits = |wanted: &Type| matches!(found, Type::Dyn) || same_type(wanted, found);
        if !expected.is_empty() && !expected.iter().any(fits) {
            return Err(CompileError::Result { found: found.clone(), expected: expected.to_vec() });
        }
        Ok(program)
    }
}

/// Whether a result fits what is wanted; dyn within it fits all.
fn same_type(wanted: &Type, found: &Type) -> bool {
    match (wanted, found) {
        (Type::Dyn, _) | (_, Type::Dyn) => true,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => same_type(a, b),
        (Type::Map(ak, av), Type::Map(bk, bv)) => same_type(ak, bk) && same_type(av, bv),
        (Type::Object(a), Type::Object(b)) => a.name == b.name,
        _ => wanted == found,
    }
}
