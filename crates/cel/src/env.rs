//! What an expression may use: its variables, on top of the standard and Kubernetes libraries.

use smol_str::SmolStr;

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

    /// Parses and checks `source`, whose result must be of one of `expected` (any when empty; dyn always fits).
    pub fn compile(&self, source: &str, expected: &[Type]) -> Result<Program, CompileError> {
        let _ = (source, expected);
        Err(CompileError::Issues("expressions are not compiled yet".to_owned()))
    }
}
