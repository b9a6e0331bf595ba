//! The authorizers of a server, put together from its options or from a structured AuthorizationConfiguration.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base::{TaskScope, UserInfo};
use schema::Value;

use super::abac::Abac;
use super::webhook::{Settings, Webhook};
use super::{
    AlwaysAllow, AlwaysDeny, Attributes, Authorizer, Decision, NodeAuthorizer, PrivilegedGroup, Rbac, Union,
    UserRules,
};
use crate::registry::Registry;
use crate::reload::FileWatch;
use crate::{Error, Options};

/// What decides, and whether RBAC is part of it.
pub struct Authorization {
    /// Decides.
    pub authorizer: Arc<dyn Authorizer>,
    /// Roles count.
    pub rbac: bool,
}

/// What authorizers are made of.
struct Parts {
    rbac: Arc<Rbac>,
    node: Arc<NodeAuthorizer>,
}

/// The authorizers of the options. The file of `--authorization-config` is read again when it changes.
pub fn authorizers(
    options: &Options,
    registry: &Arc<Registry>,
    rbac: &Arc<Rbac>,
    scope: &TaskScope,
) -> Result<Authorization, Error> {
    let parts = Parts { rbac: rbac.clone(), node: Arc::new(NodeAuthorizer::new(registry.clone())) };
    if let Some(path) = options.authorization_config.clone() {
        let (union, rbac) = parts.read(&path)?;
        let swap = Arc::new(Reloaded(ArcSwap::from_pointee(union)));
        let kept = swap.clone();
        let mut watch = FileWatch::new(path.clone());
        scope.spawn(async move {
            loop {
                watch.changed().await;
                match parts.read(&path) {
                    Ok((union, _)) => {
                        kept.0.store(Arc::new(union));
                        tracing::info!(path = %path.display(), "authorization is configured anew");
                    }
                    Err(error) => tracing::error!(%error, "keep the previous authorization configuration"),
                }
            }
        });
        return Ok(Authorization { authorizer: swap, rbac });
    }
    let mut all: Vec<Arc<dyn Authorizer>> = vec![Arc::new(PrivilegedGroup)];
    for mode in &options.authorization_mode {
        all.push(match mode.as_str() {
            "Webhook" => Arc::new(from_flags(options)?),
            "ABAC" => Arc::new(policies(options)?),
            mode => parts.plain(mode).map_err(|reason| Error::Flag { flag: "authorization-mode", reason })?,
        });
    }
    let rbac = options.authorization_mode.iter().any(|mode| mode == "RBAC");
    Ok(Authorization { authorizer: Arc::new(Union::new(all)), rbac })
}

fn policies(options: &Options) -> Result<Abac, Error> {
    let Some(path) = &options.authorization_policy_file else {
        let reason = "authorization-mode ABAC's authorization policy file not passed".to_owned();
        return Err(Error::Flag { flag: "authorization-policy-file", reason });
    };
    Abac::read(path)
}

fn from_flags(options: &Options) -> Result<Webhook, Error> {
    let flag = "authorization-webhook-config-file";
    let Some(flags) = &options.authorization_webhook else {
        let reason = "authorization-mode Webhook's authorization config file not passed".to_owned();
        return Err(Error::Flag { flag, reason });
    };
    Webhook::new(
        &flags.config_file,
        Settings {
            version: flags.version.clone(),
            authorized_ttl: flags.authorized_ttl,
            unauthorized_ttl: flags.unauthorized_ttl,
            ..Settings::default()
        },
    )
}

impl Parts {
    fn plain(&self, mode: &str) -> Result<Arc<dyn Authorizer>, String> {
        Ok(match mode {
            "AlwaysAllow" => Arc::new(AlwaysAllow),
            "AlwaysDeny" => Arc::new(AlwaysDeny),
            "RBAC" => self.rbac.clone(),
            "Node" => self.node.clone(),
            other => return Err(format!("authorization-mode {other:?} is not a valid mode")),
        })
    }

