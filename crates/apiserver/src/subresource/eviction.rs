//! `pods/eviction`: a deletion that heeds disruption budgets.

use std::sync::Arc;

use http::Response;
use schema::{Value, value};

use super::{decode_body, done};
use crate::admission::AdmissionChain;
use crate::api::Call;
use crate::http::Body;
use crate::http::negotiate::Accept;
use crate::registry::options::{DeleteOptions, OptionsKind};
use crate::registry::stored::memo;
use crate::registry::{Served, Update, WriteContext, WriteOptions, meta};
use crate::selectors::LabelSelector;
use crate::status::{ApiError, ApiResult, GroupResource};

/// Pods that a budget remembers as evicted at most (`MaxDisruptedPodSize`).
const MAX_DISRUPTED_PODS: usize = 2000;
const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const CAUSE: &str = "DisruptionBudget";

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let write = WriteOptions::parse(OptionsKind::Create, call.query, &call.parts.headers)?;
    let eviction = decode_body(call, served, &write, body).await?;
    if meta::name(&eviction) != call.info.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let write_value = write.to_value("CreateOptions");
    let eviction = call.write_context(served, &write, &write_value).admit_body(eviction).await?;
    let mut options = DeleteOptions::from_value(&eviction["deleteOptions"])?;
    options.dry_run |= write.dry_run;
    let entry = call.core.registry.get(served, call.namespace(served), &call.info.name, "").await?;
    let pod = memo(&entry).decode(&entry)?;
    if !ignores_budgets(&pod) {
        if let Some(version) = spend(call, &pod, &options).await? {
            options.resource_version = options.resource_version.take().or(Some(version));
        } else if options.uid.is_none() {
            options.uid = Some(meta::uid(&pod).to_owned());
        }
    }
    let options_value = eviction["deleteOptions"].clone();
    let write = WriteOptions { dry_run: options.dry_run, ..write };
    // Admission has seen the eviction; the changes that it comes to are not admitted again.
    let nobody = AdmissionChain::default();
    if !options.dry_run {
        let context = WriteContext {
            subresource: "status",
            admission: &nobody,
            ..call.write_context(served, &write, &options_value)
        };
        let told = tell_disruption(&context, &options).await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(told);
        }
    }
    let context = WriteContext {
        subresource: "",
        admission: &nobody,
        ..call.write_context(served, &write, &options_value)
    };
    context.delete(&options).await?;
    done(accept, 201)
}

/// Writes into the pod's status that it is evicted, so that whoever owns it can tell this end from a failure of its
/// own. Gives the pod's new version.
async fn tell_disruption(context: &WriteContext<'_>, options: &DeleteOptions) -> ApiResult<String> {
    let now = context.registry.now();
    let transform = |live: Option<&Value>| {
        let live = live.ok_or_else(|| context.not_found(context.name))?;
        context.check_preconditions(live, options)?;
        let mut new = live.clone();
        set_disrupted(&mut new, &now);
        Ok(new)
    };
    let update = Update { transform: &transform, fields_tracked: false, force_create: false };
    let updated = context.update(&update).await?;
    Ok(meta::resource_version(&updated.saved.object).to_owned())
}

