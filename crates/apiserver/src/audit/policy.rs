//! `audit.k8s.io/v1` Policy: the first rule that fits a request decides how much of it is kept.

use std::path::Path;

use base::UserInfo;
use schema::Value;

use crate::Error;
use crate::request::RequestInfo;

/// How much of a request is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, what, when.
    Metadata,
    /// And the request's body.
    Request,
    /// And the answer's.
    RequestResponse,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "None" => Self::None,
            "Metadata" => Self::Metadata,
            "Request" => Self::Request,
            "RequestResponse" => Self::RequestResponse,
            _ => return None,
        })
    }

    /// As in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When in a request's life an event is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before anything is done.
    RequestReceived,
    /// The answer's head is out, its body goes on (watches).
    ResponseStarted,
    /// All is answered.
    ResponseComplete,
    /// Serving it failed badly.
    Panic,
}

impl Stage {
    fn parse(text: &str) -> Option<Self> {
        [Self::RequestReceived, Self::ResponseStarted, Self::ResponseComplete, Self::Panic]
            .into_iter()
            .find(|stage| stage.name() == text)
    }

    /// As in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// What a policy says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// How much.
    pub level: Level,
    /// Stages without an event.
    pub omit_stages: Vec<Stage>,
    /// Bodies are kept without managed fields.
    pub omit_managed_fields: bool,
}

/// A policy.
#[derive(Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    decision: Decision,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    paths: Vec<String>,
}

#[derive(Debug)]
struct Resources {
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
}

impl Policy {
    /// Reads a policy file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|reason| Error::Config { path: path.to_owned(), reason })
    }

    /// The policy in a YAML or JSON document.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let policy = codec::yaml::parse(text).map_err(|e| e.to_string())?;
        if policy.str_at("apiVersion") != Some("audit.k8s.io/v1") || policy.str_at("kind") != Some("Policy") {
            return Err("not a Policy of audit.k8s.io/v1".to_owned());
        }
        let rules = policy.items_at("rules");
        if rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        let stages = stages(&policy, "omitStages")?;
        let managed = policy.bool_at("omitManagedFields") == Some(true);
        let rule = |(i, rule)| Rule::parse(rule, &stages, managed).map_err(|e| format!("rules[{i}]: {e}"));
        Ok(Self { rules: rules.iter().enumerate().map(rule).collect::<Result<_, _>>()? })
    }

    /// What of a request is kept.
    pub fn decide(&self, user: Option<&UserInfo>, info: &RequestInfo) -> Decision {
        match self.rules.iter().find(|rule| rule.fits(user, info)) {
            Some(rule) => rule.decision.clone(),
            None => Decision { level: Level::None, omit_stages: Vec::new(), omit_managed_fields: false },
        }
    }
}

fn strings(value: &Value, list: &str) -> Vec<String> {
    value.items_at(list).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn stages(value: &Value, list: &str) -> Result<Vec<Stage>, String> {
    let parse = |text: &String| Stage::parse(text).ok_or_else(|| format!("{list}: invalid stage {text:?}"));
    strings(value, list).iter().map(parse).collect()
}

impl Rule {
    fn parse(rule: &Value, stages_of_all: &[Stage], managed: bool) -> Result<Self, String> {
        let level = rule.str_at("level").unwrap_or_default();
        let level = Level::parse(level).ok_or_else(|| format!("level: unsupported value {level:?}"))?;
        let mut omit_stages = stages(rule, "omitStages")?;
        omit_stages.extend_from_slice(stages_of_all);
        let resources: Vec<Resources> = rule
            .items_at("resources")
            .iter()
            .map(|r| Resources {
                group: r.str_at("group").unwrap_or_default().to_owned(),
                resources: strings(r, "resources"),
                names: strings(r, "resourceNames"),
            })
            .collect();
        let namespaces = strings(rule, "namespaces");
        let paths = strings(rule, "nonResourceURLs");
        let of_resources = !resources.is_empty() || !namespaces.is_empty();
        if of_resources && !paths.is_empty() {
            return Err(
                "nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs".into(),
            );
        }
        let wrong =
            |p: &&String| p.as_str() != "*" && (!p.starts_with('/') || p[..p.len() - 1].contains('*'));
        if let Some(path) = paths.iter().find(wrong) {
            return Err(format!("nonResourceURLs: {path:?} is neither a path, a prefix with * nor *"));
        }
        let omit_managed_fields = rule.bool_at("omitManagedFields").unwrap_or(managed);
        Ok(Self {
            decision: Decision { level, omit_stages, omit_managed_fields },
            users: strings(rule, "users"),
            groups: strings(rule, "userGroups"),
            verbs: strings(rule, "verbs"),
            resources,
            namespaces,
            paths,
        })
    }

    fn fits(&self, user: Option<&UserInfo>, info: &RequestInfo) -> bool {
        let has = |list: &[String], text: &str| list.iter().any(|item| item == text);
        if !self.users.is_empty() && !user.is_some_and(|u| has(&self.users, &u.name)) {
            return false;
        }
        if !self.groups.is_empty() && !user.is_some_and(|u| u.groups.iter().any(|g| has(&self.groups, g))) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, info.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource
                && (self.namespaces.is_empty() || has(&self.namespaces, &info.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|r| r.fit(info)));
        }
        self.paths.is_empty() || (!info.is_resource && self.paths.iter().any(|p| path_fits(p, &info.path)))
    }
}