    fn read(&self, path: &Path) -> Result<(Union, bool), Error> {
        let text = std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        self.parse(&text).map_err(|reason| Error::Config { path: path.to_owned(), reason })
    }

    fn parse(&self, text: &[u8]) -> Result<(Union, bool), String> {
        let config = codec::yaml::parse(text).map_err(|e| e.to_string())?;
        let version = config.str_at("apiVersion").unwrap_or_default();
        let known = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
        if !known.iter().any(|v| v == version) || config.str_at("kind") != Some("AuthorizationConfiguration")
        {
            return Err("not an AuthorizationConfiguration of apiserver.config.k8s.io".to_owned());
        }
        if config.items_at("authorizers").is_empty() {
            return Err("authorizers: at least one authorization mode must be defined".to_owned());
        }
        let mut all: Vec<Arc<dyn Authorizer>> = vec![Arc::new(PrivilegedGroup)];
        let mut rbac = false;
        for (i, one) in config.items_at("authorizers").iter().enumerate() {
            let kind = one.str_at("type").unwrap_or_default();
            rbac |= kind == "RBAC";
            all.push(match kind {
                "Webhook" => Arc::new(webhook(one).map_err(|e| format!("authorizers[{i}].{e}"))?),
                kind => self.plain(kind).map_err(|e| format!("authorizers[{i}].type: {e}"))?,
            });
        }
        Ok((Union::new(all), rbac))
    }
}

fn webhook(one: &Value) -> Result<Webhook, String> {
    let hook = &one["webhook"];
    let text = |at: &str| hook.str_at(at).unwrap_or_default();
    if one.str_at("name").unwrap_or_default().is_empty() {
        return Err("name: Required value".to_owned());
    }
    let time = |at: &str| -> Result<Option<Duration>, String> {
        match text(at) {
            "" => Ok(None),
            text => {
                go_duration(text).map(Some).ok_or_else(|| format!("webhook.{at}: invalid duration {text:?}"))
            }
        }
    };
    let deny_on_failure = match text("failurePolicy") {
        "Deny" => true,
        "NoOpinion" => false,
        other => return Err(format!("webhook.failurePolicy: {other:?} is neither NoOpinion nor Deny")),
    };
    if text("connectionInfo.type") != "KubeConfigFile" {
        let kind = text("connectionInfo.type");
        return Err(format!("webhook.connectionInfo.type: {kind:?} is not implemented, only KubeConfigFile"));
    }
    let conditions = hook.items_at("matchConditions").iter();
    let conditions = conditions.map(|c| c.str_at("expression").unwrap_or_default().to_owned()).collect();
    let defaults = Settings::default();
    let settings = Settings {
        version: text("subjectAccessReviewVersion").to_owned(),
        authorized_ttl: time("authorizedTTL")?.unwrap_or(defaults.authorized_ttl),
        unauthorized_ttl: time("unauthorizedTTL")?.unwrap_or(defaults.unauthorized_ttl),
        timeout: time("timeout")?.ok_or("webhook.timeout: Required value")?,
        deny_on_failure,
        conditions,
    };
    Webhook::new(Path::new(text("connectionInfo.kubeConfigFile")), settings)
        .map_err(|e| format!("webhook: {e}"))
}

/// A duration of whole units, as configuration files have them: `5m`, `30s`, `1m30s`, `500ms`.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += match &rest[..unit] {
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        };
        rest = &rest[unit..];
    }
    Some(total)
}

/// Authorizers that may be replaced by others.
struct Reloaded(ArcSwap<Union>);

#[async_trait]
impl Authorizer for Reloaded {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        self.0.load_full().authorize(attributes).await
    }

    async fn rules_for(&self, user: &UserInfo, namespace: &str) -> UserRules {
        self.0.load_full().rules_for(user, namespace).await
    }
}
