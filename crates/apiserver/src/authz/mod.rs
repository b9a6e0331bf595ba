//! Whether a user may do what a request asks: authorizers asked in order.

mod abac;
mod always;
pub mod node;
pub mod rbac;
pub(crate) mod selector;
mod setup;
mod webhook;

use std::sync::Arc;

use async_trait::async_trait;
use base::UserInfo;

use crate::request::RequestInfo;
use crate::status::{ApiError, GroupResource};

pub use always::{AlwaysAllow, AlwaysDeny, PrivilegedGroup};
pub use node::NodeAuthorizer;
pub use rbac::{Rbac, RoleEscalation};
pub(crate) use setup::go_duration;
pub use setup::{Authorization, authorizers};

/// What is to be decided (`authorizer.Attributes`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Who asks.
    pub user: UserInfo,
    /// Kubernetes verb, or the HTTP method in lower case for other paths.
    pub verb: String,
    /// True for resources, false for other paths.
    pub is_resource: bool,
    /// Empty for core.
    pub api_group: String,
    /// E.g. `v1`.
    pub api_version: String,
    /// Empty at cluster scope, or for all namespaces.
    pub namespace: String,
    /// Plural.
    pub resource: String,
    /// E.g. `status`.
    pub subresource: String,
    /// Empty for collections.
    pub name: String,
    /// Path of requests for no resource.
    pub path: String,
    /// The field selector of a list, watch or deletecollection, for authorizers that heed it.
    pub field_selector: Option<String>,
    /// Its label selector.
    pub label_selector: Option<String>,
}

impl Attributes {
    /// What `user` asks for with a request.
    pub fn of(user: &UserInfo, info: &RequestInfo) -> Self {
        Self {
            user: user.clone(),
            verb: info.verb.to_owned(),
            is_resource: info.is_resource,
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            namespace: info.namespace.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            name: info.name.clone(),
            path: info.path.clone(),
            field_selector: None,
            label_selector: None,
        }
    }
}

/// What an authorizer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes; with the reason for audit.
    Allow(String),
    /// No, and no other authorizer may say yes.
    Deny(String),
    /// Not mine to say.
    NoOpinion(String),
}

impl Decision {
    /// True for yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(why) | Self::Deny(why) | Self::NoOpinion(why) => why,
        }
    }
}

/// What a user may do in a namespace, for SelfSubjectRulesReview.
#[derive(Debug, Clone, Default)]
pub struct UserRules {
    /// `authorization.k8s.io` ResourceRules.
    pub resource_rules: Vec<schema::Value>,
    /// NonResourceRules.
    pub non_resource_rules: Vec<schema::Value>,
    /// Rules may be missing.
    pub incomplete: bool,
    /// Why.
    pub evaluation_error: String,
}

/// Decides requests. Must be quick: every request waits for it.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Whether it may be done.
    async fn authorize(&self, attributes: &Attributes) -> Decision;

    /// What `user` may do in `namespace`.
    async fn rules_for(&self, user: &UserInfo, namespace: &str) -> UserRules {
        let _ = (user, namespace);
        UserRules::default()
    }
}

/// Authorizers in order (`--authorization-mode`); the first with an opinion decides.
pub struct Union(Vec<Arc<dyn Authorizer>>);

impl Union {
    /// Asks them in this order.
    pub fn new(all: Vec<Arc<dyn Authorizer>>) -> Self {
        Self(all)
    }
}

#[async_trait]
impl Authorizer for Union {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        let mut reasons = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion(why) if why.is_empty() => {}
                Decision::NoOpinion(why) => reasons.push(why),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    async fn rules_for(&self, user: &UserInfo, namespace: &str) -> UserRules {
        let mut all = UserRules::default();
        let mut errors = Vec::new();
        for authorizer in &self.0 {
            let some = authorizer.rules_for(user, namespace).await;
            all.resource_rules.extend(some.resource_rules);
            all.non_resource_rules.extend(some.non_resource_rules);
            all.incomplete |= some.incomplete;
            if !some.evaluation_error.is_empty() {
                errors.push(some.evaluation_error);
            }
        }
        all.evaluation_error = errors.join(", ");
        all
    }
}

/// The answer to a request that was not allowed, in upstream's words.
pub fn forbidden(attributes: &Attributes, decision: &Decision) -> ApiError {
    let user = rules::quote(&attributes.user.name);
    let verb = &attributes.verb;
    let mut message = if attributes.is_resource {
        let mut resource = attributes.resource.clone();
        if !attributes.subresource.is_empty() {
            resource = format!("{resource}/{}", attributes.subresource);
        }
        let place = if attributes.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {}", rules::quote(&attributes.namespace))
        };
        let (resource, group) = (rules::quote(&resource), rules::quote(&attributes.api_group));
        format!("User {user} cannot {verb} resource {resource} in API group {group} {place}")
    } else {
        format!("User {user} cannot {verb} path {}", rules::quote(&attributes.path))
    };
    if !decision.reason().is_empty() {
        message = format!("{message}: {}", decision.reason());
    }
    let resource = if attributes.is_resource {
        GroupResource::new(&attributes.api_group, &attributes.resource)
    } else {
        GroupResource::new("", "")
    };
    ApiError::forbidden(resource, &attributes.name, message)
}
