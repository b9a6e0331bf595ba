//! Services: cluster addresses and node ports are given out here.

use std::net::IpAddr;
use std::sync::Arc;

use rules::{BadValue, FieldError, Path};
use schema::Value;

use super::{Context, Finish, Generic, Strategy};
use crate::registry::{Registry, Rider, meta};
use crate::service::{self, Addresses, AllocationError, cluster_ips, node_ports};
use crate::status::{ApiError, ApiResult};

/// How long a client's packets go to the same endpoint by default, in seconds.
const AFFINITY_TIMEOUT_S: i64 = 10_800;
const NONE: &str = "None";

/// See the module.
pub struct Services(pub Generic);

impl Strategy for Services {
    fn generic(&self) -> &Generic {
        &self.0
    }

    fn default_fields(&self, service: &mut Value) {
        default_spec(service);
        self.0.default_fields(service);
    }

    fn prepare_for_create(&self, context: &Context<'_>, service: &mut Value) {
        self.0.prepare_for_create(context, service);
        if service["status"].is_null() {
            service.insert("status", schema::value!({"loadBalancer": {}}));
        }
    }

    fn prepare_for_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        if context.subresource.is_empty() {
            drop_dependent_fields(new, old);
        }
        self.0.prepare_for_update(context, new, old);
    }

    fn begin_create(&self, context: &Context<'_>, service: &mut Value) -> ApiResult<Option<Finish>> {
        let taking = Taking::new(context);
        taking.addresses(service, &Value::Null)?;
        taking.ports(service, &Value::Null)?;
        Ok(Some(taking.finish(Vec::new())))
    }

    fn begin_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) -> ApiResult<Option<Finish>> {
        if !context.subresource.is_empty() {
            return Ok(None);
        }
        keep_allocated(new, old);
        drop_dependent_fields(new, old);
        let taking = Taking::new(context);
        taking.addresses(new, old)?;
        taking.ports(new, old)?;
        let new_ports = node_ports(new);
        let released_ports = node_ports(old).into_iter().filter(|p| !new_ports.contains(p)).collect();
        Ok(Some(taking.finish(released_ports)))
    }

    /// IPAddress objects come and go with the addresses of the service.
    fn riders(
        &self,
        context: &Context<'_>,
        new: Option<&Value>,
        old: Option<&Value>,
    ) -> ApiResult<Vec<Rider>> {
        let (registry, now) = (context.registry, context.now);
        let has = |service: Option<&Value>| service.map(cluster_ips).unwrap_or_default();
        let (wanted, present) = (has(new), has(old));
        let Some(service) = new.or(old) else { return Ok(Vec::new()) };
        let owner = (meta::namespace(service), meta::name(service));
        let mut riders = Vec::new();
        for ip in wanted.iter().filter(|ip| !present.contains(ip)) {
            riders.extend(service::rider_for(registry, *ip, owner, now)?);
        }
        for ip in present.iter().filter(|ip| !wanted.contains(ip)) {
            riders.extend(service::rider_to_release(registry, *ip, owner)?);
        }
        Ok(riders)
    }

    fn after_delete(&self, context: &Context<'_>, service: &Value) {
        let addresses = &context.registry.addresses;
        node_ports(service).into_iter().for_each(|port| addresses.release_port(port));
    }
}

/// Nothing is given out to a service that asks for what cannot be.
fn check_addresses(service: &Value) -> ApiResult<()> {
    let errors = rules::kinds::service_address_errors(service);
    match errors.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid("", "Service", meta::name(service), &errors)),
    }
}

fn kind_of(service: &Value) -> &str {
    service.str_at("spec.type").filter(|t| !t.is_empty()).unwrap_or("ClusterIP")
}

