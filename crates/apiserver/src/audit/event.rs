//! `audit.k8s.io/v1` Event.

use std::collections::BTreeMap;

use base::UserInfo;
use http::request::Parts;
use jiff::Timestamp;
use schema::{Map, Value, value};

use super::{Level, PeerAddress, Stage};
use crate::api::virtual_kinds::user_value;
use crate::request::RequestInfo;

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// The same for all events of a request.
    pub id: String,
    /// How much of the request is in it.
    pub level: Level,
    /// When in the request's life.
    pub stage: Stage,
    received: Timestamp,
    /// Now.
    pub at: Timestamp,
    uri: String,
    verb: String,
    user: Option<UserInfo>,
    /// As whom.
    pub impersonated: Option<UserInfo>,
    source_ips: Vec<String>,
    user_agent: String,
    object: Option<Value>,
    /// The answer's status as `metav1.Status`.
    pub response_status: Option<Value>,
    /// HTTP status.
    pub code: Option<u16>,
    /// The request's body.
    pub request_object: Option<Value>,
    /// The answer's body.
    pub response_object: Option<Value>,
    /// From authorization and admission.
    pub annotations: BTreeMap<String, String>,
}

impl Event {
    /// The first event of a request.
    pub fn of(parts: &Parts, info: &RequestInfo, user: Option<&UserInfo>, id: &str, level: Level) -> Self {
        let now = Timestamp::now();
        let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        Self {
            id: id.to_owned(),
            level,
            stage: Stage::RequestReceived,
            received: now,
            at: now,
            uri: parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
            verb: info.verb.to_owned(),
            user: user.cloned(),
            impersonated: None,
            source_ips: source_ips(parts),
            user_agent: header("user-agent").chars().take(1024).collect(),
            object: info.is_resource.then(|| object_ref(info)),
            response_status: None,
            code: None,
            request_object: None,
            response_object: None,
            annotations: BTreeMap::new(),
        }
    }

    /// As JSON.
    pub fn to_value(&self) -> Value {
        let mut out = value!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": (self.level.name()),
            "auditID": (self.id.as_str()), "stage": (self.stage.name()), "requestURI": (self.uri.as_str()),
            "verb": (self.verb.as_str()), "user": (self.user.as_ref().map(user_value).unwrap_or_else(Value::map))
        });
        if let Some(user) = &self.impersonated {
            out.insert("impersonatedUser", user_value(user));
        }
        if !self.source_ips.is_empty() {
            out.insert("sourceIPs", self.source_ips.clone());
        }
        if !self.user_agent.is_empty() {
            out.insert("userAgent", self.user_agent.as_str());
        }
        if let Some(object) = &self.object {
            out.insert("objectRef", object.clone());
        }
        if let Some(status) = &self.response_status {
            out.insert("responseStatus", status.clone());
        } else if let Some(code) = self.code {
            out.insert("responseStatus", value!({"metadata": {}, "code": (i64::from(code))}));
        }
        for (name, object) in
            [("requestObject", &self.request_object), ("responseObject", &self.response_object)]
        {
            if let Some(object) = object {
                out.insert(name, object.clone());
            }
        }
        out.insert("requestReceivedTimestamp", micro_time(self.received));
        out.insert("stageTimestamp", micro_time(self.at));
        if !self.annotations.is_empty() {
            let all = self.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            out.insert("annotations", all.collect::<Map>());
        }
        out
    }

    /// One line as of `--audit-log-format=legacy`.
    pub fn to_line(&self) -> String {
        let quote = |text: &str| rules::quote(text);
        let list = |all: &[String]| all.iter().map(|g| quote(g)).collect::<Vec<_>>().join(",");
        let user = self.user.as_ref().map_or("<none>", |u| u.name.as_str());
        let groups = match &self.user {
            Some(user) if !user.groups.is_empty() => list(&user.groups),
            _ => "<none>".to_owned(),
        };
        let (as_user, as_groups) = match &self.impersonated {
            Some(user) if !user.groups.is_empty() => (user.name.as_str(), list(&user.groups)),
            Some(user) => (user.name.as_str(), "<lookup>".to_owned()),
            None => ("<self>", "<lookup>".to_owned()),
        };
        let namespace = self.object.as_ref().and_then(|o| o.str_at("namespace")).unwrap_or("<none>");
        let response = self.code.map_or_else(|| "<deferred>".to_owned(), |code| code.to_string());
        format!(
            "{} AUDIT: id={} stage={} ip={} method={} user={} groups={} as={} asgroups={} user-agent={} \
             namespace={} uri={} response=\"{response}\"",
            self.at,
            quote(&self.id),
            quote(self.stage.name()),
            quote(self.source_ips.first().map_or("<unknown>", String::as_str)),
            quote(&self.verb),
            quote(user),
            quote(&groups),
            quote(as_user),
            quote(&as_groups),
            quote(&self.user_agent),
            quote(namespace),
            quote(&self.uri),
        )
    }

    /// Brings the event below `limit` bytes by leaving out the bodies. False if that is not enough.
    pub fn fit(&mut self, limit: usize) -> bool {
        let size = |event: &Self| codec::json::encode(&event.to_value()).len();
        if size(self) <= limit {
            return true;
        }
        self.request_object = None;
        self.response_object = None;
        self.annotations.insert("audit.k8s.io/truncated".to_owned(), "true".to_owned());
        size(self) <= limit
    }
}

fn micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

fn object_ref(info: &RequestInfo) -> Value {
    let mut out = Value::map();
    for (name, text) in [
        ("resource", &info.resource),
        ("namespace", &info.namespace),
        ("name", &info.name),
        ("apiGroup", &info.group),
        ("apiVersion", &info.version),
        ("subresource", &info.subresource),
    ] {
        if !text.is_empty() {
            out.insert(name, text.as_str());
        }
    }
    out
}

/// Whom proxies named, and who connected.
fn source_ips(parts: &Parts) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in ["x-forwarded-for", "x-real-ip"] {
        let values = parts.headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        let addresses = values.flat_map(|v| v.split(',')).filter_map(|a| a.trim().parse().ok());
        let addresses: Vec<std::net::IpAddr> = addresses.collect();
        if !addresses.is_empty() {
            all.extend(addresses.iter().map(ToString::to_string));
            break;
        }
    }
    if let Some(PeerAddress(peer)) = parts.extensions.get() {
        let peer = peer.ip().to_canonical().to_string();
        if !all.contains(&peer) {
            all.push(peer);
        }
    }
    all
}
