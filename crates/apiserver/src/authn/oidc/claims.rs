//! From a token's claims to a user: by the names of claims, or by CEL expressions.

use std::collections::BTreeMap;

use base::UserInfo;
use cel::{Bindings, CostBudget, Env, PER_CALL_LIMIT, Program, Type};
use schema::Value;

use crate::api::virtual_kinds::user_value;

/// What all expressions of one token may cost together (upstream's `RuntimeCELCostBudget`).
const BUDGET: u64 = 10 * PER_CALL_LIMIT;

/// Where a text comes from.
pub enum Source {
    /// A claim, and what is put before it.
    Claim {
        /// Its name.
        name: String,
        /// Its prefix.
        prefix: String,
    },
    /// An expression over `claims`.
    Expression(Program),
}

/// A condition on claims or on the user.
pub struct Rule {
    /// What must be true.
    pub check: Check,
    /// What is said otherwise.
    pub message: String,
}

/// A condition.
pub enum Check {
    /// A claim must be that text.
    Claim(String, String),
    /// An expression must be true.
    Expression(Program),
}

/// All of it.
pub struct Mapping {
    /// The user's name.
    pub username: Source,
    /// The groups.
    pub groups: Option<Source>,
    /// The UID.
    pub uid: Option<Source>,
    /// Extra keys with their values.
    pub extra: Vec<(String, Program)>,
    /// Conditions on claims.
    pub claim_rules: Vec<Rule>,
    /// Conditions on the user.
    pub user_rules: Vec<Rule>,
}

/// Compiles an expression over `claims`.
pub fn over_claims(source: &str, expected: &[Type]) -> Result<Program, String> {
    Env::new().variable("claims", Type::Dyn).compile(source, expected).map_err(|e| e.to_string())
}

/// Compiles an expression over `user`.
pub fn over_user(source: &str) -> Result<Program, String> {
    let strings = Type::list(Type::String);
    let user = Type::object(
        "kubernetes.UserInfo",
        [
            ("username", Type::String),
            ("uid", Type::String),
            ("groups", strings.clone()),
            ("extra", Type::map(Type::String, strings)),
        ],
    );
    Env::new().variable("user", user).compile(source, &[Type::Bool]).map_err(|e| e.to_string())
}

impl Mapping {
    /// The user that the claims are of; the error says which condition does not hold.
    pub fn user(&self, claims: &Value) -> Result<UserInfo, String> {
        let mut budget = CostBudget::new(BUDGET);
        let variables = Bindings::new().with("claims", cel::Value::from_json(claims));
        for rule in &self.claim_rules {
            rule.hold(claims, &variables, &mut budget)?;
        }
        let mut run =
            |program: &Program| program.evaluate(&variables, &mut budget).map_err(|e| e.to_string());
        let name = match &self.username {
            Source::Claim { name, prefix } => {
                let text = claims.get(name).and_then(Value::as_str);
                let text =
                    text.ok_or_else(|| format!("parse username claims {name:?}: claim not present"))?;
                if name == "email" && claims.get("email_verified").is_some_and(|v| v.as_bool() != Some(true))
                {
                    return Err("email not verified".to_owned());
                }
                format!("{prefix}{text}")
            }
            Source::Expression(program) => {
                let found = run(program)?;
                found.as_str().ok_or("claimMappings.username.expression: not a string")?.to_owned()
            }
        };
        if name.is_empty() {
            return Err("the username is empty".to_owned());
        }
        let groups = match &self.groups {
            None => Vec::new(),
            Some(Source::Claim { name, prefix }) => {
                let all = texts(claims.get(name)).ok_or_else(|| format!("parse groups claim {name:?}"))?;
                all.into_iter().map(|group| format!("{prefix}{group}")).collect()
            }
            Some(Source::Expression(program)) => {
                cel_texts(&run(program)?).ok_or("claimMappings.groups.expression: not strings")?
            }
        };
        let uid = match &self.uid {
            None => String::new(),
            Some(Source::Claim { name, .. }) => {
                let text = claims.get(name).and_then(Value::as_str);
                text.ok_or_else(|| format!("parse uid claim {name:?}: claim not present"))?.to_owned()
            }
            Some(Source::Expression(program)) => {
                run(program)?.as_str().ok_or("claimMappings.uid.expression: not a string")?.to_owned()
            }
        };
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, program) in &self.extra {
            let values = cel_texts(&run(program)?)
                .ok_or_else(|| format!("claimMappings.extra {key:?}: not strings"))?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        if let Some(id) = claims.str_at("jti").filter(|id| !id.is_empty()) {
            extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("JTI={id}")]);
        }
        let user = UserInfo { name, uid, groups, extra };
        let variables = Bindings::new().with("user", cel::Value::from_json(&whole(&user)));
        for rule in &self.user_rules {
            rule.hold(claims, &variables, &mut budget)?;
        }
        Ok(user)
    }
}

/// The user with every field, as expressions expect it.
fn whole(user: &UserInfo) -> Value {
    let mut value = user_value(user);
    for (name, empty) in [
        ("username", Value::str("")),
        ("uid", Value::str("")),
        ("groups", Value::List(Vec::new())),
        ("extra", Value::map()),
    ] {
        if value.get(name).is_none() {
            value.insert(name, empty);
        }
    }
    value
}

/// A text, texts, or nothing; `None` for anything else. Empty texts are left out.
fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    let all = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::List(all)) => {
            all.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()?
        }
        Some(one) => vec![one.as_str()?.to_owned()],
    };
    Some(all.into_iter().filter(|text| !text.is_empty()).collect())
}

/// The same of an expression's result.
fn cel_texts(value: &cel::Value) -> Option<Vec<String>> {
    let all = match value {
        cel::Value::Null => Vec::new(),
        cel::Value::List(all, _) => {
            all.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()?
        }
        one => vec![one.as_str()?.to_owned()],
    };
    Some(all.into_iter().filter(|text| !text.is_empty()).collect())
}

impl Rule {
    fn hold(&self, claims: &Value, variables: &Bindings, budget: &mut CostBudget) -> Result<(), String> {
        let holds = match &self.check {
            Check::Claim(name, wanted) => {
                let found = claims.get(name).and_then(Value::as_str);
                let found = found.ok_or_else(|| format!("required claim {name} not present in ID token"))?;
                if found != wanted {
                    return Err(format!(
                        "required claim {name} value does not match. Got = {found}, want = {wanted}"
                    ));
                }
                true
            }
            Check::Expression(program) => {
                program.evaluate(variables, budget).map_err(|e| e.to_string())?.as_bool() == Some(true)
            }
        };
        if holds { Ok(()) } else { Err(format!("validation expression failed: {}", self.message)) }
    }
}