fn default_spec(service: &mut Value) {
    let kind = kind_of(service).to_owned();
    let Some(spec) = service.get_mut("spec").and_then(Value::as_map_mut) else { return };
    spec.entry("type", || Value::str(&*kind));
    spec.entry("sessionAffinity", || Value::str(NONE));
    if spec.get_str("sessionAffinity") == Some("ClientIP") {
        let client = spec.entry_map("sessionAffinityConfig").entry_map("clientIP");
        client.entry("timeoutSeconds", || AFFINITY_TIMEOUT_S.into());
    }
    if kind != "ExternalName" {
        spec.entry("internalTrafficPolicy", || Value::str("Cluster"));
    }
    let external_ips = spec.get("externalIPs").is_some_and(|v| !v.is_zero());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external_ips) {
        spec.entry("externalTrafficPolicy", || Value::str("Cluster"));
    }
    if kind == "LoadBalancer" {
        spec.entry("allocateLoadBalancerNodePorts", || true.into());
    }
    for port in spec.get_mut("ports").and_then(Value::as_list_mut).into_iter().flatten() {
        let number = port.int_at("port").unwrap_or(0);
        let port = port.make_map();
        port.entry("protocol", || Value::str("TCP"));
        if port.get("targetPort").is_none_or(Value::is_zero) {
            port.insert("targetPort", number);
        }
    }
}

/// Copies what was given before into an update that does not say it (`patchAllocatedValues`).
fn keep_allocated(new: &mut Value, old: &Value) {
    let keeps = |service: &Value| kind_of(service) != "ExternalName";
    if keeps(new) && keeps(old) {
        let clear = |s: &Value, at: &str| s.at(at).is_none_or(Value::is_zero);
        let (no_ip, no_ips) = (clear(new, "spec.clusterIP"), clear(new, "spec.clusterIPs"));
        if no_ip && no_ips {
            for field in ["clusterIP", "clusterIPs"] {
                if let Some(value) = old["spec"].get(field) {
                    new.set(&format!("spec.{field}"), value);
                }
            }
        } else if no_ips {
            normalize_ips(new);
        } else if !no_ip
            && new["spec"]["clusterIP"] != old["spec"]["clusterIP"]
            && new["spec"]["clusterIPs"] == old["spec"]["clusterIPs"]
        {
            new.remove_at("spec.clusterIPs");
            normalize_ips(new);
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if let (true, Some(value)) = (new["spec"].get(field).is_none(), old["spec"].get(field)) {
                new.set(&format!("spec.{field}"), value);
            }
        }
    }
    if wants_ports(new) && has_ports(old) {
        keep_ports(new, old);
    }
    let health = |s: &Value| s.int_at("spec.healthCheckNodePort").unwrap_or(0);
    if wants_health_port(new) && health(new) == 0 && health(old) != 0 {
        new.set("spec.healthCheckNodePort", health(old));
    }
}

fn keep_ports(new: &mut Value, old: &Value) {
    let protocol = |p: &Value| p.str_at("protocol").unwrap_or("TCP").to_owned();
    let asked: Vec<i64> = new.items_at("spec.ports").iter().filter_map(|p| p.int_at("nodePort")).collect();
    let Some(ports) = new.at_mut("spec.ports").and_then(Value::as_list_mut) else { return };
    for port in ports.iter_mut().filter(|p| p.int_at("nodePort").unwrap_or(0) == 0) {
        let same = |o: &&Value| o["port"] == port["port"] && protocol(o) == protocol(port);
        let before = old.items_at("spec.ports").iter().find(same).and_then(|o| o.int_at("nodePort"));
        if let Some(before) = before.filter(|b| *b != 0 && !asked.contains(b)) {
            port.insert("nodePort", before);
        }
    }
}

fn wants_ports(service: &Value) -> bool {
    match kind_of(service) {
        "NodePort" => true,
        "LoadBalancer" => service.bool_at("spec.allocateLoadBalancerNodePorts") != Some(false),
        _ => false,
    }
}

fn has_ports(service: &Value) -> bool {
    matches!(kind_of(service), "NodePort" | "LoadBalancer")
}

fn wants_health_port(service: &Value) -> bool {
    kind_of(service) == "LoadBalancer" && service.str_at("spec.externalTrafficPolicy") == Some("Local")
}

/// `clusterIP` and `clusterIPs` say the same (`NormalizeClusterIPs`).
fn normalize_ips(service: &mut Value) {
    let ip = service.str_at("spec.clusterIP").unwrap_or_default().to_owned();
    let first = service.items_at("spec.clusterIPs").first().and_then(Value::as_str).map(str::to_owned);
    match (ip.is_empty(), first) {
        (false, None) => {
            service.set("spec.clusterIPs", vec![ip]);
        }
        (true, Some(first)) => {
            service.set("spec.clusterIP", first);
        }
        _ => {}
    }
}

