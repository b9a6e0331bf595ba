//! What of upstream's KubeSchedulerConfiguration is understood.

use std::sync::Arc;

use crate::Error;
use crate::framework::Plugin;

/// A plugin and the weight of its score.
pub(crate) type Weighted = (Arc<dyn Plugin>, i64);

/// The configuration of a scheduler.
#[derive(Debug, Clone)]
pub struct Config {
    /// One per scheduler name.
    pub profiles: Vec<ProfileConfig>,
    /// How many feasible nodes of a hundred are scored; 0 adapts to the size of the cluster.
    pub percentage_of_nodes_to_score: u32,
}

/// The plugins of one scheduler name, as differences from the default.
#[derive(Debug, Clone)]
pub struct ProfileConfig {
    /// `spec.schedulerName` of its pods.
    pub scheduler_name: String,
    /// Names of plugins to leave out; `*` for all that are not enabled by name.
    pub disabled: Vec<String>,
    /// Names of plugins to have, with another weight of their score if it is not 0.
    pub enabled: Vec<(String, i64)>,
}

impl Default for Config {
    fn default() -> Self {
        let profile = ProfileConfig {
            scheduler_name: "default-scheduler".to_owned(),
            disabled: Vec::new(),
            enabled: Vec::new(),
        };
        Self { profiles: vec![profile], percentage_of_nodes_to_score: 0 }
    }
}

impl ProfileConfig {
    /// Chooses of the built-in plugins and adds `extra`.
    pub(crate) fn select(
        &self,
        builtin: Vec<Weighted>,
        extra: &[Arc<dyn Plugin>],
    ) -> Result<Vec<Weighted>, Error> {
        let all: Vec<_> = builtin.into_iter().chain(extra.iter().map(|plugin| (plugin.clone(), 1))).collect();
        let named =
            self.disabled.iter().filter(|n| *n != "*").chain(self.enabled.iter().map(|(name, _)| name));
        for name in named {
            if !all.iter().any(|(plugin, _)| plugin.name() == name) {
                return Err(Error::UnknownPlugin {
                    profile: self.scheduler_name.clone(),
                    plugin: name.clone(),
                });
            }
        }
        let off = |name: &str| self.disabled.iter().any(|d| d == "*" || d == name);
        let chosen = all.into_iter().filter_map(|(plugin, weight)| {
            let on = self.enabled.iter().find(|(name, _)| name == plugin.name());
            match on {
                Some((_, 0)) => Some((plugin, weight)),
                Some((_, other)) => Some((plugin, *other)),
                None if off(plugin.name()) => None,
                None => Some((plugin, weight)),
            }
        });
        Ok(chosen.collect())
    }
}
