//! The address families of a service (`initIPFamilyFields`).

use std::net::IpAddr;

use rules::{BadValue, FieldError, Path};
use schema::Value;

use crate::registry::meta;
use crate::status::{ApiError, ApiResult};

const NONE: &str = "None";

fn family_of(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn other(family: &str) -> String {
    if family == "IPv4" { "IPv6" } else { "IPv4" }.to_owned()
}

/// Fills `ipFamilyPolicy` and `ipFamilies`, and gives the latter. `given` are the cluster addresses that were asked
/// for, `available` the cluster's families, its default first.
pub fn fill(service: &mut Value, given: &[String], available: &[&'static str]) -> ApiResult<Vec<String>> {
    let mut errors = Vec::new();
    let families = service.items_at("spec.ipFamilies").iter().filter_map(Value::as_str);
    let mut families: Vec<String> = families.map(str::to_owned).collect();
    let asked = families.len();
    for (i, ip) in given.iter().enumerate().skip(asked) {
        let Ok(ip) = ip.parse::<IpAddr>() else { break };
        let family = family_of(ip);
        if available.contains(&family) {
            families.push(family.to_owned());
        } else {
            let quoted: Vec<String> = given.iter().map(|g| rules::quote(g)).collect();
            let shown = BadValue::raw(format!("[{}]", quoted.join(",")));
            let words = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(&Path::new("spec.clusterIPs").index(i), shown, words));
        }
    }
    refuse(service, &errors)?;
    let headless = given.first().is_some_and(|ip| ip == NONE);
    let open = headless && service["spec"]["selector"].is_zero();
    let policy = match service.str_at("spec.ipFamilyPolicy").unwrap_or_default() {
        "" if families.len() > 1 || (open && families.is_empty()) => "RequireDualStack",
        "" => "SingleStack",
        policy => policy,
    }
    .to_owned();
    service.set("spec.ipFamilyPolicy", policy.as_str());
    if !open {
        check_configured(service, &families, &policy, available)?;
    }
    if families.is_empty() {
        families.push(available.first().copied().unwrap_or("IPv4").to_owned());
    }
    // Whose endpoints are not ours to choose may have both, whatever the cluster has.
    if families.len() == 1 && policy != "SingleStack" && (open || available.len() > 1) {
        families.push(other(&families[0]));
    }
    service.set("spec.ipFamilies", families.clone());
    Ok(families)
}

fn check_configured(
    service: &Value,
    families: &[String],
    policy: &str,
    available: &[&'static str],
) -> ApiResult<()> {
    let mut errors = Vec::new();
    for (i, family) in families.iter().enumerate() {
        let known = matches!(family.as_str(), "IPv4" | "IPv6");
        if known && !available.contains(&family.as_str()) {
            let path = Path::new("spec.ipFamilies");
            errors.push(FieldError::invalid(
                &path.index(i),
                family.as_str(),
                "not configured on this cluster",
            ));
        }
    }
    if policy == "RequireDualStack" && available.len() < 2 {
        let words = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(&Path::new("spec.ipFamilyPolicy"), policy, words));
    }
    refuse(service, &errors)
}

fn refuse(service: &Value, errors: &[FieldError]) -> ApiResult<()> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid("", "Service", meta::name(service), errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    fn filled(spec: Value, given: &[&str], available: &[&'static str]) -> String {
        let mut service = value!({"metadata": {"name": "s"}, "spec": (spec)});
        let given: Vec<String> = given.iter().map(|ip| (*ip).to_owned()).collect();
        match fill(&mut service, &given, available) {
            Ok(families) => {
                format!("{} {}", service.str_at("spec.ipFamilyPolicy").unwrap(), families.join(","))
            }
            Err(error) => error.message,
        }
    }

    #[test]
    fn policies_and_families() {
        let (one, two): (&[&str], &[&str]) = (&["IPv4"], &["IPv6", "IPv4"]);
        let selecting = |policy: &str| value!({"selector": {"a": "b"}, "ipFamilyPolicy": (policy)});
        assert_eq!(filled(selecting(""), &[], one), "SingleStack IPv4");
        assert_eq!(filled(selecting("PreferDualStack"), &[], one), "PreferDualStack IPv4");
        assert_eq!(filled(selecting("PreferDualStack"), &[], two), "PreferDualStack IPv6,IPv4");
        assert_eq!(filled(selecting("RequireDualStack"), &["10.0.0.1"], two), "RequireDualStack IPv4,IPv6");
        assert!(
            filled(selecting("RequireDualStack"), &[], one)
                .ends_with("this cluster is not configured for dual-stack services")
        );
        assert!(filled(selecting(""), &["fd00::1"], one).ends_with("IPv6 is not configured on this cluster"));
        assert!(
            filled(value!({"ipFamilies": ["IPv6"]}), &[], one).ends_with("not configured on this cluster")
        );
        assert_eq!(filled(value!({}), &["None"], one), "RequireDualStack IPv4,IPv6");
        assert_eq!(filled(value!({"ipFamilyPolicy": "SingleStack"}), &["None"], one), "SingleStack IPv4");
    }
}