/// After a change of type, drops what the new type does not have and the client left as it was
/// (`dropTypeDependentFields`).
fn drop_dependent_fields(new: &mut Value, old: &Value) {
    let unchanged = |new: &Value, field: &str| new["spec"].get(field) == old["spec"].get(field);
    let (before, now) = (kind_of(old).to_owned(), kind_of(new).to_owned());
    if before != "ExternalName" && now == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if unchanged(new, field) {
                new.remove_at(&format!("spec.{field}"));
            }
        }
    }
    if has_ports(old) && !has_ports(new) {
        let same = new.items_at("spec.ports").iter().all(|p| {
            old.items_at("spec.ports").iter().any(|o| o["nodePort"] == p["nodePort"])
                || p["nodePort"].is_zero()
        });
        if same {
            for port in new.at_mut("spec.ports").and_then(Value::as_list_mut).into_iter().flatten() {
                port.remove("nodePort");
            }
        }
        if unchanged(new, "externalTrafficPolicy") && new["spec"]["externalIPs"].is_zero() {
            new.remove_at("spec.externalTrafficPolicy");
        }
    }
    if wants_health_port(old) && !wants_health_port(new) && unchanged(new, "healthCheckNodePort") {
        new.remove_at("spec.healthCheckNodePort");
    }
    if before == "LoadBalancer" && now != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if unchanged(new, field) {
                new.remove_at(&format!("spec.{field}"));
            }
        }
    }
    if before == "ExternalName" && now != "ExternalName" && unchanged(new, "externalName") {
        new.remove_at("spec.externalName");
    }
    if new.str_at("spec.sessionAffinity") == Some(NONE) && unchanged(new, "sessionAffinityConfig") {
        new.remove_at("spec.sessionAffinityConfig");
    }
}

/// What one write takes; given back if the write fails.
struct Taking<'a> {
    registry: &'a Registry,
    from: Arc<Addresses>,
    taken: std::cell::RefCell<Vec<u16>>,
    dry_run: bool,
}

impl<'a> Taking<'a> {
    fn new(context: &Context<'a>) -> Self {
        let registry = context.registry;
        Self {
            registry,
            from: registry.addresses.clone(),
            taken: Default::default(),
            dry_run: context.dry_run,
        }
    }

    /// Fills families and addresses.
    fn addresses(&self, service: &mut Value, old: &Value) -> ApiResult<()> {
        if kind_of(service) == "ExternalName" {
            return Ok(());
        }
        normalize_ips(service);
        check_addresses(service)?;
        let available = self.from.families();
        let given: Vec<String> =
            service.items_at("spec.clusterIPs").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let wanted = super::service_families::fill(service, &given, &available)?;
        if given.first().is_some_and(|ip| ip == NONE) {
            return Ok(());
        }
        let before = cluster_ips(old);
        let mut ips = Vec::new();
        for (i, family) in wanted.iter().enumerate() {
            let ip = match given.get(i) {
                // What is no address is for validation to say.
                Some(text) => match text.parse::<IpAddr>() {
                    Ok(ip) if before.contains(&ip) => ip,
                    Ok(ip) => self.take_ip(ip, service, &given)?,
                    Err(_) => return Ok(()),
                },
                None => service::pick_ip(self.registry, family)?
                    .map_err(|e| ApiError::internal(format!("failed to allocate a serviceIP: {e}")))?,
            };
            ips.push(ip.to_string());
        }
        if let Some(first) = ips.first() {
            service.set("spec.clusterIP", first.as_str());
            service.set("spec.clusterIPs", ips);
        }
        Ok(())
    }

