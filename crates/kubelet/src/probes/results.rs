//! What probes have found so far, by container.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The settled result of a probe: thresholds are already counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Well.
    Success,
    /// Not well.
    Failure,
}

/// The probes of one container; `None` where nothing has settled yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeResults {
    /// Whether it has come up.
    pub startup: Option<Verdict>,
    /// Whether it is to go on.
    pub liveness: Option<Verdict>,
    /// Whether it takes traffic.
    pub readiness: Option<Verdict>,
}

/// A probe of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// `startupProbe`.
    Startup,
    /// `livenessProbe`.
    Liveness,
    /// `readinessProbe`.
    Readiness,
}

impl ProbeKind {
    /// As in messages: `Readiness probe failed`.
    pub fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }
}

/// Results by container id.
pub type ResultMap = HashMap<String, ProbeResults>;

/// Results that probes write and a pod worker reads.
#[derive(Debug, Clone, Default)]
pub struct SharedResults(Arc<Mutex<ResultMap>>);

impl SharedResults {
    /// All results as they are.
    pub fn snapshot(&self) -> ResultMap {
        self.0.lock().clone()
    }

    /// Notes a result; true if it is another than before.
    pub fn set(&self, container_id: &str, kind: ProbeKind, verdict: Verdict) -> bool {
        let mut map = self.0.lock();
        let results = map.entry(container_id.to_owned()).or_default();
        let slot = match kind {
            ProbeKind::Startup => &mut results.startup,
            ProbeKind::Liveness => &mut results.liveness,
            ProbeKind::Readiness => &mut results.readiness,
        };
        slot.replace(verdict) != Some(verdict)
    }

    /// Forgets the containers that `keep` does not know.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.0.lock().retain(|id, _| keep(id));
    }
}
