//! Options of requests from their query, checked as upstream checks them.

use http::HeaderMap;
use rules::{BadValue, ErrorKind, FieldError, Path};
use schema::{Value, value};

use crate::request::Query;
use crate::status::{ApiError, ApiResult};

/// Longest name of a field manager, in bytes.
const MAX_FIELD_MANAGER: usize = 128;

/// What happens to unknown and duplicate fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped without a word.
    Ignore,
    /// Dropped with a warning each.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// CreateOptions, UpdateOptions and PatchOptions.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// `dryRun=All`.
    pub dry_run: bool,
    /// The manager as given; empty when not.
    pub field_manager: String,
    /// Who manages the written fields: the manager given, else the user agent's name.
    pub manager: String,
    /// `fieldValidation`.
    pub field_validation: FieldValidation,
    /// `force`, for apply.
    pub force: bool,
}

/// Which options are read, for error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionsKind {
    /// CreateOptions.
    Create,
    /// UpdateOptions.
    Update,
    /// PatchOptions of a patch that is no apply.
    Patch,
    /// PatchOptions of an apply.
    Apply,
}

impl OptionsKind {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Patch | Self::Apply => "PatchOptions",
        }
    }
}

impl WriteOptions {
    /// Reads and checks the query.
    pub fn parse(kind: OptionsKind, query: &Query, headers: &HeaderMap) -> ApiResult<Self> {
        let mut errors = Vec::new();
        let field_manager = query.get("fieldManager").unwrap_or_default().to_owned();
        match kind {
            OptionsKind::Apply if field_manager.is_empty() => {
                errors.push(FieldError::required(&Path::new("fieldManager"), "is required for apply patch"));
            }
            OptionsKind::Patch if query.get("force").is_some() => {
                errors.push(FieldError::forbidden(
                    &Path::new("force"),
                    "may not be specified for non-apply patch",
                ));
            }
            _ => {}
        }
        check_manager(&field_manager, &mut errors);
        let dry_run = check_dry_run(&query.all("dryRun").collect::<Vec<_>>(), &mut errors);
        let field_validation = match query.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let supported = &["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported(&Path::new("fieldValidation"), other, supported));
                FieldValidation::Warn
            }
        };
        invalid(kind.name(), errors)?;
        let manager = match field_manager.is_empty() {
            false => field_manager.clone(),
            true => manager_of_agent(headers),
        };
        Ok(Self { dry_run, field_manager, manager, field_validation, force: query.flag("force") })
    }

    /// Who comes to own what is written.
    pub fn manager(&self) -> &str {
        match (self.manager.as_str(), self.field_manager.as_str()) {
            ("", "") => "unknown",
            ("", given) => given,
            (manager, _) => manager,
        }
    }

    /// The options as admission sees them.
    pub fn to_value(&self, kind: &str) -> Value {
        let mut options = value!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            options.insert("dryRun", vec!["All"]);
        }
        if !self.field_manager.is_empty() {
            options.insert("fieldManager", self.field_manager.as_str());
        }
        match self.field_validation {
            FieldValidation::Warn => None,
            FieldValidation::Ignore => options.insert("fieldValidation", "Ignore"),
            FieldValidation::Strict => options.insert("fieldValidation", "Strict"),
        };
        options
    }
}

/// Checks `dryRun`; true for a dry run.
pub fn check_dry_run(values: &[&str], errors: &mut Vec<FieldError>) -> bool {
    if values.iter().any(|v| *v != "All") {
        let shown: Vec<String> = values.iter().map(|v| rules::quote(v)).collect();
        let shown = BadValue::raw(format!("[{}]", shown.join(",")));
        errors.push(FieldError::new(
            ErrorKind::NotSupported,
            &Path::new("dryRun"),
            shown,
            "supported values: \"All\"",
        ));
    }
    !values.is_empty()
}

fn check_manager(manager: &str, errors: &mut Vec<FieldError>) {
    let path = Path::new("fieldManager");
    if manager.len() > MAX_FIELD_MANAGER {
        errors.push(FieldError::too_long(&path, MAX_FIELD_MANAGER));
    }
    if let Some((at, c)) = manager.chars().enumerate().find(|(_, c)| c.is_control()) {
        errors.push(FieldError::invalid(
            &path,
            manager,
            format!(
                "should only contain printable characters: found {} at index {at}",
                rules::quote(&c.to_string())
            ),
        ));
    }
}

/// The part of the user agent before the first slash, printable characters only.
fn manager_of_agent(headers: &HeaderMap) -> String {
    let agent = headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name: String =
        agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    match name.is_empty() {
        true => "unknown".to_owned(),
        false => name.chars().take(MAX_FIELD_MANAGER).collect(),
    }
}

/// 422 for options of `kind` when there are errors.
pub fn invalid(kind: &str, errors: Vec<FieldError>) -> ApiResult<()> {
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("meta.k8s.io", kind, "", &errors)) }
}

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionMatch {
    /// Exactly that revision.
    Exact,
    /// That revision or a newer one.
    NotOlderThan,
}