    fn take_ip(&self, ip: IpAddr, service: &Value, given: &[String]) -> ApiResult<IpAddr> {
        match service::check_ip(self.registry, ip)? {
            Ok(()) => Ok(ip),
            Err(error) => {
                let quoted: Vec<String> = given.iter().map(|g| rules::quote(g)).collect();
                let shown = BadValue::raw(format!("[{}]", quoted.join(",")));
                let path = Path::new("spec.clusterIPs");
                let words = format!("failed to allocate IP {ip}: {error}");
                let error = FieldError::invalid(&path, shown, words);
                Err(ApiError::invalid("", "Service", meta::name(service), &[error]))
            }
        }
    }

    /// Fills node ports.
    fn ports(&self, service: &mut Value, old: &Value) -> ApiResult<()> {
        let before = node_ports(old);
        let name = meta::name(service).to_owned();
        let automatic = wants_ports(service);
        let mut known: Vec<(i64, String, u16)> = Vec::new();
        let mut held: Vec<u16> = Vec::new();
        let mut errors = Vec::new();
        let count = service.items_at("spec.ports").len();
        for i in 0..count {
            let port = &service["spec"]["ports"][i];
            let (number, protocol) =
                (port.int_at("port").unwrap_or(0), port.str_at("protocol").unwrap_or("TCP").to_owned());
            let asked = port.int_at("nodePort").and_then(|p| u16::try_from(p).ok()).unwrap_or(0);
            if !has_ports(service) {
                continue;
            }
            if asked == 0 && !automatic {
                continue;
            }
            // Ports of one number share a node port, whatever their protocol; validation finds the doubles.
            let shared = known.iter().find(|(n, ..)| *n == number).map(|(.., node)| *node);
            let outcome = match (asked, shared) {
                (0, Some(node)) => Ok(node),
                (0, None) => self
                    .from
                    .take_any_port(self.registry.revision().0)
                    .inspect(|p| self.taken.borrow_mut().push(*p)),
                (asked, _) if before.contains(&asked) || held.contains(&asked) => Ok(asked),
                (asked, _) => self
                    .from
                    .take_port(asked, self.registry.revision().0)
                    .map(|()| asked)
                    .inspect(|p| self.taken.borrow_mut().push(*p)),
            };
            match outcome {
                Ok(node) => {
                    known.push((number, protocol, node));
                    held.push(node);
                    if let Some(port) = service.at_mut("spec.ports").and_then(|p| p.as_list_mut()?.get_mut(i))
                    {
                        port.insert("nodePort", i64::from(node));
                    }
                }
                Err(error) => errors.push(port_error(i, asked, &error)),
            }
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid("", "Service", &name, &errors));
        }
        self.health_port(service, &before)
    }

    fn health_port(&self, service: &mut Value, before: &[u16]) -> ApiResult<()> {
        if !wants_health_port(service) {
            return Ok(());
        }
        let asked =
            service.int_at("spec.healthCheckNodePort").and_then(|p| u16::try_from(p).ok()).unwrap_or(0);
        let outcome = match asked {
            0 => self.from.take_any_port(self.registry.revision().0),
            asked if before.contains(&asked) => return Ok(()),
            asked => self.from.take_port(asked, self.registry.revision().0).map(|()| asked),
        };
        match outcome {
            Ok(port) => {
                self.taken.borrow_mut().push(port);
                service.set("spec.healthCheckNodePort", i64::from(port));
                Ok(())
            }
            Err(error) => Err(ApiError::internal(format!(
                "failed to allocate requested HealthCheck NodePort {asked}: {error}"
            ))),
        }
    }

    /// Gives back what was taken if the write fails, and `ports` if it succeeds.
    fn finish(self, ports: Vec<u16>) -> Finish {
        let (from, dry_run) = (self.from.clone(), self.dry_run);
        let taken = self.taken.take();
        Box::new(move |stored| {
            let ports = if stored && !dry_run { ports } else { taken };
            ports.into_iter().for_each(|port| from.release_port(port));
        })
    }
}

/// What was taken goes back when a write fails before it got its `finish`.
impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let ports = self.taken.take();
        ports.into_iter().for_each(|port| self.from.release_port(port));
    }
}

fn port_error(index: usize, asked: u16, error: &AllocationError) -> FieldError {
    let spec = Path::new("spec.ports");
    let port = spec.index(index);
    FieldError::invalid(&port.child("nodePort"), i64::from(asked), error.to_string())
}
