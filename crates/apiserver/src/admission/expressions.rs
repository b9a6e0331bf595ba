//! CEL in admission: the variables of a request, and conditions over them.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use base::UserInfo;
use cel::{Activation, AuthorizerQuery, Bindings, CostBudget, EvalError, Host, Program, Type};
use futures::FutureExt;
use parking_lot::Mutex;
use schema::{SmolStr, Value, value};

use super::Attributes;
use super::matching::Matched;
use super::versioned::Versioned;
use crate::api::virtual_kinds::user_value;
use crate::authz::{self, Authorizer};

/// What all expressions of one policy or one list of match conditions may use (`RuntimeCELCostBudget`).
pub const BUDGET: u64 = 10_000_000;
/// The same for match conditions of a webhook (`RuntimeCELCostBudgetMatchConditions`).
pub const CONDITIONS_BUDGET: u64 = BUDGET / 4;

/// A compiled expression, or why it is none.
pub type Compiled = Result<Program, String>;

/// The `request` of AdmissionReview, without the objects. `uid` is added by webhooks.
pub fn request_value(attributes: &Attributes<'_>, matched: &Matched) -> Value {
    let kind = |k: &schema::GroupVersionKind| value!({"group": (k.group.clone()), "version": (k.version.clone()), "kind": (k.kind.clone())});
    let resource = |r: &schema::GroupVersionResource| value!({"group": (r.group.clone()), "version": (r.version.clone()), "resource": (r.resource.clone())});
    let mut request = value!({
        "kind": (kind(&matched.kind)), "resource": (resource(&matched.resource)),
        "requestKind": (kind(&attributes.kind)), "requestResource": (resource(&attributes.resource)),
        "operation": (attributes.operation.as_str()), "userInfo": (user_value(attributes.user)),
        "dryRun": (attributes.dry_run), "options": (attributes.options.clone())
    });
    let name = match attributes.name {
        "" => attributes.object.str_at("metadata.name").unwrap_or_default(),
        name => name,
    };
    for (field, text) in [
        ("subResource", attributes.subresource),
        ("requestSubResource", attributes.subresource),
        ("name", name),
        ("namespace", attributes.namespace),
    ] {
        if !text.is_empty() {
            request.insert(field, text);
        }
    }
    request
}

/// What of a namespace expressions see.
pub fn namespace_value(namespace: Option<&Value>) -> cel::Value {
    const METADATA: [&str; 11] = [
        "name",
        "generateName",
        "namespace",
        "labels",
        "annotations",
        "UID",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "resourceVersion",
    ];
    let Some(namespace) = namespace else { return cel::Value::Null };
    let mut metadata = Value::map();
    for (key, value) in namespace["metadata"].entries() {
        if METADATA.contains(&key.as_str()) || key == "finalizers" {
            metadata.insert(key.clone(), value.clone());
        }
    }
    let mut shown = value!({"metadata": (metadata), "spec": {}, "status": {}});
    for path in ["spec.finalizers", "status.phase"] {
        if let Some(value) = namespace.at(path) {
            shown.set(path, value.clone());
        }
    }
    cel::Value::from_json(&shown)
}

/// The variables of one request.
pub fn bindings(attributes: &Attributes<'_>, versioned: &Versioned) -> Bindings {
    let json = cel::Value::from_json;
    Bindings::new()
        .with("object", json(&versioned.object))
        .with("oldObject", json(&versioned.old_object))
        .with("request", json(&request_value(attributes, &versioned.matched)))
        .with("namespaceObject", cel::Value::Null)
}

/// Adds `authorizer` and `authorizer.requestResource`.
pub fn with_authorizer(
    bindings: Bindings,
    attributes: &Attributes<'_>,
    authorizer: &Arc<dyn Authorizer>,
) -> Bindings {
    let asked: Arc<dyn cel::Authorizer> =
        Arc::new(RequestAuthorizer { inner: authorizer.clone(), user: attributes.user.clone() });
    let query = AuthorizerQuery {
        group: attributes.resource.group.clone(),
        resource: attributes.resource.resource.clone(),
        subresource: attributes.subresource.into(),
        namespace: attributes.namespace.into(),
        name: attributes.name.into(),
        ..AuthorizerQuery::default()
    };
    bindings
        .with("authorizer", cel::Value::authorizer(asked.clone()))
        .with("authorizer.requestResource", cel::Value::resource_check(asked, query))
}

/// The server's authorizer for expressions, which know no awaits.
struct RequestAuthorizer {
    inner: Arc<dyn Authorizer>,
    user: UserInfo,
}

impl cel::Authorizer for RequestAuthorizer {
    fn authorize(&self, query: &AuthorizerQuery) -> cel::Decision {
        let user = match &query.service_account {
            Some((namespace, name)) => UserInfo::authenticated(
                format!("system:serviceaccount:{namespace}:{name}"),
                &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")],
            ),
            None => self.user.clone(),
        };
        let attributes = authz::Attributes {
            user,
            verb: query.verb.to_string(),
            is_resource: query.path.is_none(),
            api_group: query.group.to_string(),
            api_version: "*".to_owned(),
            namespace: query.namespace.to_string(),
            resource: query.resource.to_string(),
            subresource: query.subresource.to_string(),
            name: query.name.to_string(),
            path: query.path.as_deref().unwrap_or_default().to_owned(),
            field_selector: query.field_selector.as_deref().map(str::to_owned),
            label_selector: query.label_selector.as_deref().map(str::to_owned),
        };
        let decision = now(self.inner.authorize(&attributes));
        match decision {
            Some(decision) => cel::Decision {
                allowed: decision.is_allowed(),
                reason: decision.reason().to_owned(),
                error: None,
            },
            None => cel::Decision {
                error: Some("the authorizer cannot be asked here".to_owned()),
                ..cel::Decision::default()
            },
        }
    }
}

