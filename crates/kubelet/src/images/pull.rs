//! Having an image there (upstream `imageManager.EnsureImageExists`).

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base::SharedClock;
use client::{EventRecorder, EventType};
use k8s_openapi::api::core::v1::{ImageVolumeSource, ObjectReference, Pod, Secret};
use parking_lot::Mutex;
use proto::cri::v1::{AuthConfig, Image, ImageSpec, ImageStatusRequest, PodSandboxConfig, PullImageRequest};

use super::{credentials, names};
use crate::container::security::ImageUser;
use crate::cri::{Cri, CriError};
use crate::events::{container_reference, pod_reference};
use crate::pod::backoff::Backoffs;
use crate::pod::spec::{self, ContainerSpec};
use crate::status::StartError;

/// Longest pause between pulls of an image (upstream `MaxContainerBackOff`).
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The first look after a failed pull: its answer is `ImagePullBackOff`.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// As the runtime identifies it.
    pub image_ref: String,
    /// Whom it runs as by itself.
    pub user: ImageUser,
}

/// Why an image is not there, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageError {
    /// The container's waiting state.
    pub error: StartError,
    /// Time until the next try.
    pub retry_after: Duration,
}

/// Pulls images.
#[derive(Clone)]
pub struct Images {
    cri: Cri,
    events: EventRecorder,
    clock: SharedClock,
    backoffs: Arc<Mutex<Pauses>>,
}

/// What is to be there, and whom events are about.
struct Wanted<'a> {
    pod: &'a Pod,
    image: &'a str,
    policy: &'a str,
    about: ObjectReference,
}

impl<'a> Wanted<'a> {
    fn new(pod: &'a Pod, image: Option<&'a str>, policy: Option<&'a str>, about: ObjectReference) -> Self {
        let image = image.unwrap_or_default();
        let by_itself = if names::is_latest(image) { "Always" } else { "IfNotPresent" };
        Self { pod, image, policy: policy.filter(|p| !p.is_empty()).unwrap_or(by_itself), about }
    }
}

struct Pauses {
    backoffs: Backoffs,
    last: std::collections::HashMap<String, (SystemTime, String)>,
}

impl Images {
    /// Over the runtime's image service.
    pub fn new(cri: Cri, events: EventRecorder, clock: SharedClock) -> Self {
        let pauses = Pauses { backoffs: Backoffs::new(LONGEST_PAUSE), last: Default::default() };
        Self { cri, events, clock, backoffs: Arc::new(Mutex::new(pauses)) }
    }

    /// Has the container's image there, pulling it as its policy says.
    pub async fn ensure(
        &self,
        pod: &Pod,
        spec: &ContainerSpec<'_>,
        secrets: &[Secret],
        sandbox: &PodSandboxConfig,
    ) -> Result<Pulled, ImageError> {
        let container = &spec.container;
        let about = container_reference(pod, &spec.field_path());
        let wanted =
            Wanted::new(pod, container.image.as_deref(), container.image_pull_policy.as_deref(), about);
        self.ensure_wanted(&wanted, secrets, sandbox).await
    }

    /// Has the image of a volume there, pulling it as its policy says.
    pub async fn ensure_volume(
        &self,
        pod: &Pod,
        source: &ImageVolumeSource,
        secrets: &[Secret],
        sandbox: &PodSandboxConfig,
    ) -> Result<Pulled, ImageError> {
        let (image, policy) = (source.reference.as_deref(), source.pull_policy.as_deref());
        self.ensure_wanted(&Wanted::new(pod, image, policy, pod_reference(pod)), secrets, sandbox).await
    }

