//! What plugins answer, and why no node was found.

use std::collections::BTreeMap;

/// The kind of a refusal (upstream's framework.Code).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Not now: a change of the cluster may help, and so may preemption.
    Unschedulable,
    /// Preemption cannot help.
    UnschedulableAndUnresolvable,
    /// Something failed.
    Error,
    /// The plugin has nothing to say.
    Skip,
    /// Wait for something outside before trying again.
    Pending,
}

/// A refusal by a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its kind.
    pub code: Code,
    /// Why, in upstream's words; they are counted over nodes.
    pub reasons: Vec<String>,
    /// Who refuses; the framework fills it in.
    pub plugin: &'static str,
}

/// Fine, or refused.
pub type Verdict = Result<(), Status>;

impl Status {
    /// A refusal that preemption may resolve.
    pub fn unschedulable(reason: impl Into<String>) -> Self {
        Self { code: Code::Unschedulable, reasons: vec![reason.into()], plugin: "" }
    }

    /// A refusal that preemption cannot resolve.
    pub fn unresolvable(reason: impl Into<String>) -> Self {
        Self { code: Code::UnschedulableAndUnresolvable, ..Self::unschedulable(reason) }
    }

    /// A failure.
    pub fn error(reason: impl Into<String>) -> Self {
        Self { code: Code::Error, ..Self::unschedulable(reason) }
    }

    /// Nothing to say.
    pub fn skip() -> Self {
        Self { code: Code::Skip, reasons: Vec::new(), plugin: "" }
    }

    /// The same, said by `plugin`.
    pub fn by(self, plugin: &'static str) -> Self {
        Self { plugin, ..self }
    }

    /// All reasons in one line.
    pub fn message(&self) -> String {
        self.reasons.join(", ")
    }
}

/// Why a pod found no node.
#[derive(Debug, Clone, Default)]
pub struct Diagnosis {
    /// What each node's first refusing plugin said.
    pub nodes: BTreeMap<String, Status>,
    /// What PreFilter said, if it refused the pod as a whole.
    pub pre_filter: Option<Status>,
    /// What PostFilter said.
    pub post_filter_message: String,
    /// How many nodes there are.
    pub all_nodes: usize,
}

impl Diagnosis {
    /// Which plugins refused.
    pub fn plugins(&self) -> Vec<&'static str> {
        let mut all: Vec<_> =
            self.nodes.values().chain(&self.pre_filter).map(|status| status.plugin).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The message of the pod's condition and event (upstream's FitError).
    pub fn message(&self) -> String {
        if self.all_nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut text = format!("0/{} nodes are available:", self.all_nodes);
        match &self.pre_filter {
            Some(status) => text += &format!(" {}.", status.message()),
            None => text += &self.histogram(),
        }
        if !self.post_filter_message.is_empty() {
            text += &format!(" {}", self.post_filter_message);
        }
        text
    }

    fn histogram(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.nodes.values().flat_map(|status| &status.reasons) {
            *counts.entry(reason).or_default() += 1;
        }
        let mut lines: Vec<String> =
            counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        lines.sort();
        if lines.is_empty() { String::new() } else { format!(" {}.", lines.join(", ")) }
    }
}
