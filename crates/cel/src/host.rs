//! What an embedder gives: variables, the authorizer, and objects that are not data.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::{EvalError, Type, Value};

/// The variables of one evaluation.
pub trait Activation {
    /// The value of the variable `name`; `None` when there is no such variable. May compute it on demand.
    fn resolve(&self, name: &str) -> Option<Result<Value, EvalError>>;
}

/// Variables that are all known beforehand.
#[derive(Debug, Clone, Default)]
pub struct Bindings(Vec<(SmolStr, Value)>);

impl Bindings {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// These variables and `name`.
    #[must_use]
    pub fn with(mut self, name: impl Into<SmolStr>, value: Value) -> Self {
        self.set(name, value);
        self
    }

    /// Sets the variable `name`.
    pub fn set(&mut self, name: impl Into<SmolStr>, value: Value) {
        let name = name.into();
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some((_, place)) => *place = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Activation for Bindings {
    fn resolve(&self, name: &str) -> Option<Result<Value, EvalError>> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| Ok(value.clone()))
    }
}

/// An activation without variables.
#[derive(Debug, Clone, Copy)]
pub struct NoVariables;

impl Activation for NoVariables {
    fn resolve(&self, _: &str) -> Option<Result<Value, EvalError>> {
        None
    }
}

/// A value that is not plain data: of a library here, or of the embedder (a `variables` object that computes on demand).
pub trait Host: fmt::Debug + Send + Sync {
    /// Its type, as declared to [`crate::Env`].
    fn type_of(&self) -> Type;

    /// The field `name`; `None` when there is none.
    fn field(&self, name: &str) -> Option<Result<Value, EvalError>> {
        let _ = name;
        None
    }

    /// Whether two values are equal; different types never are.
    fn equals(&self, other: &dyn Host) -> bool;

    /// For downcasts.
    fn as_any(&self) -> &dyn Any;
}

/// What the authorizer library asks (`authorizer.group('').resource('pods').check('get')`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizerQuery {
    /// `system:serviceaccount:NAMESPACE:NAME` when asked on behalf of a service account; else the requesting user.
    pub service_account: Option<(SmolStr, SmolStr)>,
    /// The path of a request that is not about a resource.
    pub path: Option<SmolStr>,
    /// The verb.
    pub verb: SmolStr,
    /// API group.
    pub group: SmolStr,
    /// Plural name of the resource.
    pub resource: SmolStr,
    /// Subresource; may be empty.
    pub subresource: SmolStr,
    /// Namespace; may be empty.
    pub namespace: SmolStr,
    /// Name of the object; may be empty.
    pub name: SmolStr,
    /// Text of a field selector.
    pub field_selector: Option<SmolStr>,
    /// Text of a label selector.
    pub label_selector: Option<SmolStr>,
}

/// What the authorizer answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// It may be done.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What failed while asking.
    pub error: Option<String>,
}

/// Answers the questions of the authorizer library. The verb is given in the query.
pub trait Authorizer: Send + Sync {
    /// Whether the requesting user, or the query's service account, may do this.
    fn authorize(&self, query: &AuthorizerQuery) -> Decision;
}

impl Value {
    /// The value of the variable `authorizer`.
    pub fn authorizer(authorizer: Arc<dyn Authorizer>) -> Self {
        Self::Host(Arc::new(AuthorizerValue {
            authorizer,
            query: AuthorizerQuery::default(),
            level: Level::Any,
        }))
    }

    /// The value of `authorizer.requestResource`: a check of what the query names; the verb is still to come.
    pub fn resource_check(authorizer: Arc<dyn Authorizer>, query: AuthorizerQuery) -> Self {
        Self::Host(Arc::new(AuthorizerValue { authorizer, query, level: Level::Resource }))
    }
}

/// How much of a question is asked already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Any,
    Path,
    Group,
    Resource,
}

impl Level {
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Any => "kubernetes.authorization.Authorizer",
            Self::Path => "kubernetes.authorization.PathCheck",
            Self::Group => "kubernetes.authorization.GroupCheck",
            Self::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }
}

/// An authorizer with the part of a question that is asked already.
#[derive(Clone)]
pub(crate) struct AuthorizerValue {
    pub authorizer: Arc<dyn Authorizer>,
    pub query: AuthorizerQuery,
    pub level: Level,
}

impl fmt::Debug for AuthorizerValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizerValue").field("query", &self.query).finish_non_exhaustive()
    }
}

impl Host for AuthorizerValue {
    fn type_of(&self) -> Type {
        Type::Opaque(SmolStr::new_static(self.level.type_name()))
    }

    fn equals(&self, other: &dyn Host) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|o| {
            o.level == self.level && o.query == self.query && Arc::ptr_eq(&o.authorizer, &self.authorizer)
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