fn set_disrupted(pod: &mut Value, now: &str) {
    let generation = pod.int_at("metadata.generation").unwrap_or(0);
    let conditions = pod.make_map().entry_map("status").entry_list("conditions");
    let present = conditions.iter().position(|c| c.str_at("type") == Some("DisruptionTarget"));
    let since = present
        .map(|at| &conditions[at])
        .filter(|c| c.str_at("status") == Some("True"))
        .and_then(|c| c.str_at("lastTransitionTime"))
        .unwrap_or(now);
    let condition = value!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "observedGeneration": generation, "lastTransitionTime": since
    });
    match present {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// Pods that are over, or not started, or on their way down, disrupt nothing.
fn ignores_budgets(pod: &Value) -> bool {
    matches!(pod.str_at("status.phase"), Some("Succeeded" | "Failed" | "Pending")) || meta::is_deleting(pod)
}

/// Spends one disruption of the pod's budget, if it has one. `Some`: the pod must be deleted as it is now.
async fn spend(call: &Call<'_>, pod: &Value, options: &DeleteOptions) -> ApiResult<Option<String>> {
    let registry = &call.core.registry;
    let namespace = meta::namespace(pod);
    let mut budgets = Vec::new();
    for budget in registry.find_all("policy", "poddisruptionbudgets", Some(namespace))? {
        let selector = LabelSelector::from_value(&budget["spec"]["selector"]).map_err(ApiError::internal)?;
        if selector.matches_value(&pod["metadata"]["labels"]) {
            budgets.push(budget);
        }
    }
    let budget = match budgets.as_slice() {
        [] => return Ok(None),
        [only] => only,
        _ => {
            return Err(ApiError::internal_plain(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    if is_unready(pod) && unready_may_go(budget) {
        return Ok(Some(meta::resource_version(pod).to_owned()));
    }
    decrement(call, meta::name(budget), pod, options.dry_run).await?;
    Ok(None)
}

fn is_unready(pod: &Value) -> bool {
    let ready = |c: &Value| c.str_at("type") == Some("Ready") && c.str_at("status") == Some("True");
    pod.str_at("status.phase") == Some("Running") && !pod.items_at("status.conditions").iter().any(ready)
}

fn unready_may_go(budget: &Value) -> bool {
    let count = |name: &str| budget["status"].int_at(name).unwrap_or(0);
    budget.str_at("spec.unhealthyPodEvictionPolicy") == Some("AlwaysAllow")
        || (count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0)
}

async fn decrement(call: &Call<'_>, budget: &str, pod: &Value, dry_run: bool) -> ApiResult<()> {
    let registry = &call.core.registry;
    let budgets =
        registry.stored_resource("policy", "poddisruptionbudgets").ok_or_else(ApiError::unknown_resource)?;
    let options = WriteOptions { dry_run, manager: "kube-apiserver".to_owned(), ..WriteOptions::default() };
    let options_value = options.to_value("UpdateOptions");
    let context = WriteContext {
        registry,
        served: &budgets,
        subresource: "status",
        namespace: meta::namespace(pod),
        name: budget,
        user: call.user,
        options: &options,
        options_value: &options_value,
        admission: &call.core.admission,
        warnings: call.warnings,
        conversions: crate::registry::Conversions::default(),
    };
    let now = registry.now();
    let transform = |live: Option<&Value>| match live {
        Some(live) => spend_one(live, meta::name(pod), &now),
        None => Err(context.not_found(budget)),
    };
    let update = Update { transform: &transform, fields_tracked: false, force_create: false };
    context.update(&update).await.map(|_| ())
}

fn spend_one(budget: &Value, pod: &str, now: &str) -> ApiResult<Value> {
    let name = meta::name(budget);
    let resource = GroupResource::new("policy", "poddisruptionbudgets");
    let count = |field: &str| budget["status"].int_at(field).unwrap_or(0);
    if count("observedGeneration") < budget.int_at("metadata.generation").unwrap_or(0) {
        let words = format!("The disruption budget {name} is still being processed by the server.");
        return Err(ApiError::too_many_requests(VIOLATES, 10).with_cause(CAUSE, words, ""));
    }
    let allowed = count("disruptionsAllowed");
    if allowed < 0 {
        return Err(ApiError::forbidden(resource, name, "pdb disruptions allowed is negative"));
    }
    if budget["status"]["disruptedPods"].entries().len() > MAX_DISRUPTED_PODS {
        return Err(ApiError::forbidden(
            resource,
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let words = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            count("desiredHealthy"),
            count("currentHealthy")
        );
        return Err(ApiError::too_many_requests(VIOLATES, 0).with_cause(CAUSE, words, ""));
    }
    let mut new = budget.clone();
    new.set("status.disruptionsAllowed", allowed - 1);
    if allowed == 1 {
        set_condition(&mut new, now);
    }
    new.make_map().entry_map("status").entry_map("disruptedPods").insert(pod, now);
    Ok(new)
}

/// Says that no more disruptions are allowed.
fn set_condition(budget: &mut Value, now: &str) {
    let generation = budget.int_at("metadata.generation").unwrap_or(0);
    let conditions = budget.make_map().entry_map("status").entry_list("conditions");
    let condition = value!({
        "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
        "observedGeneration": generation, "lastTransitionTime": now
    });
    match conditions.iter_mut().find(|c| c.str_at("type") == Some("DisruptionAllowed")) {
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
}