fn path_fits(rule: &str, path: &str) -> bool {
    rule == path || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

impl Resources {
    fn fit(&self, info: &RequestInfo) -> bool {
        if self.group != info.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.names.is_empty() && !self.names.contains(&info.name) {
            return false;
        }
        self.resources.iter().any(|wanted| match wanted.split_once('/') {
            _ if wanted == "*" => true,
            None => info.subresource.is_empty() && *wanted == info.resource,
            Some((resource, subresource)) => {
                let of_resource = resource == "*" || resource == info.resource;
                let of_subresource = match subresource {
                    "*" => resource != "*",
                    other => !info.subresource.is_empty() && other == info.subresource,
                };
                of_resource && of_subresource
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ['system:kube-proxy'], verbs: [watch]}
- {level: None, nonResourceURLs: ['/healthz*']}
- {level: Metadata, resources: [{group: '', resources: [secrets, 'pods/log']}]}
- {level: Request, namespaces: [kube-system], omitStages: [Panic]}
- {level: RequestResponse, userGroups: [dev], resources: [{group: apps, resources: ['deployments/*']}]}
- {level: Metadata, resources: [{group: batch}]}
";

    fn check(user: &str, method: http::Method, path: &str, expect: &str) {
        let policy = Policy::parse(POLICY.as_bytes()).unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let info = RequestInfo::parse(&method, path, &crate::request::Query::parse(query));
        let user = UserInfo { name: user.to_owned(), groups: vec!["dev".to_owned()], ..UserInfo::default() };
        assert_eq!(policy.decide(Some(&user), &info).level.name(), expect, "{path}");
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        use http::Method;
        check("system:kube-proxy", Method::GET, "/api/v1/services?watch=1", "None");
        check("x", Method::GET, "/healthz/ping", "None");
        check("x", Method::GET, "/api/v1/namespaces/a/secrets/s", "Metadata");
        check("x", Method::GET, "/api/v1/namespaces/a/pods/p/log", "Metadata");
        check("x", Method::GET, "/api/v1/namespaces/a/pods/p", "None");
        check("x", Method::GET, "/api/v1/namespaces/kube-system/pods/p", "Request");
        check("x", Method::GET, "/apis/apps/v1/namespaces/a/deployments/d", "RequestResponse");
        check("x", Method::PUT, "/apis/apps/v1/namespaces/a/deployments/d/scale", "RequestResponse");
        check("x", Method::GET, "/apis/batch/v1/jobs", "Metadata");
    }

    #[test]
    fn wrong_policies_are_refused() {
        for (text, why) in [
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []", "0 rules"),
            ("apiVersion: v1\nkind: Policy", "not a Policy"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Loud}]", "rules[0]: level"),
            (
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: ['/a*b']}]",
                "rules[0]: nonResourceURLs",
            ),
        ] {
            let error = Policy::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
