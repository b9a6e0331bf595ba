//! Kinds that are questions and are stored nowhere: reviews of tokens and access.

use std::sync::Arc;

use base::UserInfo;
use http::Response;
use rules::{BadValue, FieldError, Path};
use schema::{Map, Value, value};

use super::{Call, create, render};
use crate::authz::selector::text_of;
use crate::authz::{Attributes, Decision};
use crate::http::Body;
use crate::http::negotiate::{self, Accept, Form};
use crate::registry::options::OptionsKind;
use crate::registry::{Served, WriteOptions, meta, metadata_rules};
use crate::status::{ApiError, ApiResult};

/// True for resources that are answered here.
pub(super) fn is_virtual(served: &Served, subresource: &str) -> bool {
    subresource.is_empty()
        && matches!(
            (served.resource.group.as_str(), served.resource.plural.as_str()),
            ("authentication.k8s.io" | "authorization.k8s.io", _) | ("", "bindings" | "componentstatuses")
        )
}

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    match served.resource.plural.as_str() {
        "componentstatuses" => return component_statuses(call, served, accept),
        "bindings" => return crate::subresource::bind_by_body(call, served, accept, body).await,
        _ => {}
    }
    let accept = match accept.form {
        Form::Table { .. } => negotiate::accept_without_tables(&call.parts.headers, call.query)?,
        _ => accept,
    };
    let options = WriteOptions::parse(OptionsKind::Create, call.query, &call.parts.headers)?;
    let mut object = create::decode_object(call, served, &options, body).await?;
    metadata_rules::match_namespace(served, call.namespace(served), &mut object)?;
    let options_value = options.to_value("CreateOptions");
    let now = call.core.registry.now();
    call.write_context(served, &options, &options_value).track_fields(None, &mut object, &now);
    let status = match served.resource.plural.as_str() {
        "tokenreviews" => token_review(call, &object).await?,
        "selfsubjectreviews" => {
            meta::set(&mut object, "creationTimestamp", now.as_str());
            meta::remove(&mut object, "managedFields");
            value!({"userInfo": (user_value(call.user))})
        }
        "selfsubjectrulesreviews" => rules_review(call, &object).await?,
        "selfsubjectaccessreviews" => {
            check(served, &object, Review::OfSelf)?;
            access_review(call, &object["spec"], call.user.clone()).await
        }
        "localsubjectaccessreviews" => {
            check(served, &object, Review::Local)?;
            access_review(call, &object["spec"], reviewed_user(&object["spec"])).await
        }
        _ => {
            check(served, &object, Review::OfAnyone)?;
            access_review(call, &object["spec"], reviewed_user(&object["spec"])).await
        }
    };
    object.insert("status", status);
    render::object(call, served, accept, 201, object)
}

async fn token_review(call: &Call<'_>, object: &Value) -> ApiResult<Value> {
    let token = object.str_at("spec.token").unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> =
        object.items_at("spec.audiences").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(match call.core.tokens.review(token, &audiences).await {
        Ok(outcome) => {
            let mut status = value!({"authenticated": true, "user": (user_value(&outcome.user))});
            if !outcome.audiences.is_empty() {
                status.insert("audiences", outcome.audiences);
            }
            status
        }
        Err(error) => value!({"user": {}, "error": (error.to_string())}),
    })
}

/// A user as `authentication.k8s.io` UserInfo.
pub(crate) fn user_value(user: &UserInfo) -> Value {
    let mut out = Value::map();
    for (key, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            out.insert(key, text.as_str());
        }
    }
    if !user.groups.is_empty() {
        out.insert("groups", user.groups.clone());
    }
    if !user.extra.is_empty() {
        out.insert("extra", user.extra.iter().map(|(k, v)| (k.as_str(), v.clone())).collect::<Map>());
    }
    out
}

/// The user in `authentication.k8s.io` UserInfo.
pub(crate) fn user_of(value: &Value) -> UserInfo {
    UserInfo { name: value.str_at("username").unwrap_or_default().to_owned(), ..reviewed_user(value) }
}

fn reviewed_user(spec: &Value) -> UserInfo {
    let strings = |list: &Value| -> Vec<String> {
        list.items().iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    UserInfo {
        name: spec.str_at("user").unwrap_or_default().to_owned(),
        uid: spec.str_at("uid").unwrap_or_default().to_owned(),
        groups: strings(&spec["groups"]),
        extra: spec["extra"].entries().iter().map(|(k, v)| (k.to_lowercase(), strings(v))).collect(),
    }
}

/// Whose access a review asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Review {
    OfSelf,
    OfAnyone,
    /// Of anyone in the namespace of the review.
    Local,
}