    async fn ensure_wanted(
        &self,
        wanted: &Wanted<'_>,
        secrets: &[Secret],
        sandbox: &PodSandboxConfig,
    ) -> Result<Pulled, ImageError> {
        let image = wanted.image;
        if !names::is_valid(image) {
            let text = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
            );
            self.tell(wanted, EventType::Warning, "InspectFailed", text.clone());
            return Err(failed("InvalidImageName", text, LONGEST_PAUSE));
        }
        let tagged = names::with_default_tag(image);
        let present = match self.status(&tagged).await {
            Ok(present) => present,
            Err(error) => {
                let text = format!("Failed to inspect image {image:?}: {error}");
                self.tell(wanted, EventType::Warning, "InspectFailed", text.clone());
                return Err(failed("ImageInspectError", text, LOOK_AGAIN));
            }
        };
        if let (Some(present), true) = (&present, wanted.policy != "Always") {
            let text = format!(
                "Container image {image:?} already present on machine and can be accessed by the pod"
            );
            self.tell(wanted, EventType::Normal, "Pulled", text);
            return Ok(pulled(present));
        }
        if wanted.policy == "Never" {
            let text = format!("Container image {image:?} is not present with pull policy of Never");
            self.tell(wanted, EventType::Warning, "ErrImageNeverPull", text.clone());
            return Err(failed("ErrImageNeverPull", text, LONGEST_PAUSE));
        }
        self.pull(wanted, &tagged, secrets, sandbox).await
    }

    async fn pull(
        &self,
        wanted: &Wanted<'_>,
        tagged: &str,
        secrets: &[Secret],
        sandbox: &PodSandboxConfig,
    ) -> Result<Pulled, ImageError> {
        let image = wanted.image;
        let key = format!("{}_{image}", spec::uid(wanted.pod));
        let now = self.clock.now();
        if let Some((left, reason)) = self.pause(&key, now) {
            let text = format!("Back-off pulling image {image:?}");
            self.tell(wanted, EventType::Normal, "BackOff", text.clone());
            return Err(failed("ImagePullBackOff", format!("{text}: {reason}"), left));
        }
        self.tell(wanted, EventType::Normal, "Pulling", format!("Pulling image {image:?}"));
        let started = Instant::now();
        let auths = credentials::for_repository(secrets, &names::repository(tagged));
        match self.pull_with(tagged, auths, sandbox).await {
            Ok(image_ref) => {
                self.backoffs.lock().last.remove(&key);
                let present = self.status(&image_ref).await.ok().flatten();
                let took = go_duration(started.elapsed());
                let size = present.as_ref().map_or(0, |p| p.size);
                let text = format!(
                    "Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {size} bytes."
                );
                self.tell(wanted, EventType::Normal, "Pulled", text);
                let user = present.as_ref().map(|p| pulled(p).user).unwrap_or_default();
                Ok(Pulled { image_ref, user })
            }
            Err(error) => {
                let text = format!("Failed to pull image {image:?}: {error}");
                self.tell(wanted, EventType::Warning, "Failed", text);
                self.tell(wanted, EventType::Warning, "Failed", "Error: ErrImagePull".to_owned());
                let mut pauses = self.backoffs.lock();
                pauses.backoffs.next(&key, now);
                let reason = format!("ErrImagePull: {error}");
                pauses.last.insert(key, (self.clock.now(), reason));
                Err(failed("ErrImagePull", error.to_string(), LOOK_AGAIN))
            }
        }
    }

    /// Tries each credential until one is taken; without any, asks as nobody.
    async fn pull_with(
        &self,
        image: &str,
        auths: Vec<AuthConfig>,
        sandbox: &PodSandboxConfig,
    ) -> Result<String, CriError> {
        let tries: Vec<Option<AuthConfig>> =
            if auths.is_empty() { vec![None] } else { auths.into_iter().map(Some).collect() };
        let mut last = None;
        for auth in tries {
            let request = PullImageRequest {
                image: Some(ImageSpec { image: image.to_owned(), ..Default::default() }),
                auth,
                sandbox_config: Some(sandbox.clone()),
            };
            match self.cri.pull_image(request).await {
                Ok(image_ref) => return Ok(image_ref),
                Err(error) => last = Some(error),
            }
        }
        Err(last
            .unwrap_or(CriError { code: tonic::Code::Unknown, message: "no credential to try".to_owned() }))
    }

    fn pause(&self, key: &str, now: SystemTime) -> Option<(Duration, String)> {
        let pauses = self.backoffs.lock();
        let (since, reason) = pauses.last.get(key)?;
        let (_, left) = pauses.backoffs.remaining(key, *since, now)?;
        Some((left, reason.clone()))
    }

    /// Forgets the pauses of a pod.
    pub fn forget(&self, pod: &Pod) {
        let prefix = format!("{}_", spec::uid(pod));
        self.backoffs.lock().last.retain(|key, _| !key.starts_with(&prefix));
    }

    async fn status(&self, image: &str) -> Result<Option<Image>, CriError> {
        let spec = ImageSpec { image: image.to_owned(), ..Default::default() };
        Ok(self.cri.image_status(ImageStatusRequest { image: Some(spec), verbose: false }).await?.image)
    }

    fn tell(&self, wanted: &Wanted<'_>, kind: EventType, reason: &str, message: String) {
        self.events.event_at(wanted.about.clone(), kind, reason, message);
    }
}

fn failed(reason: &str, message: String, retry_after: Duration) -> ImageError {
    ImageError { error: StartError { reason: reason.to_owned(), message }, retry_after }
}

fn pulled(image: &Image) -> Pulled {
    let uid = image.uid.as_ref().map(|uid| uid.value);
    Pulled { image_ref: image.id.clone(), user: ImageUser { uid, name: image.username.clone() } }
}

/// A duration as Go prints it, in whole milliseconds: `1m2.5s`, `340ms`.
pub fn go_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms < 1000 {
        return if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") };
    }
    let (minutes, rest) = (ms / 60_000, ms % 60_000);
    let fraction = format!("{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{dot}{fraction}s", rest / 1000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_look_like_go() {
        for (ms, text) in [
            (0, "0s"),
            (340, "340ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (62_034, "1m2.034s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(ms)), text);
        }
    }
}
