//! Debian's `etcdctl` in one scripted session against our server and against Debian's etcd: the same output but for
//! ids, versions and sizes.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

mod common;

use common::{debian, etcdctl, etcdctl_with, installed, ours};
use regex::Regex;

/// A command, split at blanks. `{L}` is the lease granted last; text after `<<` is standard input.
const SCRIPT: &[&str] = &[
    "put a 1",
    "put a 2 --prev-kv",
    "put b 1 -w json",
    "put c 3",
    "put missing --ignore-value",
    "put a --ignore-value",
    "put --ignore-lease d 4",
    "get a",
    "get a -w json",
    "get a -w fields",
    "get a c",
    "get a c --order DESCEND",
    "get --prefix ''",
    "get a --from-key --limit 2",
    "get a --from-key --limit 2 -w json",
    "get a --from-key --sort-by VERSION --order DESCEND -w json",
    "get a --from-key --sort-by MODIFY --limit 1 -w json",
    "get a --from-key --keys-only",
    "get a --from-key --print-value-only",
    "get a --rev 2",
    "get a --rev 99",
    "get a --consistency s",
    "get nothing -w json",
    "del b -w json",
    "del b",
    "del c --prev-kv",
    "del nothing --prefix -w json",
    "put x/1 1",
    "put x/2 2",
    "del x/ --prefix --prev-kv",
    "txn -w json << mod(\"a\") > \"0\"\n\nput t 1\nget a\n\nput t 2\n\n",
    "txn << ver(\"a\") = \"17\"\n\nput t 1\n\nget t\ndel t\nget t\n\n",
    "txn << value(\"t\") = \"x\"\n\nput t 1\n\nput u 1\nput u 2\n\n",
    "txn << \n\nput u 1\n\n\n",
    "txn -w json << create(\"u\") > \"0\"\n\ndel nothing\nput v 1\nget v\ndel u\n\n\n",
    "lease grant 600",
    "put l1 1 --lease={L}",
    "put l2 2 --lease={L}",
    "get l1 -w json",
    "put l1 3 --ignore-lease",
    "lease keep-alive --once {L}",
    "lease timetolive {L} --keys -w fields",
    "lease list",
    "lease revoke {L}",
    "get l --prefix",
    "lease revoke {L}",
    "lease timetolive {L}",
    "lease keep-alive --once {L}",
    "put z 1 --lease=123abc",
    "lease grant 1",
    "lease grant 10000000000",
    "compaction 5",
    "get a --rev 4",
    "get a --rev 5",
    "compaction 5",
    "compaction 999",
    "watch a --rev 1",
    "check perf --help",
    "alarm list",
    "alarm disarm",
    "defrag",
    "user add kim:secret",
    "user add kim:secret",
    "user add nopw --no-password",
    "user list",
    "user get kim",
    "user get nobody",
    "role add reader",
    "role add reader",
    "role grant-permission reader read a c",
    "role grant-permission reader readwrite k",
    "role grant-permission reader write p --prefix",
    "role get reader",
    "role get nobody",
    "role list",
    "role revoke-permission reader p --prefix",
    "role revoke-permission reader nothing",
    "user grant-role kim reader",
    "user grant-role kim nobody",
    "user get kim",
    "user get kim --detail",
    "auth enable",
    "user add root:top",
    "user grant-role root root",
    "role add root",
    "user grant-role root root",
    "auth enable",
    "get a",
    "put a 1 --user kim:secret",
    "get a --user kim:secret",
    "get a --user kim:wrong",
    "get a d --user kim:secret",
    "put k 1 --user kim:secret",
    "user list --user kim:secret",
    "user get kim --user kim:secret",
    "member list --user kim:secret -w simple",
    "user delete root --user root:top",
    "user revoke-role root root --user root:top",
    "role delete reader --user root:top",
    "get a --user kim:secret",
    "user revoke-role kim reader --user root:top",
    "user delete kim --user root:top",
    "auth disable --user root:top",
    "get a",
    "member remove 123",
    "member promote 123",
    "move-leader 123",
    "version",
];

/// What of an output is allowed to differ.
fn plain(text: &str, endpoint: &str) -> String {
    let rules = [
        (r#""(cluster_id|member_id|raft_term|lease)":\d+"#, r#""$1":0"#),
        (r#""(ClusterID|MemberID|RaftTerm|Revision|Lease)" : \d+"#, r#""$1" : 0"#),
        (r"\b[0-9a-f]{13,16}\b", "ID"),
        (r"localhost:\d+|127\.0\.0\.1:\d+", "HOST"),
        (r"took [0-9.]+.?s", "took TIME"),
        (r"remaining\(\d+s\)", "remaining(N)"),
        (r#""(TTL|ID)" : \d+"#, r#""$1" : N"#),
        (r#""ts":"[^"]*""#, ""),
        (r#"endpoint://client-[-0-9a-f]+"#, "endpoint"),
        (r"\d{4}-\d\d-\d\d[T ][0-9:.+Z-]+", "TIME"),
    ];
    let mut text = text.replace(endpoint, "HOST");
    for (pattern, with) in rules {
        text = Regex::new(pattern).unwrap().replace_all(&text, with).into_owned();
    }
    // etcd tells the keys of a lease in no order.
    let mut lines: Vec<&str> = text.split('\n').collect();
    let is_key = |line: &str| line.starts_with("\"Key\" : ");
    lines.chunk_by_mut(|a, b| is_key(a) && is_key(b)).for_each(<[&str]>::sort_unstable);
    lines.join("\n")
}

fn session(endpoint: &str) -> Vec<String> {
    let mut lease = String::new();
    let granted = Regex::new("lease ([0-9a-f]+) granted").unwrap();
    let one = |line: &&str| {
        let (command, input) = line.split_once(" << ").map_or((*line, None), |(c, i)| (c, Some(i)));
        let command = command.replace("{L}", &lease);
        let args: Vec<&str> = command.split(' ').map(|arg| if arg == "''" { "" } else { arg }).collect();
        let text = match input {
            Some(input) => etcdctl_with(endpoint, &args, input),
            None => etcdctl(endpoint, &args).0,
        };
        if let Some(found) = granted.captures(&text) {
            lease = found[1].to_owned();
        }
        plain(&text, endpoint)
    };
    SCRIPT.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_sees_the_same() {
    if !installed("etcd") || !installed("etcdctl") {
        return;
    }
    let one = ours().await;
    let endpoint = one.endpoint.clone();
    let ours = tokio::task::spawn_blocking(move || session(&endpoint));
    let theirs = tokio::task::spawn_blocking(|| session(&debian(&[]).endpoint));
    let (ours, theirs) = (ours.await.unwrap(), theirs.await.unwrap());
    let mut different = Vec::new();
    for ((command, ours), theirs) in SCRIPT.iter().zip(ours).zip(theirs) {
        if ours != theirs {
            different.push(format!("$ etcdctl {command}\nours:   {ours:?}\ntheirs: {theirs:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
