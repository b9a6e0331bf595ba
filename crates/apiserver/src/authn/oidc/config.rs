//! `apiserver.config.k8s.io` AuthenticationConfiguration, and the flags that say less.

use cel::Type;
use schema::Value;

use super::claims::{Check, Mapping, Rule, Source, over_claims, over_user};
use super::keys::{ALGORITHMS, KeySet};
use super::{Issuer, trust};
use crate::authn::Anonymous;
use crate::options::OidcOptions;
use crate::outbound::Endpoint;

/// Issuers at most (`jwt`).
const MAX_ISSUERS: usize = 64;

/// A configuration file.
pub struct File {
    /// Its issuers.
    pub issuers: Vec<Issuer>,
    /// Its section `anonymous`: `None` without one, `Some(None)` when it is off.
    pub anonymous: Option<Option<Anonymous>>,
}

/// The issuer of the flags.
pub fn from_flags(flags: &OidcOptions, own_issuers: &[String]) -> Result<Issuer, String> {
    if let Some(wrong) = flags.signing_algs.iter().find(|alg| !ALGORITHMS.contains(&alg.as_str())) {
        return Err(format!("oidc-signing-algs: {wrong} is not implemented"));
    }
    let authority = match &flags.ca_file {
        Some(file) => Some(std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?),
        None => None,
    };
    let prefix = match flags.username_prefix.as_deref() {
        Some("-") => String::new(),
        Some(prefix) => prefix.to_owned(),
        None if flags.username_claim == "email" => String::new(),
        None => format!("{}#", flags.issuer_url),
    };
    let groups = Source::Claim { name: flags.groups_claim.clone(), prefix: flags.groups_prefix.clone() };
    let claim_rules = flags.required_claims.iter().map(|(name, value)| Rule {
        check: Check::Claim(name.clone(), value.clone()),
        message: String::new(),
    });
    let mapping = Mapping {
        username: Source::Claim { name: flags.username_claim.clone(), prefix },
        groups: (!flags.groups_claim.is_empty()).then_some(groups),
        uid: None,
        extra: Vec::new(),
        claim_rules: claim_rules.collect(),
        user_rules: Vec::new(),
    };
    issuer(&flags.issuer_url, "", authority, own_issuers).map(|keys| Issuer {
        url: flags.issuer_url.clone(),
        audiences: vec![flags.client_id.clone()],
        algorithms: flags.signing_algs.clone(),
        keys,
        mapping,
    })
}

fn issuer(
    url: &str,
    discovery: &str,
    authority: Option<Vec<u8>>,
    own_issuers: &[String],
) -> Result<KeySet, String> {
    if !url.starts_with("https://") {
        return Err(format!("issuer.url: {url:?}: URL scheme must be https"));
    }
    if own_issuers.iter().any(|own| own == url) {
        return Err(format!("issuer.url: {url:?}: URL must not overlap with disallowed issuers"));
    }
    let at = match discovery {
        "" => format!("{}/.well-known/openid-configuration", url.trim_end_matches('/')),
        other => other.to_owned(),
    };
    if !at.starts_with("https://") {
        return Err(format!("issuer.discoveryURL: {at:?}: URL scheme must be https"));
    }
    let endpoint = Endpoint::new(&at, &trust(authority)).map_err(|e| e.to_string())?;
    Ok(KeySet::new(endpoint, url))
}