/// What must be in an access review (`pkg/apis/authorization/validation`).
fn check(served: &Served, object: &Value, review: Review) -> ApiResult<()> {
    let mut errors = Vec::new();
    let (path, spec) = (Path::new("spec"), &object["spec"]);
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if !resource.is_null() && !other.is_null() {
        let words = "cannot be specified in combination with resourceAttributes";
        errors.push(FieldError::invalid(&path.child("nonResourceAttributes"), other, words));
    }
    if resource.is_null() && other.is_null() {
        let words = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid(&path.child("resourceAttributes"), BadValue::null(), words));
    }
    let empty = |name: &str| spec[name].is_zero();
    if review != Review::OfSelf && empty("user") && empty("groups") {
        let words = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path.child("user"), "", words));
    }
    let attributes = Path::new("spec.resourceAttributes");
    for name in ["fieldSelector", "labelSelector"] {
        check_selector(&resource[name], &attributes.child(name), name == "labelSelector", &mut errors);
    }
    check_metadata(object, review, &mut errors);
    if review == Review::Local {
        let namespace = resource.str_at("namespace").unwrap_or_default();
        if !resource.is_null() && namespace != meta::namespace(object) {
            let path = Path::new("spec.resourceAttributes.namespace");
            errors.push(FieldError::invalid(&path, namespace, "must match metadata.namespace"));
        }
        if !other.is_null() {
            let path = Path::new("spec.nonResourceAttributes");
            errors.push(FieldError::invalid(&path, other, "disallowed on this kind of request"));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(&served.resource.group, "", "", &errors)) }
}

/// A review has no name, labels and the like.
fn check_metadata(object: &Value, review: Review, errors: &mut Vec<FieldError>) {
    let allowed = |key: &str| key == "managedFields" || (review == Review::Local && key == "namespace");
    let metadata = &object["metadata"];
    if metadata.entries().iter().any(|(key, value)| !allowed(key) && !value.is_zero()) {
        let words =
            if review == Review::Local { "must be empty except for namespace" } else { "must be empty" };
        errors.push(FieldError::invalid(&Path::new("metadata"), metadata, words));
    }
}

/// A selector of a review; operators that nobody knows are allowed, since clients may be newer than this server.
fn check_selector(selector: &Value, path: &Path<'_>, labels: bool, errors: &mut Vec<FieldError>) {
    if selector.is_null() {
        return;
    }
    let raw = selector.str_at("rawSelector").unwrap_or_default();
    let requirements = selector.items_at("requirements");
    if !raw.is_empty() && !requirements.is_empty() {
        let words = "may not specified at the same time as requirements";
        errors.push(FieldError::invalid(&path.child("rawSelector"), raw, words));
    }
    let list = path.child("requirements");
    if raw.is_empty() && requirements.is_empty() {
        let words = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(&list, words));
    }
    for (index, requirement) in requirements.iter().enumerate() {
        let path = list.index(index);
        let key = requirement.str_at("key").unwrap_or_default();
        if labels {
            let wrong = rules::names::qualified_name(key);
            errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&path.child("key"), key, why)));
        } else if key.is_empty() {
            errors.push(FieldError::required(&path.child("key"), "must be specified"));
        }
        let valued = !requirement.items_at("values").is_empty();
        match requirement.str_at("operator").unwrap_or_default() {
            "In" | "NotIn" if !valued => {
                let words = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(&path.child("values"), words));
            }
            "Exists" | "DoesNotExist" if valued => {
                let words = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(&path.child("values"), words));
            }
            _ => {}
        }
    }
}

async fn access_review(call: &Call<'_>, spec: &Value, user: UserInfo) -> Value {
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let from = |value: &Value, name: &str| value.str_at(name).unwrap_or_default().to_owned();
    let attributes = if resource.is_null() {
        Attributes { user, verb: from(other, "verb"), path: from(other, "path"), ..Attributes::default() }
    } else {
        let version = from(resource, "version");
        Attributes {
            user,
            verb: from(resource, "verb"),
            is_resource: true,
            api_group: from(resource, "group"),
            api_version: if version.is_empty() { "*".to_owned() } else { version },
            namespace: from(resource, "namespace"),
            resource: from(resource, "resource"),
            subresource: from(resource, "subresource"),
            name: from(resource, "name"),
            field_selector: text_of(&resource["fieldSelector"]),
            label_selector: text_of(&resource["labelSelector"]),
            ..Attributes::default()
        }
    };
    let decision = call.core.authorizer.authorize(&attributes).await;
    let mut status = value!({"allowed": (decision.is_allowed())});
    if let Decision::Deny(_) = decision {
        status.insert("denied", true);
    }
    if !decision.reason().is_empty() {
        status.insert("reason", decision.reason());
    }
    status
}

async fn rules_review(call: &Call<'_>, object: &Value) -> ApiResult<Value> {
    let namespace = object.str_at("spec.namespace").unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let rules = call.core.authorizer.rules_for(call.user, namespace).await;
    let mut status = value!({
        "resourceRules": (Value::List(rules.resource_rules)),
        "nonResourceRules": (Value::List(rules.non_resource_rules)),
        "incomplete": (rules.incomplete)
    });
    if !rules.evaluation_error.is_empty() {
        status.insert("evaluationError", rules.evaluation_error);
    }
    Ok(status)
}

/// The deprecated ComponentStatus: the store, which is all that this server knows of.
fn component_statuses(call: &Call<'_>, served: &Served, accept: Accept) -> ApiResult<Response<Body>> {
    let health = call.core.registry.store.health();
    let condition = match &health {
        Ok(()) => value!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(error) => value!({"type": "Healthy", "status": "False", "message": (error.to_string())}),
    };
    let object = value!({
        "kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": "etcd-0"},
        "conditions": [(condition)]
    });
    match call.info.verb {
        "list" => super::list::of_objects(call, served, accept, Value::map(), vec![object]),
        _ if call.info.name == "etcd-0" => render::object(call, served, accept, 200, object),
        _ => Err(ApiError::not_found(served.group_resource(), &call.info.name)),
    }
}