/// ListOptions.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// `limit`; zero for none.
    pub limit: usize,
    /// `continue`; empty for none.
    pub continue_token: String,
    /// `resourceVersion` as given.
    pub resource_version: String,
    /// `resourceVersionMatch`.
    pub version_match: Option<VersionMatch>,
    /// `labelSelector`.
    pub labels: Option<String>,
    /// `fieldSelector`.
    pub fields: Option<String>,
    /// `timeoutSeconds`.
    pub timeout_s: Option<u64>,
    /// `allowWatchBookmarks`.
    pub bookmarks: bool,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and checks the query of a list, a deletecollection or (`watch`) a watch.
    pub fn parse(query: &Query, watch: bool) -> ApiResult<Self> {
        let limit = integer(query, "limit")?.unwrap_or(0);
        let timeout = integer(query, "timeoutSeconds")?;
        let mut options = Self {
            limit: usize::try_from(limit).unwrap_or(0),
            continue_token: query.get("continue").unwrap_or_default().to_owned(),
            resource_version: query.get("resourceVersion").unwrap_or_default().to_owned(),
            version_match: None,
            labels: query.get("labelSelector").map(str::to_owned),
            fields: query.get("fieldSelector").map(str::to_owned),
            timeout_s: timeout.and_then(|t| u64::try_from(t).ok()).filter(|t| *t > 0),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents")),
        };
        let wanted = query.get("resourceVersionMatch").unwrap_or_default();
        let errors = if watch { options.check_watch(wanted) } else { options.check_list(wanted) };
        invalid("ListOptions", errors)?;
        options.version_match = match wanted {
            "Exact" => Some(VersionMatch::Exact),
            "NotOlderThan" => Some(VersionMatch::NotOlderThan),
            _ => None,
        };
        Ok(options)
    }

    fn check_list(&self, wanted: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let path = Path::new("resourceVersionMatch");
        let mut forbid = |why: &str| errors.push(FieldError::forbidden(&path, why));
        if !wanted.is_empty() {
            if self.resource_version.is_empty() {
                forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if !self.continue_token.is_empty() {
                forbid("resourceVersionMatch is forbidden when continue is provided");
            }
            if wanted == "Exact" && self.resource_version == "0" {
                forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
            if !matches!(wanted, "Exact" | "NotOlderThan") {
                errors.push(FieldError::not_supported(&path, wanted, &["Exact", "NotOlderThan", ""]));
            }
        }
        if self.send_initial_events.is_some() {
            let path = Path::new("sendInitialEvents");
            errors.push(FieldError::forbidden(&path, "sendInitialEvents is forbidden for list"));
        }
        errors
    }

    fn check_watch(&self, wanted: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let path = Path::new("resourceVersionMatch");
        let mut forbid = |why: &str| errors.push(FieldError::forbidden(&path, why));
        match self.send_initial_events {
            None if !wanted.is_empty() => {
                forbid("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
            }
            Some(_) if wanted != "NotOlderThan" => {
                forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
            }
            Some(_) if !self.continue_token.is_empty() => {
                forbid("resourceVersionMatch is forbidden when continue is provided");
            }
            _ => {}
        }
        errors
    }

    /// The revision in `resourceVersion`; zero when it is unset or `0`.
    pub fn revision(&self) -> ApiResult<u64> {
        parse_revision(&self.resource_version)
    }
}

/// A resourceVersion as a number; empty is zero.
pub fn parse_revision(text: &str) -> ApiResult<u64> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {q}: strconv.ParseUint: parsing {q}: invalid syntax",
            q = rules::quote(text)
        ))
    })
}

fn integer(query: &Query, name: &str) -> ApiResult<Option<i64>> {
    match query.get(name) {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", rules::quote(text)))
        }),
    }
}

/// `DeleteOptions`, from the body or the query.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`.
    pub grace_s: Option<i64>,
    /// `preconditions.uid`.
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<String>,
    /// `propagationPolicy`.
    pub propagation: Option<Propagation>,
    /// `orphanDependents`, the deprecated form.
    pub orphan_dependents: Option<bool>,
    /// `dryRun`.
    pub dry_run: bool,
}

/// What becomes of dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They go after the owner.
    Background,
    /// The owner goes after them.
    Foreground,
}

impl DeleteOptions {
    /// From a decoded `DeleteOptions`; null means none were given.
    pub fn from_value(value: &Value) -> ApiResult<Self> {
        let mut errors = Vec::new();
        let text = |at: &str| value.str_at(at).map(str::to_owned);
        let policy = value.str_at("propagationPolicy");
        let propagation = match policy {
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            _ => None,
        };
        let orphan_dependents = value.bool_at("orphanDependents");
        if policy.is_some() && orphan_dependents.is_some() {
            errors.push(FieldError::invalid(
                &Path::new("propagationPolicy"),
                policy.unwrap_or_default(),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        if let (Some(policy), None) = (policy, propagation) {
            errors.push(FieldError::new(
                ErrorKind::NotSupported,
                &Path::new("propagationPolicy"),
                policy,
                "supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
            ));
        }
        let dry: Vec<&str> = value.items_at("dryRun").iter().filter_map(Value::as_str).collect();
        let dry_run = check_dry_run(&dry, &mut errors);
        invalid("DeleteOptions", errors)?;
        Ok(Self {
            grace_s: value.int_at("gracePeriodSeconds"),
            uid: text("preconditions.uid"),
            resource_version: text("preconditions.resourceVersion"),
            propagation,
            orphan_dependents,
            dry_run,
        })
    }

    /// The query's parameters as a `DeleteOptions` value.
    pub fn value_of_query(query: &Query) -> ApiResult<Value> {
        let mut options = Value::map();
        if let Some(grace) = integer(query, "gracePeriodSeconds")? {
            options.insert("gracePeriodSeconds", grace);
        }
        if query.get("orphanDependents").is_some() {
            options.insert("orphanDependents", query.flag("orphanDependents"));
        }
        if let Some(policy) = query.get("propagationPolicy") {
            options.insert("propagationPolicy", policy);
        }
        let dry: Vec<&str> = query.all("dryRun").collect();
        if !dry.is_empty() {
            options.insert("dryRun", dry);
        }
        Ok(options)
    }
}
