//! Which kernel parameters pods may set (upstream `sysctl.patternAllowlist`).

use k8s_openapi::api::core::v1::Pod;

use super::admission::rejected;
use super::spec;
use crate::status::Ending;

/// Those that touch their own namespaces alone and whose cost is the pod's (upstream `SafeSysctlAllowlist`).
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Takes the pod if all its parameters are safe or match `also_allowed`: names, or prefixes with `*`.
pub fn admit(pod: &Pod, also_allowed: &[String]) -> Result<(), Ending> {
    let allowed = |name: &str| {
        SAFE.contains(&name)
            || also_allowed.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == pattern,
            })
    };
    let mut sysctls = spec::spec(pod).security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    match sysctls.find(|s| !allowed(&s.name.replace('/', "."))) {
        Some(refused) => {
            Err(rejected("SysctlForbidden", format!("forbidden sysctl: {:?} not allowlisted", refused.name)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_safe_must_be_allowed() {
        let allowed = ["kernel.msg*".to_owned(), "net.core.somaxconn".to_owned()];
        for (name, safe, fine) in [
            ("kernel.shm_rmid_forced", true, true),
            ("net/ipv4/tcp_rmem", true, true),
            ("kernel.msgmax", false, true),
            ("net.core.somaxconn", false, true),
            ("net.core.somaxconn2", false, false),
        ] {
            let spec =
                json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(admit(&pod, &[]).is_ok(), safe, "{name}");
            assert_eq!(admit(&pod, &allowed).is_ok(), fine, "{name}");
            if let Err(ending) = admit(&pod, &[]) {
                assert_eq!(ending.reason, "SysctlForbidden");
            }
        }
    }
}
