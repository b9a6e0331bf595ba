//! Acting as another user (`Impersonate-*` headers).

use std::collections::BTreeMap;

use base::UserInfo;
use http::HeaderMap;

use crate::authz::{Attributes, Authorizer, forbidden};
use crate::status::{ApiError, ApiResult};

/// The user that the request wants to act as, if `real` may; `None` without impersonation headers.
pub(crate) async fn impersonate(
    headers: &HeaderMap,
    real: &UserInfo,
    authorizer: &dyn Authorizer,
) -> ApiResult<Option<UserInfo>> {
    let Some(mut wanted) = requested(headers)? else { return Ok(None) };
    for attributes in needed_permissions(&wanted, real) {
        let decision = authorizer.authorize(&attributes).await;
        if !decision.is_allowed() {
            return Err(forbidden(&attributes, &decision));
        }
    }
    if wanted.name == "system:anonymous" {
        push_once(&mut wanted.groups, "system:unauthenticated");
    } else {
        if wanted.groups.is_empty()
            && let Some((namespace, _)) = service_account(&wanted.name)
        {
            let namespace = namespace.to_owned();
            push_once(&mut wanted.groups, "system:serviceaccounts");
            push_once(&mut wanted.groups, &format!("system:serviceaccounts:{namespace}"));
        }
        if !wanted.groups.iter().any(|g| g == "system:unauthenticated") {
            push_once(&mut wanted.groups, "system:authenticated");
        }
    }
    Ok(Some(wanted))
}

fn push_once(groups: &mut Vec<String>, group: &str) {
    if !groups.iter().any(|g| g == group) {
        groups.push(group.to_owned());
    }
}

/// Namespace and name in `system:serviceaccount:NAMESPACE:NAME`.
pub(crate) fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?
        .split_once(':')
        .filter(|(ns, n)| !ns.is_empty() && !n.is_empty())
}

fn requested(headers: &HeaderMap) -> ApiResult<Option<UserInfo>> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let name = text("impersonate-user");
    let uid = text("impersonate-uid");
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .map(str::to_owned)
        .collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in headers {
        if let (Some(key), Ok(value)) = (key.as_str().strip_prefix("impersonate-extra-"), value.to_str()) {
            let key = crate::request::percent_decode(key, false);
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    if !name.is_empty() {
        return Ok(Some(UserInfo { name, uid, groups, extra }));
    }
    if groups.is_empty() && uid.is_empty() && extra.is_empty() {
        return Ok(None);
    }
    Err(ApiError::bad_request(format!(
        "requested &user.DefaultInfo{{Name:\"\", UID:{}, Groups:{}, Extra:{}}} without impersonating a user name",
        rules::quote(&uid),
        go_strings(&groups),
        go_extra(&extra)
    )))
}

/// A list of strings as Go's `%#v` prints one.
fn go_strings(items: &[String]) -> String {
    if items.is_empty() {
        return "[]string(nil)".to_owned();
    }
    let quoted: Vec<String> = items.iter().map(|i| rules::quote(i)).collect();
    format!("[]string{{{}}}", quoted.join(", "))
}

fn go_extra(extra: &BTreeMap<String, Vec<String>>) -> String {
    if extra.is_empty() {
        return "map[string][]string(nil)".to_owned();
    }
    let pairs: Vec<String> =
        extra.iter().map(|(k, v)| format!("{}:{}", rules::quote(k), go_strings(v))).collect();
    format!("map[string][]string{{{}}}", pairs.join(", "))
}

/// What `real` must be allowed to `impersonate` to become `wanted`.
fn needed_permissions(wanted: &UserInfo, real: &UserInfo) -> Vec<Attributes> {
    let one = |group: &str, resource: &str, namespace: &str, name: &str, subresource: &str| Attributes {
        user: real.clone(),
        verb: "impersonate".to_owned(),
        api_group: group.to_owned(),
        api_version: "*".to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: name.to_owned(),
        is_resource: true,
        ..Attributes::default()
    };
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let mut needed = vec![match service_account(&wanted.name) {
        Some((namespace, name)) => one("", "serviceaccounts", namespace, name, ""),
        None => one("", "users", "", &wanted.name, ""),
    }];
    needed.extend(wanted.groups.iter().map(|g| one("", "groups", "", g, "")));
    for (key, values) in &wanted.extra {
        needed.extend(values.iter().map(|v| one(AUTHENTICATION, "userextras", "", v, key)));
    }
    if !wanted.uid.is_empty() {
        needed.push(one(AUTHENTICATION, "uids", "", &wanted.uid, ""));
    }
    needed
}
