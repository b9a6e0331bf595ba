//! Short names for what the API server answers.

use kube::core::Status;

/// True for an answer that the object is not there.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// True for an answer that an object of this name exists.
pub fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
}

/// True for an answer that the object has changed meanwhile.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason != "AlreadyExists")
}

/// True for an answer that the object breaks a rule.
pub fn is_invalid(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422)
}

/// True if a creation was refused because its namespace is being deleted: the garbage collector will do the rest.
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if has_cause(status, "NamespaceTerminating"))
}

fn has_cause(status: &Status, reason: &str) -> bool {
    status.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == reason))
}

/// The server's message, without what our client adds to it.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Takes "it is gone already" as success.
pub fn ignore_not_found<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Delete options that hold only for the object with this uid.
pub fn delete_uid(uid: Option<&String>) -> kube::api::DeleteParams {
    kube::api::DeleteParams {
        preconditions: uid
            .map(|uid| kube::api::Preconditions { uid: Some(uid.clone()), resource_version: None }),
        ..kube::api::DeleteParams::default()
    }
}
