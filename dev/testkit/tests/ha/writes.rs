//! Objects written one after another to whichever server answers, and those that were answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::servers::Server;

/// Writes until it is stopped.
pub struct Writes {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Writes {
    /// Begins to write to `servers` in turn.
    pub fn start(servers: &[Arc<Server>]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ends, servers) = (stop.clone(), servers.to_vec());
        let thread = std::thread::spawn(move || {
            let mut answered = Vec::new();
            for number in 0.. {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("write-{number}");
                let server: &Server = &servers[number % servers.len()];
                if server.kubectl(&["create", "configmap", &name]).status.success() {
                    answered.push(name);
                }
            }
            answered
        });
        Self { stop, thread }
    }

    /// The names of objects that were answered.
    pub fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