/// Reads a configuration file.
pub fn parse(text: &[u8], own_issuers: &[String]) -> Result<File, String> {
    let config = codec::yaml::parse(text).map_err(|e| e.to_string())?;
    let version = config.str_at("apiVersion").unwrap_or_default();
    let known = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
    if !known.iter().any(|v| v == version) || config.str_at("kind") != Some("AuthenticationConfiguration") {
        return Err("not an AuthenticationConfiguration of apiserver.config.k8s.io".to_owned());
    }
    if config.items_at("jwt").len() > MAX_ISSUERS {
        return Err(format!("jwt: must have at most {MAX_ISSUERS} items"));
    }
    let mut issuers: Vec<Issuer> = Vec::new();
    for (i, jwt) in config.items_at("jwt").iter().enumerate() {
        let issuer = one(jwt, own_issuers).map_err(|e| format!("jwt[{i}].{e}"))?;
        if issuers.iter().any(|other| other.url == issuer.url) {
            return Err(format!("jwt[{i}].issuer.url: Duplicate value: {:?}", issuer.url));
        }
        issuers.push(issuer);
    }
    Ok(File { issuers, anonymous: anonymous(&config["anonymous"])? })
}

fn anonymous(section: &Value) -> Result<Option<Option<Anonymous>>, String> {
    if section.is_null() {
        return Ok(None);
    }
    let conditions = section.items_at("conditions");
    let paths: Vec<String> = conditions.iter().filter_map(|c| c.str_at("path")).map(str::to_owned).collect();
    if section.bool_at("enabled") != Some(true) {
        let words = "anonymous.conditions: enabled should be set to true when conditions are defined";
        return if paths.is_empty() { Ok(Some(None)) } else { Err(words.to_owned()) };
    }
    Ok(Some(Some(Anonymous { paths })))
}

fn text<'a>(value: &'a Value, at: &str) -> &'a str {
    value.str_at(at).unwrap_or_default()
}

fn one(jwt: &Value, own_issuers: &[String]) -> Result<Issuer, String> {
    let url = text(jwt, "issuer.url").to_owned();
    let audiences: Vec<String> =
        jwt.items_at("issuer.audiences").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        return Err("issuer.audiences: at least one is required".to_owned());
    }
    if audiences.len() > 1 && text(jwt, "issuer.audienceMatchPolicy") != "MatchAny" {
        return Err("issuer.audienceMatchPolicy: must be MatchAny for multiple audiences".to_owned());
    }
    if !matches!(text(jwt, "issuer.egressSelectorType"), "") {
        return Err("issuer.egressSelectorType is not implemented".to_owned());
    }
    let authority =
        Some(text(jwt, "issuer.certificateAuthority").as_bytes().to_vec()).filter(|a| !a.is_empty());
    let keys = issuer(&url, text(jwt, "issuer.discoveryURL"), authority, own_issuers)?;
    let strings = [Type::String, Type::list(Type::String)];
    let mappings = &jwt["claimMappings"];
    let username = source(mappings, "username", &[Type::String], true)?
        .ok_or("claimMappings.username: claim or expression is required")?;
    let mut extra = Vec::new();
    for (i, item) in mappings.items_at("extra").iter().enumerate() {
        let at = format!("claimMappings.extra[{i}]");
        let key = text(item, "key");
        if key.is_empty() || key != key.to_lowercase() || !key.contains('/') {
            return Err(format!("{at}.key: {key:?} is not a lowercase domain-prefixed path"));
        }
        let program = over_claims(text(item, "valueExpression"), &strings);
        extra.push((key.to_owned(), program.map_err(|e| format!("{at}.valueExpression: {e}"))?));
    }
    let mapping = Mapping {
        username,
        groups: source(mappings, "groups", &strings, true)?,
        uid: source(mappings, "uid", &[Type::String], false)?,
        extra,
        claim_rules: rules(jwt, "claimValidationRules", true)?,
        user_rules: rules(jwt, "userValidationRules", false)?,
    };
    let algorithms = ALGORITHMS.map(str::to_owned).to_vec();
    Ok(Issuer { url, audiences, algorithms, keys, mapping })
}

