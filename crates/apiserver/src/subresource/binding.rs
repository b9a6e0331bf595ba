//! `pods/binding`: the scheduler's choice of a node.

use std::sync::Arc;

use http::Response;
use rules::{FieldError, Path};
use schema::{Value, value};

use super::{decode_body, done};
use crate::admission::AdmissionChain;
use crate::api::Call;
use crate::http::Body;
use crate::http::negotiate::Accept;
use crate::registry::options::OptionsKind;
use crate::registry::{Served, Update, WriteContext, WriteOptions, meta};
use crate::status::{ApiError, ApiResult, GroupResource};

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let options = WriteOptions::parse(OptionsKind::Create, call.query, &call.parts.headers)?;
    let binding = decode_body(call, served, &options, body).await?;
    if !meta::name(&binding).is_empty() && meta::name(&binding) != call.info.name {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    bind(call, served, &options, &binding, &call.info.name).await?;
    done(accept, 201)
}

/// POST of `bindings`, the old form, whose body names the pod.
pub async fn bind_by_body(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let options = WriteOptions::parse(OptionsKind::Create, call.query, &call.parts.headers)?;
    let binding = crate::api::create::decode_object(call, served, &options, body).await?;
    let pods = call.core.registry.resource("", "v1", "pods").ok_or_else(ApiError::unknown_resource)?;
    let name = meta::name(&binding).to_owned();
    bind(call, &pods, &options, &binding, &name).await?;
    done(accept, 201)
}

async fn bind(
    call: &Call<'_>,
    pods: &Arc<Served>,
    options: &WriteOptions,
    binding: &Value,
    name: &str,
) -> ApiResult<()> {
    let options_value = options.to_value("CreateOptions");
    let admitted =
        WriteContext { name, subresource: "binding", ..call.write_context(pods, options, &options_value) };
    let binding = &admitted.admit_body(binding.clone()).await?;
    check(binding)?;
    // The pod that changes by it is not admitted again.
    let nobody = AdmissionChain::default();
    let context = WriteContext { admission: &nobody, ..admitted };
    let transform = |live: Option<&Value>| match live {
        Some(live) => assign(live, binding, name),
        None => Err(context.not_found(name)),
    };
    // Whether a pod may run on the node was for the scheduler to say; nobody owns the fields set here.
    let update = Update { transform: &transform, fields_tracked: true, force_create: false };
    context.update(&update).await.map(|_| ())
}

fn check(binding: &Value) -> ApiResult<()> {
    let mut errors = Vec::new();
    let target = Path::new("target");
    let kind = binding.str_at("target.kind").unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(&target.child("kind"), kind, &["Node", "<empty>"]));
    }
    if binding.str_at("target.name").unwrap_or_default().is_empty() {
        errors.push(FieldError::required(&target.child("name"), ""));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid("", "Binding", meta::name(binding), &errors))
    }
}

fn assign(live: &Value, binding: &Value, name: &str) -> ApiResult<Value> {
    let node = binding.str_at("target.name").unwrap_or_default();
    let refuse = |why: String| Err(ApiError::conflict(GroupResource::new("", "pods/binding"), name, why));
    for field in ["uid", "resourceVersion"] {
        let wanted = meta::text(binding, field);
        if !wanted.is_empty() && wanted != meta::text(live, field) {
            return refuse(format!(
                "Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {}",
                meta::text(live, field)
            ));
        }
    }
    if meta::is_deleting(live) {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(present) = live.str_at("spec.nodeName").filter(|n| !n.is_empty()) {
        return refuse(format!("pod {name} is already assigned to node {}", rules::quote(present)));
    }
    if !live.items_at("spec.schedulingGates").is_empty() {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = live.clone();
    pod.set("spec.nodeName", node);
    for field in ["annotations", "labels"] {
        for (key, value) in binding["metadata"][field].entries() {
            pod.make_map().entry_map("metadata").entry_map(field).insert(key.clone(), value.clone());
        }
    }
    pod.remove_at("status.nominatedNodeName");
    set_scheduled(&mut pod);
    Ok(pod)
}

/// Sets the condition `PodScheduled`.
fn set_scheduled(pod: &mut Value) {
    let conditions = pod.make_map().entry_map("status").entry_list("conditions");
    let now = meta::now(&base::SystemClock);
    let present = conditions.iter_mut().find(|c| c.str_at("type") == Some("PodScheduled"));
    let mut condition = value!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now});
    match present {
        Some(present) => {
            if let Some(generation) = present.get("observedGeneration") {
                condition.insert("observedGeneration", generation);
            }
            *present = condition;
        }
        None => conditions.push(condition),
    }
}