/// The result of a future that is ready at once, or, on a runtime with several threads, of one that takes a while.
fn now<T>(mut future: impl Future<Output = T> + Unpin) -> Option<T> {
    if let Some(done) = (&mut future).now_or_never() {
        return Some(done);
    }
    let handle = tokio::runtime::Handle::try_current().ok()?;
    (handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread)
        .then(|| tokio::task::block_in_place(|| handle.block_on(future)))
}

/// The value of `variables`: each is computed when it is first asked for.
pub struct Variables {
    programs: Arc<Vec<(SmolStr, Compiled)>>,
    base: Bindings,
    known: Mutex<Vec<(SmolStr, Result<cel::Value, EvalError>)>>,
    spent: AtomicU64,
    own: Weak<Self>,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Variables {
    /// Over the other variables of a request.
    pub fn new(programs: Arc<Vec<(SmolStr, Compiled)>>, base: Bindings) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            programs,
            base,
            known: Mutex::default(),
            spent: AtomicU64::new(0),
            own: own.clone(),
        })
    }

    /// What variables cost since this was last asked.
    fn take_spent(&self) -> u64 {
        self.spent.swap(0, Ordering::Relaxed)
    }

    fn compute(&self, name: &str, program: &Compiled) -> Result<cel::Value, EvalError> {
        let program = program.as_ref().map_err(|e| {
            EvalError::new(format!("composited variable {} fails to compile: {e}", rules::quote(name)))
        })?;
        let mut budget = CostBudget::new(BUDGET);
        let scope = Scope { base: &self.base, variables: self.own.upgrade() };
        let outcome = program.evaluate(&scope, &mut budget);
        self.spent.fetch_add(BUDGET - budget.left(), Ordering::Relaxed);
        outcome.map_err(|e| {
            EvalError::new(format!("composited variable {} fails to evaluate: {e}", rules::quote(name)))
        })
    }
}

impl Host for Variables {
    fn type_of(&self) -> Type {
        Type::open_object("kubernetes.variables")
    }

    fn field(&self, name: &str) -> Option<Result<cel::Value, EvalError>> {
        if let Some((_, known)) = self.known.lock().iter().find(|(n, _)| n == name) {
            return Some(known.clone());
        }
        let (_, program) = self.programs.iter().find(|(n, _)| n == name)?;
        let outcome = self.compute(name, program);
        self.known.lock().push((name.into(), outcome.clone()));
        Some(outcome)
    }

    fn equals(&self, _: &dyn Host) -> bool {
        false
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// All variables of an expression.
pub struct Scope<'a> {
    /// Known beforehand.
    pub base: &'a Bindings,
    /// Those of a policy.
    pub variables: Option<Arc<Variables>>,
}

impl Activation for Scope<'_> {
    fn resolve(&self, name: &str) -> Option<Result<cel::Value, EvalError>> {
        match (&self.variables, name) {
            (Some(variables), "variables") => Some(Ok(cel::Value::Host(variables.clone()))),
            _ => self.base.resolve(name),
        }
    }
}

/// The end of all evaluation of a policy: its budget is spent.
pub const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Evaluates expressions against one budget.
pub struct Evaluation<'a> {
    scope: Scope<'a>,
    budget: CostBudget,
}

impl<'a> Evaluation<'a> {
    /// With `budget` cost units for all expressions.
    pub fn new(base: &'a Bindings, variables: Option<Arc<Variables>>, budget: u64) -> Self {
        Self { scope: Scope { base, variables }, budget: CostBudget::new(budget) }
    }

    /// What is left of the budget.
    pub fn left(&self) -> u64 {
        self.budget.left()
    }

    /// One expression. The outer error ends everything, the inner one is this expression's alone.
    pub fn run(&mut self, source: &str, program: &Compiled) -> Result<Result<cel::Value, String>, String> {
        let program = match program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        let outcome = program.evaluate(&self.scope, &mut self.budget);
        let spent = self.scope.variables.as_ref().map_or(0, |v| v.take_spent());
        let enough = self.budget.take(spent);
        match outcome {
            Err(EvalError::BudgetExhausted) => Err(OUT_OF_BUDGET.to_owned()),
            _ if !enough => Err(OUT_OF_BUDGET.to_owned()),
            Err(error) => Ok(Err(format!("expression '{source}' resulted in error: {error}"))),
            Ok(value) => Ok(Ok(value)),
        }
    }
}

/// `matchConditions` of a webhook or policy.
#[derive(Debug, Default)]
pub struct Conditions(Vec<(String, Compiled)>);

impl Conditions {
    /// Compiles `matchConditions` for `env`.
    pub fn compile(list: &[Value], env: &cel::Env) -> Self {
        let of = |condition: &Value| {
            let source = condition.str_at("expression").unwrap_or_default();
            (source.to_owned(), rules::expressions::compile(env, source, &[Type::Bool]))
        };
        Self(list.iter().map(of).collect())
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not hold outweighs errors; an error counts as no when `ignore` is set.
    pub fn hold(&self, mut evaluation: Evaluation<'_>, ignore: bool) -> Result<bool, String> {
        let fail = |why: String| if ignore { Ok(false) } else { Err(why) };
        let mut errors: Vec<String> = Vec::new();
        for (source, program) in &self.0 {
            match evaluation.run(source, program) {
                Err(why) => return fail(why),
                Ok(Err(why)) if !errors.contains(&why) => errors.push(why),
                Ok(Err(_)) => {}
                Ok(Ok(value)) if value.as_bool() == Some(false) => return Ok(false),
                Ok(Ok(_)) => {}
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [only] => fail(only.clone()),
            several => fail(format!("[{}]", several.join(", "))),
        }
    }
}
