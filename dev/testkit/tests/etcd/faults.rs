//! What goes wrong with members, and its repair.

use std::time::Duration;

use fastrand::Rng;

use crate::disk::Fault;
use crate::members::Members;

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    KillLeader,
    KillAll,
    Pause,
    Restart,
    Replace,
    MoveLeader,
    LoseQuorum,
    /// The leader is with the fewer.
    Halves,
    /// Somebody hears nobody, but is heard.
    Deaf,
    /// Nobody hears the leader, which hears all.
    Mute,
    Lossy,
    SlowDisk,
    Clock,
    CrashInDefragment,
    CrashInCompaction,
}

/// What can happen to processes alone.
pub const OF_PROCESSES: [Trouble; 8] = [
    Trouble::KillLeader,
    Trouble::Pause,
    Trouble::Replace,
    Trouble::Restart,
    Trouble::MoveLeader,
    Trouble::LoseQuorum,
    Trouble::CrashInDefragment,
    Trouble::CrashInCompaction,
];

/// What can happen on a network besides.
pub const OF_MACHINES: [Trouble; 7] = [
    Trouble::Halves,
    Trouble::Deaf,
    Trouble::Mute,
    Trouble::Lossy,
    Trouble::SlowDisk,
    Trouble::Clock,
    Trouble::KillAll,
];

/// The longest that a clock is set forward or back.
const CLOCK_JUMP_MS: i64 = 7_200_000;
/// Of what members send each other this is lost, in percent.
const LOSS_PERCENT: u32 = 30;

fn pick(rng: &mut Rng, from: &[usize]) -> usize {
    from[rng.usize(..from.len())]
}

/// Brings it about, and ends it after a while.
pub async fn trouble(kind: Trouble, members: &mut Members, rng: &mut Rng) {
    let all = members.running();
    let pause = Duration::from_millis(rng.u64(300..2500));
    let leader = members.leader().unwrap_or_else(|| pick(rng, &all));
    // More often the leader than not: it has most to lose.
    let one = if rng.bool() { leader } else { pick(rng, &all) };
    let others: Vec<usize> = all.iter().copied().filter(|n| *n != one).collect();
    match kind {
        Trouble::KillLeader => restart(members, &[leader], pause).await,
        Trouble::KillAll => restart(members, &all, Duration::ZERO).await,
        Trouble::LoseQuorum => {
            // Without a majority nothing is answered, and nothing is answered wrongly.
            let mut most = all.clone();
            rng.shuffle(&mut most);
            most.truncate(all.len() / 2 + 1);
            restart(members, &most, pause / 2).await;
        }
        Trouble::Pause => {
            members.signal(one, libc::SIGSTOP);
            tokio::time::sleep(pause).await;
            members.signal(one, libc::SIGCONT);
        }
        Trouble::Replace => members.replace(one),
        Trouble::Restart => {
            members.stop(one);
            members.start(one);
        }
        Trouble::MoveLeader => {
            if let Some(to) = all.iter().copied().find(|n| *n != leader) {
                let id = members.id(to);
                members.etcdctl(&[leader], &["move-leader", &id]);
            }
        }
        Trouble::Halves => {
            let mut rest: Vec<usize> = all.iter().copied().filter(|n| *n != leader).collect();
            rng.shuffle(&mut rest);
            let mut fewer = rest.split_off(rest.len() - (all.len() - 1) / 2 + 1);
            fewer.push(leader);
            members.separate(&[&fewer, &rest]);
            tokio::time::sleep(pause * 2).await;
        }
        Trouble::Deaf => {
            members.lose(one, &members.addresses(&others), 100);
            tokio::time::sleep(pause).await;
        }
        Trouble::Mute => {
            let own = members.addresses(&[leader]);
            all.iter().filter(|n| **n != leader).for_each(|n| members.lose(*n, &own, 100));
            tokio::time::sleep(pause).await;
        }
        Trouble::Lossy => {
            let addresses = members.addresses(&all);
            all.iter().for_each(|n| members.lose(*n, &addresses, LOSS_PERCENT));
            tokio::time::sleep(pause * 2).await;
        }
        Trouble::SlowDisk => {
            members.members[one].faults.set(Fault::SyncDelayMs, rng.i64(20..700));
            tokio::time::sleep(pause * 2).await;
        }
        Trouble::Clock => {
            members.members[one].faults.set(Fault::ClockOffsetMs, rng.i64(-CLOCK_JUMP_MS..CLOCK_JUMP_MS));
            tokio::time::sleep(pause).await;
        }
        Trouble::CrashInDefragment => crash(members, one, &["defrag"], rng).await,
        Trouble::CrashInCompaction => {
            let compact = compaction(members, one);
            let compact: Vec<&str> = compact.iter().map(String::as_str).collect();
            crash(members, one, &compact, rng).await;
        }
    }
    members.heal();
}

async fn restart(members: &mut Members, which: &[usize], pause: Duration) {
    which.iter().for_each(|n| members.kill(*n));
    tokio::time::sleep(pause).await;
    which.iter().for_each(|n| members.start(*n));
}

/// Kills a member while it does something.
async fn crash(members: &mut Members, n: usize, command: &[&str], rng: &mut Rng) {
    let child = members.etcdctl_command(&[n], command).spawn();
    let mut child = child.unwrap();
    tokio::time::sleep(Duration::from_millis(rng.u64(5..60))).await;
    members.kill(n);
    _ = child.kill();
    _ = child.wait();
    members.start(n);
}

/// Forgets most of the history.
fn compaction(members: &Members, n: usize) -> Vec<String> {
    let status = members.etcdctl(&[n], &["get", "none", "-w", "fields"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    let revision = text.lines().find_map(|line| line.strip_prefix("\"Revision\" : ")?.parse::<i64>().ok());
    let keep = crate::KEEP_REVISIONS;
    vec!["compact".to_owned(), revision.map_or(1, |revision| (revision - keep).max(1)).to_string()]
}