fn source(mappings: &Value, name: &str, expected: &[Type], prefixed: bool) -> Result<Option<Source>, String> {
    let at = format!("claimMappings.{name}");
    let value = &mappings[name];
    let (claim, expression) = (text(value, "claim"), text(value, "expression"));
    match (claim.is_empty(), expression.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Err(format!("{at}: claim and expression can't both be set")),
        (true, false) => {
            let program = over_claims(expression, expected).map_err(|e| format!("{at}.expression: {e}"))?;
            Ok(Some(Source::Expression(program)))
        }
        (false, true) => {
            if prefixed && value.get("prefix").is_none_or(Value::is_null) {
                return Err(format!(
                    "{at}.prefix: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
                ));
            }
            Ok(Some(Source::Claim { name: claim.to_owned(), prefix: text(value, "prefix").to_owned() }))
        }
    }
}

fn rules(jwt: &Value, list: &str, of_claims: bool) -> Result<Vec<Rule>, String> {
    let one = |(i, rule): (usize, &Value)| {
        let expression = text(rule, "expression");
        let message = match text(rule, "message") {
            "" => expression.to_owned(),
            message => message.to_owned(),
        };
        let check = match text(rule, "claim") {
            "" if expression.is_empty() => {
                return Err(format!("{list}[{i}]: claim or expression is required"));
            }
            "" => {
                let program = match of_claims {
                    true => over_claims(expression, &[Type::Bool]),
                    false => over_user(expression),
                };
                Check::Expression(program.map_err(|e| format!("{list}[{i}].expression: {e}"))?)
            }
            claim => Check::Claim(claim.to_owned(), text(rule, "requiredValue").to_owned()),
        };
        Ok(Rule { check, message })
    };
    jwt.items_at(list).iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    const FILE: &str = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous: {enabled: true, conditions: [{path: /livez}]}
jwt:
- issuer: {url: 'https://example.com', audiences: [me]}
  claimValidationRules:
  - {claim: hd, requiredValue: example.com}
  - {expression: 'claims.exp > 5', message: too old}
  claimMappings:
    username: {expression: 'claims.sub + "!"'}
    groups: {claim: roles, prefix: 'oidc:'}
    uid: {claim: sub}
    extra: [{key: example.com/team, valueExpression: 'claims.team'}]
  userValidationRules:
  - {expression: '!user.username.startsWith("system:")', message: reserved}
"#;

    fn user(claims: Value) -> Result<base::UserInfo, String> {
        let file = parse(FILE.as_bytes(), &[]).unwrap();
        assert_eq!(file.anonymous.unwrap().unwrap().paths, ["/livez"]);
        file.issuers[0].mapping.user(&claims)
    }

    #[test]
    fn claims_become_a_user() {
        let found =
            user(value!({"sub": "ann", "hd": "example.com", "exp": 9, "roles": ["a", "b"], "team": "t"}));
        let found = found.unwrap();
        assert_eq!((found.name.as_str(), found.uid.as_str()), ("ann!", "ann"));
        assert_eq!(found.groups, ["oidc:a", "oidc:b"]);
        assert_eq!(found.extra["example.com/team"], ["t"]);
        let refused = |claims| user(claims).unwrap_err();
        assert!(refused(value!({"sub": "ann"})).contains("required claim hd not present"));
        assert!(refused(value!({"sub": "a", "hd": "example.com", "exp": 1})).contains("too old"));
        let reserved = value!({"sub": "system:x", "hd": "example.com", "exp": 9, "team": ""});
        assert!(refused(reserved).contains("reserved"));
    }

    #[test]
    fn wrong_files_are_refused() {
        for (from, to, why) in [
            ("https://example.com", "http://example.com", "URL scheme must be https"),
            ("claims.sub + \"!\"", "claims.sub +", "jwt[0].claimMappings.username.expression"),
            (", prefix: 'oidc:'", "", "prefix is required"),
            ("audiences: [me]", "audiences: []", "issuer.audiences"),
        ] {
            let text = FILE.replace(from, to);
            let error = parse(text.as_bytes(), &[]).err().unwrap_or_default();
            assert!(error.contains(why), "{error}");
        }
        let own = parse(FILE.as_bytes(), &["https://example.com".to_owned()]).err().unwrap();
        assert!(own.contains("disallowed issuers"), "{own}");
    }
}
