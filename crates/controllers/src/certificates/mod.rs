//! CertificateSigningRequests: approves those of kubelets, signs approved ones, removes old ones (upstream's
//! certificates controllers).

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Informer, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use kube::Api;
use kube::api::PostParams;
use pki::{Authority, SigningRequest};

use crate::Error;
use crate::common::watching::watch_keys;
use crate::common::{api, time};
use crate::context::Context;

type Request = CertificateSigningRequest;

fn watch(context: &Context, name: &'static str) -> (Informer<Request>, WorkQueue<ObjectKey>) {
    let requests = context.informers.get::<Request>();
    let queue = WorkQueue::new(name);
    watch_keys(&requests, &queue);
    (requests, queue)
}

fn condition(kind: &str, reason: &str, message: &str) -> CertificateSigningRequestCondition {
    let now = time::time(time::now());
    CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: now.clone(),
        last_transition_time: now,
    }
}

/// Starts the approver of kubelets' requests.
pub(crate) async fn start_approving(context: Context) -> Result<(), Error> {
    let (requests, queue) = watch(&context, "csr-approving");
    requests.synced().await;
    let (cache, client) = (requests.cache(), context.client.clone());
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let (request, client) = (cache.get_key(&key), client.clone());
        async move {
            if let Some(request) = request {
                approve(&client, &request).await?;
            }
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}

/// Approves a kubelet's request for a client certificate if the asker may have it.
async fn approve(client: &kube::Client, request: &Request) -> Result<(), Error> {
    if plan::is_signed(request) || plan::has(request, "Approved") || plan::has(request, "Denied") {
        return Ok(());
    }
    let Ok(asked) = SigningRequest::parse(&request.spec.request.0) else { return Ok(()) };
    if !plan::is_kubelet_client(request, &asked) {
        return Ok(());
    }
    let is_self = request.spec.username.as_deref() == Some(&asked.common_name);
    let kinds: &[(&str, &str)] = &[
        ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
        ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
    ];
    for (subresource, message) in kinds.iter().filter(|(kind, _)| is_self || *kind == "nodeclient") {
        if !may(client, request, subresource).await? {
            continue;
        }
        let mut approved = request.clone();
        let conditions = approved.status.get_or_insert_default().conditions.get_or_insert_default();
        conditions.push(condition("Approved", "AutoApproved", message));
        let requests: Api<Request> = Api::all(client.clone());
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let written = requests.replace_subresource("approval", name, &PostParams::default(), &approved).await;
        api::ignore_not_found(written)?;
        return Ok(());
    }
    Ok(())
}

async fn may(client: &kube::Client, request: &Request, subresource: &str) -> Result<bool, Error> {
    let spec = &request.spec;
    let extra: Option<BTreeMap<String, Vec<String>>> = spec.extra.clone();
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra,
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                subresource: Some(subresource.to_owned()),
                verb: Some("create".to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

/// Starts the signer, if it has an authority.
pub(crate) async fn start_signing(context: Context) -> Result<(), Error> {
    let (Some(certificate), Some(key)) =
        (&context.config.cluster_signing_cert_file, &context.config.cluster_signing_key_file)
    else {
        tracing::info!("no signing certificate is configured, certificate requests are not signed");
        return Ok(());
    };
    let authority = Arc::new(Authority::load(certificate, key)?);
    let longest = context.config.cluster_signing_duration;
    let (requests, queue) = watch(&context, "csr-signing");
    requests.synced().await;
    let (cache, client) = (requests.cache(), context.client.clone());
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let (request, client, authority) = (cache.get_key(&key), client.clone(), authority.clone());
        async move {
            if let Some(request) = request {
                sign(&client, &authority, &request, longest).await?;
            }
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}

async fn sign(
    client: &kube::Client,
    authority: &Authority,
    request: &Request,
    longest: std::time::Duration,
) -> Result<(), Error> {
    let is_open =
        plan::has(request, "Approved") && !plan::has(request, "Denied") && !plan::has(request, "Failed");
    if !is_open || plan::is_signed(request) || !plan::is_ours(request) {
        return Ok(());
    }
    let usages = request.spec.usages.clone().unwrap_or_default();
    let signed =
        SigningRequest::parse(&request.spec.request.0).map_err(|e| e.to_string()).and_then(|asked| {
            plan::check(request, &asked)?;
            authority.sign(asked, &usages, plan::validity(request, longest)).map_err(|e| e.to_string())
        });
    let mut decided = request.clone();
    let status = decided.status.get_or_insert_default();
    match signed {
        Ok(pem) => status.certificate = Some(ByteString(pem.into_bytes())),
        Err(why) => {
            let failed = condition("Failed", "SignerValidationFailure", &why);
            status.conditions.get_or_insert_default().push(failed);
        }
    }
    let requests: Api<Request> = Api::all(client.clone());
    let name = request.metadata.name.as_deref().unwrap_or_default();
    api::ignore_not_found(requests.replace_status(name, &PostParams::default(), &decided).await)?;
    Ok(())
}

/// Starts the cleaner.
pub(crate) async fn start_cleaning(context: Context) -> Result<(), Error> {
    let (requests, queue) = watch(&context, "csr-cleaning");
    requests.synced().await;
    let (cache, client) = (requests.cache(), context.client.clone());
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let (request, client) = (cache.get_key(&key), client.clone());
        async move {
            let Some(request) = request else { return Ok(Outcome::Done) };
            let left = plan::expires_in(&request, time::now());
            if !left.is_zero() {
                return Ok(Outcome::RequeueAfter(left));
            }
            let requests: Api<Request> = Api::all(client);
            let options = api::delete_uid(request.metadata.uid.as_ref());
            api::ignore_not_found(requests.delete(&key.name, &options).await)?;
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}
