//! Work that only one of several servers does at a time.

use std::time::Duration;

use base::TaskScope;
use client::ElectionConfig;

/// How long the tasks of a term may take to end when leadership is lost; another leads after that at the earliest.
const END: Duration = Duration::from_secs(4);
const NAMESPACE: &str = "kube-system";

/// Starts `work` whenever this server is elected by the Lease `name`, in a scope that ends when leadership is lost, and
/// stands for election again. Ends with `scope`, and lets another lead at once then.
pub fn run<F>(name: &'static str, client: kube::Client, scope: &TaskScope, work: F)
where
    F: Fn(TaskScope) -> anyhow::Result<()> + Send + Sync + 'static,
{
    let owner = scope.clone();
    scope.spawn(async move {
        loop {
            let election = ElectionConfig::new(NAMESPACE, name, crate::identity::candidate());
            let leadership = client::elect(client.clone(), election, &owner).await;
            let term = owner.child(name);
            if let Err(error) = work(term.clone()) {
                tracing::error!(error = format!("{error:#}"), name, "elected, and the work does not start");
            }
            leadership.lost().await;
            term.shutdown(END).await;
        }
    });
}
