//! Taking a request's path apart (`apiserver/pkg/endpoints/request.RequestInfo`).

use http::Method;

use super::Query;

/// What a request is for. For paths that name no resource only `verb` and `path` are set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// True below `/api/VERSION/` and `/apis/GROUP/VERSION/`.
    pub is_resource: bool,
    /// The whole path.
    pub path: String,
    /// Kubernetes verb; for other paths the HTTP method in lower case.
    pub verb: &'static str,
    /// Empty for core.
    pub group: String,
    /// E.g. `v1`.
    pub version: String,
    /// Empty at cluster scope.
    pub namespace: String,
    /// Plural.
    pub resource: String,
    /// Empty for the resource itself.
    pub subresource: String,
    /// Empty for collections.
    pub name: String,
    /// Everything after resource, name and subresource, for proxies, without leading slash.
    pub rest: String,
    /// The deprecated `/watch/` form was used.
    pub watch_path: bool,
}

/// Subresources of namespaces, which are not resources within one.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Takes `path` (percent-decoded per segment) and the query apart.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self { path: path.to_owned(), verb: method_verb(method), ..Self::default() };
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decode_segment).collect();
        let mut rest: &[String] = match parts.first().map(String::as_str) {
            Some("api") if parts.len() >= 3 => &parts[1..],
            Some("apis") if parts.len() >= 4 => {
                info.group.clone_from(&parts[1]);
                &parts[2..]
            }
            _ => return info,
        };
        info.is_resource = true;
        info.version.clone_from(&rest[0]);
        rest = &rest[1..];
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        if rest.len() > 1 && rest[0] == "watch" {
            info.verb = "watch";
            info.watch_path = true;
            rest = &rest[1..];
        }
        if rest[0] == "namespaces" && rest.len() > 1 {
            info.namespace.clone_from(&rest[1]);
            let inner = rest.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&rest[2].as_str());
            if inner {
                rest = &rest[2..];
            }
        }
        info.take_resource(rest);
        info.refine_verb(query);
        info
    }

    fn take_resource(&mut self, parts: &[String]) {
        let mut parts = parts.iter();
        self.resource = parts.next().cloned().unwrap_or_default();
        self.name = parts.next().cloned().unwrap_or_default();
        self.subresource = parts.next().cloned().unwrap_or_default();
        self.rest = parts.map(String::as_str).collect::<Vec<_>>().join("/");
        if self.resource == "namespaces" && !self.name.is_empty() {
            self.namespace.clone_from(&self.name);
        }
    }

    fn refine_verb(&mut self, query: &Query) {
        if self.name.is_empty() && self.verb == "get" {
            self.verb = if query.flag("watch") { "watch" } else { "list" };
        }
        // A collection watched by one name is authorized as that object.
        if matches!(self.verb, "list" | "watch")
            && self.name.is_empty()
            && let Some(name) = query.get("fieldSelector").and_then(single_name)
        {
            self.name = name;
        }
        if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection";
        }
    }

    /// True for verbs that change nothing.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch" | "head" | "options" | "")
    }

    /// Requests that may last as long as they like and take no slot of flow control.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || (self.is_resource
                && matches!(
                    (self.subresource.as_str(), self.verb),
                    ("exec" | "attach" | "portforward" | "proxy" | "log", _)
                ))
    }
}

/// The name in `metadata.name=NAME`, if the selector says so much and the name is well-formed.
fn single_name(selector: &str) -> Option<String> {
    let wanted = selector.split(',').find_map(|part| {
        let (key, value) = part.split_once("==").or_else(|| part.split_once('='))?;
        (key.trim() == "metadata.name" && !value.is_empty()).then(|| value.to_owned())
    })?;
    (!wanted.contains(['/', '%']) && wanted != "." && wanted != "..").then_some(wanted)
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        Method::CONNECT => "connect",
        _ => "",
    }
}

fn decode_segment(segment: &str) -> String {
    super::percent_decode(segment, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, uri: &str, expect: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let i = RequestInfo::parse(&method, path, &Query::parse(query));
        let got = format!(
            "{} {} {}/{} ns={} {} name={} sub={} rest={}",
            i.is_resource, i.verb, i.group, i.version, i.namespace, i.resource, i.name, i.subresource, i.rest
        );
        assert_eq!(got, expect, "{uri}");
    }

    #[test]
    fn paths_are_taken_apart() {
        check(Method::GET, "/api/v1/namespaces/a/pods/b", "true get /v1 ns=a pods name=b sub= rest=");
        check(Method::GET, "/api/v1/namespaces", "true list /v1 ns= namespaces name= sub= rest=");
        check(
            Method::PUT,
            "/api/v1/namespaces/a/finalize",
            "true update /v1 ns=a namespaces name=a sub=finalize rest=",
        );
        check(Method::GET, "/api/v1/namespaces/a", "true get /v1 ns=a namespaces name=a sub= rest=");
        check(
            Method::GET,
            "/apis/apps/v1/deployments?watch=1",
            "true watch apps/v1 ns= deployments name= sub= rest=",
        );
        check(
            Method::DELETE,
            "/apis/apps/v1/namespaces/x/deployments",
            "true deletecollection apps/v1 ns=x deployments name= sub= rest=",
        );
        check(
            Method::GET,
            "/api/v1/namespaces/x/pods/p/proxy/a/b",
            "true get /v1 ns=x pods name=p sub=proxy rest=a/b",
        );
        check(
            Method::GET,
            "/api/v1/pods?fieldSelector=metadata.name%3Dx",
            "true list /v1 ns= pods name=x sub= rest=",
        );
        check(Method::GET, "/apis/apps/v1", "false get / ns=  name= sub= rest=");
        check(Method::POST, "/healthz", "false post / ns=  name= sub= rest=");
    }
}
