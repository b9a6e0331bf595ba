//! Carrying out a deployment's plan.

use std::sync::Arc;

use client::{EventType, Outcome};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use kube::Api;
use kube::api::PostParams;

use super::observed::{Observed, is_of_template, size};
use super::plan::{Action, Plan};
use super::{Controller, annotations, progress};
use crate::Error;
use crate::common::{api, owner};

impl Controller {
    /// Writes what `plan` says. A conflict means that the cache was behind; the key then comes back.
    pub(super) async fn act(&self, observed: &Observed, plan: Plan) -> Result<Outcome, Error> {
        let namespace = observed.deployment.metadata.namespace.clone().unwrap_or_default();
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &namespace);
        for action in plan.actions {
            match action {
                Action::Create(rs) => self.create(observed, &sets, &rs).await?,
                Action::Update(rs) => {
                    sets.replace(name(&rs), &PostParams::default(), &rs).await?;
                }
                Action::Scale { from, to } => self.scale(observed, &sets, &from, &to).await?,
                Action::Delete(rs) => {
                    let deleted = sets.delete(name(&rs), &api::delete_uid(rs.metadata.uid.as_ref())).await;
                    api::ignore_not_found(deleted)?;
                }
            }
        }
        if plan.status.is_some() || plan.revision.is_some() {
            let status = plan.status.unwrap_or_else(|| observed.status());
            self.write(observed, status, plan.revision).await?;
        }
        Ok(plan.requeue.map_or(Outcome::Done, Outcome::RequeueAfter))
    }

    async fn create(
        &self,
        observed: &Observed,
        sets: &Api<ReplicaSet>,
        rs: &ReplicaSet,
    ) -> Result<(), Error> {
        let deployment = observed.deployment.as_ref();
        match sets.create(&PostParams::default(), rs).await {
            Ok(created) => {
                if size(&created) > 0 {
                    self.tell_scaling(deployment, &created, "up", 0, size(&created));
                }
                Ok(())
            }
            Err(error) if api::is_already_exists(&error) => {
                self.resolve_collision(observed, sets, rs, error).await
            }
            Err(error) if api::is_namespace_terminating(&error) => Ok(()),
            Err(error) => {
                if observed.progress_deadline().is_some() {
                    let text =
                        format!("Failed to create new replica set {:?}: {}", name(rs), api::message(&error));
                    let mut status = observed.status();
                    let condition = progress::progressing("False", "FailedCreate", text, observed.now);
                    progress::set(&mut status, condition);
                    self.write(observed, status, None).await?;
                }
                Err(error.into())
            }
        }
    }

    /// Our cache may lack a replica set that we made; but if another template has the same hash, the next hash differs.
    async fn resolve_collision(
        &self,
        observed: &Observed,
        sets: &Api<ReplicaSet>,
        rs: &ReplicaSet,
        error: kube::Error,
    ) -> Result<(), Error> {
        let Some(existing) = sets.get_opt(name(rs)).await? else { return Err(error.into()) };
        let ours = owner::controller_of(&existing.metadata)
            .is_some_and(|r| Some(&r.uid) == observed.deployment.metadata.uid.as_ref());
        if ours && is_of_template(&existing, &observed.spec.template) {
            return Ok(());
        }
        let mut status = observed.status();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.write(observed, status, None).await?;
        Err(error.into())
    }

    async fn scale(
        &self,
        observed: &Observed,
        sets: &Api<ReplicaSet>,
        from: &Arc<ReplicaSet>,
        to: &ReplicaSet,
    ) -> Result<(), Error> {
        sets.replace(name(to), &PostParams::default(), to).await?;
        let (before, after) = (size(from), size(to));
        let direction = if after > before { "up" } else { "down" };
        self.tell_scaling(&observed.deployment, to, direction, before, after);
        Ok(())
    }

    fn tell_scaling(&self, deployment: &Deployment, rs: &ReplicaSet, direction: &str, from: i32, to: i32) {
        let text = format!("Scaled {direction} replica set {} from {from} to {to}", name(rs));
        self.events.event(deployment, EventType::Normal, "ScalingReplicaSet", text);
    }

    /// Writes status and revision. Upstream writes both through `/status`; a server that drops annotations there gets
    /// them by a second write.
    async fn write(
        &self,
        observed: &Observed,
        status: DeploymentStatus,
        revision: Option<String>,
    ) -> Result<(), Error> {
        let namespace = observed.deployment.metadata.namespace.clone().unwrap_or_default();
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        let mut wanted = Deployment::clone(&observed.deployment);
        wanted.status = Some(status);
        if let Some(revision) = &revision {
            let annotations = wanted.metadata.annotations.get_or_insert_default();
            annotations.insert(annotations::REVISION.to_owned(), revision.clone());
        }
        let written = deployments.replace_status(observed.name(), &PostParams::default(), &wanted).await?;
        if revision.is_some() && written.metadata.annotations != wanted.metadata.annotations {
            wanted.metadata.resource_version = written.metadata.resource_version;
            deployments.replace(observed.name(), &PostParams::default(), &wanted).await?;
        }
        Ok(())
    }

    /// Only says that the generation was seen, of a deployment that selects everything.
    pub(super) async fn observe_generation(&self, deployment: &Deployment) -> Result<Outcome, Error> {
        let mut status = deployment.status.clone().unwrap_or_default();
        if status.observed_generation != deployment.metadata.generation {
            status.observed_generation = deployment.metadata.generation;
            let observed = Observed::new(
                Arc::new(deployment.clone()),
                Vec::new(),
                |_| false,
                crate::common::time::now(),
            )?;
            self.write(&observed, status, None).await?;
        }
        Ok(Outcome::Done)
    }
}

fn name(rs: &ReplicaSet) -> &str {
    rs.metadata.name.as_deref().unwrap_or_default()
}
