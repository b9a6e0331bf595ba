//! Clients and shims that die, and what is found afterwards.

use shim::{ContainerPhase, Error, Shim};

use crate::support::{self, PATIENCE, exit_of, fixture, fixtures};

#[tokio::test]
async fn a_shim_outlives_its_client_and_is_found_again() {
    let Some(f) = fixture() else { return };
    let shim = f.start().await;
    let pid = shim.state().await.unwrap().shim_pid;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    assert_ne!(fields[1], std::process::id().to_string(), "nobody's child");
    assert_ne!(fields[3], nix::unistd::getsid(None).unwrap().to_string(), "a session of its own");
    let mut request = f.bundle("c", "read x; exit 5", |_| {});
    request.stdin = true;
    f.run(&shim, request).await;
    drop(shim);
    let found = shim::scan(f.shim_dir().parent().unwrap()).unwrap();
    assert_eq!(found, [f.shim_dir()]);
    let shim = Shim::connect(&found[0]).await.unwrap();
    let (state, mut events) = shim.subscribe().await.unwrap();
    assert_eq!(state.containers[&f.id("c")].phase, ContainerPhase::Running);
    shim.close_stdin(&f.id("c")).await.unwrap();
    assert_eq!(exit_of(&mut events, &f.id("c")).await.code, 5);
    drop((shim, events));
    // The exit is there for whoever comes later.
    let shim = Shim::connect(&found[0]).await.unwrap();
    let state = shim.state().await.unwrap();
    assert_eq!(state.containers[&f.id("c")].exit.as_ref().unwrap().code, 5);
    assert!(matches!(shim::clean_up_dead(&found[0]).await, Err(Error::Protocol(_))));
    shim.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_a_killed_shim_leaves_is_cleaned_up() {
    for mut f in fixtures() {
        if f.runtime.len() == 2 {
            // The client is no part of the one binary here.
            f.runtime[0] = support::program();
        }
        let shim = f.start().await;
        let (state, mut events) = shim.subscribe().await.unwrap();
        f.run(&shim, f.bundle("done", "exit 3", |_| {})).await;
        exit_of(&mut events, &f.id("done")).await;
        let running = f.run(&shim, f.bundle("runs", "sleep 1000", |_| {})).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(state.shim_pid), nix::sys::signal::SIGKILL)
            .unwrap();
        assert!(tokio::time::timeout(PATIENCE, events.next()).await.unwrap().is_none());
        assert!(Shim::connect(shim.dir()).await.unwrap_err().is_gone());
        let left = shim::clean_up_dead(shim.dir()).await.unwrap();
        let codes: Vec<(String, i32)> =
            left.iter().map(|c| (c.container.id.clone(), c.exit.as_ref().unwrap().code)).collect();
        assert!(codes.contains(&(f.id("done"), 3)) && codes.contains(&(f.id("runs"), 255)), "{codes:?}");
        assert!(!std::path::Path::new(&format!("/proc/{}/exe", running.pid)).exists());
        assert!(running.cgroups.values().all(|dir| !dir.exists()), "{:?}", f.runtime);
        shim::clean_up_dead(shim.dir()).await.unwrap();
    }
}

#[tokio::test]
async fn a_shim_that_cannot_start_says_why() {
    let Some(f) = fixture() else { return };
    let mut config = f.config();
    config.sysctls = [("kernel.no_such_thing".to_owned(), "1".to_owned())].into();
    let program = [support::program(), "shim".to_owned()];
    let error = Shim::start(&program, &f.shim_dir(), &config).await.unwrap_err().to_string();
    assert!(error.starts_with("start shim: set sysctl kernel.no_such_thing"), "{error}");
    assert!(Shim::connect(&f.shim_dir()).await.unwrap_err().is_gone());
}
