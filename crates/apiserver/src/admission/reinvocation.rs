//! Running mutating plugins a second time, for webhooks and policies that want to see what others changed.

use std::collections::BTreeSet;

use schema::Value;

/// What the mutating plugins of one request know of each other (`admission.ReinvocationContext`).
#[derive(Debug, Default)]
pub struct Reinvocation {
    /// This is the second round.
    pub again: bool,
    /// A second round is wanted.
    pub wanted: bool,
    /// Of MutatingAdmissionWebhook.
    pub webhooks: Invoked,
    /// Of MutatingAdmissionPolicy.
    pub policies: Invoked,
}

/// Whom one plugin has called, by their unique names.
#[derive(Debug, Default)]
pub struct Invoked {
    last_output: Option<Value>,
    /// Called, and to be called again if somebody changes the object after them.
    reinvocable: BTreeSet<String>,
    /// To be called in the second round.
    due: BTreeSet<String>,
}

impl Invoked {
    /// Begins a round: in the second one everybody is due if other plugins changed the object since.
    pub fn begin(&mut self, again: bool, object: &Value) {
        if again && self.last_output.as_ref() != Some(object) {
            self.require();
        }
    }

    /// The object changed: all that were called before are due.
    pub fn require(&mut self) {
        self.due.append(&mut self.reinvocable);
    }

    /// Whether `name` is to be called in the second round.
    pub fn is_due(&self, name: &str) -> bool {
        self.due.contains(name)
    }

    /// `name` was called and wants to be called again after changes.
    pub fn called(&mut self, name: &str) {
        self.reinvocable.insert(name.to_owned());
    }

    /// Ends a round with this object.
    pub fn end(&mut self, object: &Value) {
        self.last_output = Some(object.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn those_before_a_change_are_due() {
        let mut invoked = Invoked::default();
        invoked.begin(false, &Value::map());
        invoked.called("a");
        invoked.require();
        invoked.called("b");
        invoked.end(&value!({"x": 1}));
        assert!(invoked.is_due("a") && !invoked.is_due("b"));
        invoked.begin(true, &value!({"x": 1}));
        assert!(!invoked.is_due("b"));
        invoked.begin(true, &value!({"x": 2}));
        assert!(invoked.is_due("b"));
    }
}
