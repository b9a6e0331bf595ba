//! What CEL expressions of admission may use, and compiling them with upstream's words.

use cel::{Env, Program, Type};
use schema::{SmolStr, Value};

/// Which variables there are beside `object`, `oldObject`, `request` and `namespaceObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Available {
    /// `params`
    pub params: bool,
    /// `authorizer` and `authorizer.requestResource`
    pub authorizer: bool,
}

/// The environment of admission's expressions: match conditions, validations, messages, mutations.
pub fn admission_env(available: Available) -> Env {
    let mut env = Env::new()
        .variable("object", Type::Dyn)
        .variable("oldObject", Type::Dyn)
        .variable("request", request_type())
        .variable("namespaceObject", namespace_type());
    if available.params {
        env = env.variable("params", Type::Dyn);
    }
    if available.authorizer {
        env = env
            .variable("authorizer", Type::authorizer())
            .variable("authorizer.requestResource", Type::resource_check());
    }
    env
}

/// Compiles an expression whose result must be of exactly one of `expected`; any will do when that is empty. The
/// error is what users are told of the field.
pub fn compile(env: &Env, source: &str, expected: &[Type]) -> Result<Program, String> {
    let program = env.compile(source, &[]).map_err(|e| e.to_string())?;
    let found = program.result_type();
    if expected.is_empty() || expected.contains(found) {
        return Ok(program);
    }
    Err(match expected {
        [one] => format!("must evaluate to {one} but got {}", shown(found)),
        many => format!("must evaluate to one of [{}]", many.iter().map(shown).collect::<Vec<_>>().join(" ")),
    })
}

/// A type as Go prints it, who calls null by the name of its message.
fn shown(of: &Type) -> String {
    if *of == Type::Null { "null_type".to_owned() } else { of.to_string() }
}

/// Expressions of a policy that see its variables, each of which sees those before it.
#[derive(Debug, Clone)]
pub struct Composition {
    /// There are some, even if none has been compiled yet.
    declared: bool,
    variables: Vec<(SmolStr, Type)>,
}

impl Composition {
    /// No variables yet.
    pub fn new() -> Self {
        Self { declared: false, variables: Vec::new() }
    }

    /// `base` with `variables`, unless there are none.
    pub fn env(&self, base: Env) -> Env {
        if self.declared { self.composed(base) } else { base }
    }

    fn composed(&self, base: Env) -> Env {
        base.variable("variables", Type::object("kubernetes.variables", self.variables.iter().cloned()))
    }

    /// There are variables: expressions see the object that holds them, whichever of them compile.
    pub fn declare(&mut self) {
        self.declared = true;
    }

    /// Compiles the next variable; one that does not compile is dyn to those after it.
    pub fn add(&mut self, base: Env, name: &str, source: &str) -> Result<Program, String> {
        self.declare();
        let outcome = compile(&self.composed(base), source, &[]);
        let of = outcome.as_ref().map_or(Type::Dyn, |program| program.result_type().clone());
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.into(), of));
        outcome
    }
}

impl Default for Composition {
    fn default() -> Self {
        Self::new()
    }
}

/// The variables of a policy, compiled in order into `composition`: name and outcome.
pub fn add_variables(
    composition: &mut Composition,
    base: &Env,
    policy: &Value,
) -> Vec<(SmolStr, Result<Program, String>)> {
    let variables = policy.items_at("spec.variables").iter();
    variables
        .map(|variable| {
            let text = |field| variable.str_at(field).unwrap_or_default();
            (text("name").into(), composition.add(base.clone(), text("name"), text("expression")))
        })
        .collect()
}

fn strings(names: &[&'static str]) -> Vec<(&'static str, Type)> {
    names.iter().map(|name| (*name, Type::String)).collect()
}

/// `kubernetes.AdmissionRequest`
fn request_type() -> Type {
    let kind = || Type::object("kubernetes.GroupVersionKind", strings(&["group", "version", "kind"]));
    let resource =
        || Type::object("kubernetes.GroupVersionResource", strings(&["group", "version", "resource"]));
    let user = Type::object(
        "kubernetes.UserInfo",
        [
            ("username", Type::String),
            ("uid", Type::String),
            ("groups", Type::list(Type::String)),
            ("extra", Type::map(Type::String, Type::list(Type::String))),
        ],
    );
    let mut fields = strings(&["subResource", "requestSubResource", "name", "namespace", "operation"]);
    fields.extend([
        ("kind", kind()),
        ("resource", resource()),
        ("requestKind", kind()),
        ("requestResource", resource()),
        ("userInfo", user),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ]);
    Type::object("kubernetes.AdmissionRequest", fields)
}

/// `kubernetes.Namespace`: what of a namespace expressions may see.
fn namespace_type() -> Type {
    let texts = || Type::map(Type::String, Type::String);
    let mut metadata = strings(&["name", "generateName", "namespace", "UID", "resourceVersion"]);
    metadata.extend([
        ("labels", texts()),
        ("annotations", texts()),
        ("creationTimestamp", Type::Timestamp),
        ("deletionGracePeriodSeconds", Type::Int),
        ("deletionTimestamp", Type::Timestamp),
        ("generation", Type::Int),
        ("finalizers", Type::list(Type::String)),
    ]);
    Type::object(
        "kubernetes.Namespace",
        [
            ("metadata", Type::object("kubernetes.NamespaceMetadata", metadata)),
            ("spec", Type::object("kubernetes.NamespaceSpec", [("finalizers", Type::list(Type::String))])),
            ("status", Type::object("kubernetes.NamespaceStatus", [("phase", Type::String)])),
        ],
    )
}
