//! The four plugins around signers: who may approve, sign and attest, and which subjects nobody is given.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use schema::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::admission::{Admission, Attributes, Operation};
use crate::authz::{self, Authorizer};
use crate::registry::Registry;
use crate::status::ApiResult;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = "system:masters";

/// One of the three plugins that ask whether a user may use a signer.
pub struct SignerPermission {
    name: &'static str,
    resource: &'static str,
    subresource: &'static str,
    verb: &'static str,
    authorizer: Arc<dyn Authorizer>,
}

impl SignerPermission {
    /// CertificateApproval.
    pub fn approval(authorizer: Arc<dyn Authorizer>) -> Self {
        Self {
            name: "CertificateApproval",
            resource: "certificatesigningrequests",
            subresource: "approval",
            verb: "approve",
            authorizer,
        }
    }

    /// CertificateSigning.
    pub fn signing(authorizer: Arc<dyn Authorizer>) -> Self {
        Self {
            name: "CertificateSigning",
            resource: "certificatesigningrequests",
            subresource: "status",
            verb: "sign",
            authorizer,
        }
    }

    /// ClusterTrustBundleAttest.
    pub fn attest(authorizer: Arc<dyn Authorizer>) -> Self {
        Self {
            name: "ClusterTrustBundleAttest",
            resource: "clustertrustbundles",
            subresource: "",
            verb: "attest",
            authorizer,
        }
    }

    fn refusal(&self, signer: &str) -> String {
        let signer = rules::quote(signer);
        match self.verb {
            "attest" => format!("user not permitted to attest for signerName {signer}"),
            verb => format!("user not permitted to {verb} requests with signerName {signer}"),
        }
    }

    /// Whether the user may use the signer by its name, or by `domain/*`.
    async fn may(&self, attributes: &Attributes<'_>, signer: &str) -> bool {
        let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
        for name in [Some(signer.to_owned()), domain].into_iter().flatten() {
            let asked = authz::Attributes {
                user: attributes.user.clone(),
                verb: self.verb.to_owned(),
                is_resource: true,
                api_group: GROUP.to_owned(),
                api_version: "*".to_owned(),
                resource: "signers".to_owned(),
                name,
                ..authz::Attributes::default()
            };
            if self.authorizer.authorize(&asked).await.is_allowed() {
                return true;
            }
        }
        false
    }
}

#[async_trait]
impl Admission for SignerPermission {
    fn name(&self) -> &'static str {
        self.name
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update || (self.verb == "attest" && operation == Operation::Create)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, _: &Registry) -> ApiResult<()> {
        let mine = attributes.resource.group == GROUP
            && attributes.resource.resource == self.resource
            && attributes.subresource == self.subresource;
        if !mine {
            return Ok(());
        }
        let (old, new) = (attributes.old_object, &attributes.object);
        let unchanged = match self.verb {
            "sign" => {
                ["certificate", "conditions"].iter().all(|f| old["status"].get(f) == new["status"].get(f))
            }
            "attest" => old.get("spec") == new.get("spec"),
            _ => false,
        };
        // The stored signer counts: nobody changes it on the way.
        let holder = if old.is_null() || self.verb == "attest" { new } else { old };
        let signer = holder.str_at("spec.signerName").unwrap_or_default().to_owned();
        if unchanged || (self.verb == "attest" && signer.is_empty()) || self.may(attributes, &signer).await {
            return Ok(());
        }
        Err(attributes.forbidden(self.refusal(&signer)))
    }
}

/// CertificateSubjectRestriction: no client certificate makes anybody a cluster administrator.
pub struct SubjectRestriction;

#[async_trait]
impl Admission for SubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, _: &Registry) -> ApiResult<()> {
        if !attributes.is(GROUP, "certificatesigningrequests")
            || attributes.object.str_at("spec.signerName") != Some(CLIENT_SIGNER)
        {
            return Ok(());
        }
        match organizations(&attributes.object) {
            None => {
                Err(attributes.forbidden("failed to parse CSR: PEM block type must be CERTIFICATE REQUEST"))
            }
            Some(all) if all.iter().any(|one| one == MASTERS) => Err(attributes
                .forbidden(format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"))),
            Some(_) => Ok(()),
        }
    }
}

/// The organizations that a signing request's subject names; None if it cannot be read.
fn organizations(request: &Value) -> Option<Vec<String>> {
    let encoded = request.str_at("spec.request")?;
    let pem = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, csr) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &csr.certification_request_info.subject;
    Some(subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect())
}
