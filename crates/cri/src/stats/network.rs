//! What passed through a pod's network interfaces.

use std::path::Path;

use proto::cri::v1 as cri;

use super::value;
use crate::netns;

const DEFAULT_INTERFACE: &str = "eth0";
const LOOPBACK: &str = "lo";

/// The counters of a network namespace; `None` if it is gone. Blocks.
pub fn usage(netns_path: &Path, now: i64) -> Option<cri::NetworkUsage> {
    let text = netns::interface_counters(Some(netns_path)).ok()?;
    let mut interfaces = parse(&text);
    let default = interfaces.iter().position(|i| i.name == DEFAULT_INTERFACE);
    let default_interface = default.map(|index| interfaces.remove(index));
    Some(cri::NetworkUsage { timestamp: now, default_interface, interfaces })
}

/// `/proc/net/dev`: two lines of headings, then name, eight numbers received, eight sent.
fn parse(text: &str) -> Vec<cri::NetworkInterfaceUsage> {
    let lines = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, numbers)| {
            let numbers: Vec<Option<u64>> = numbers.split_whitespace().map(|n| n.parse().ok()).collect();
            let at = |index: usize| value(numbers.get(index).copied().flatten());
            cri::NetworkInterfaceUsage {
                name: name.trim().to_owned(),
                rx_bytes: at(0),
                rx_errors: at(2),
                tx_bytes: at(8),
                tx_errors: at(10),
            }
        })
        .filter(|interface| interface.name != LOOPBACK)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_in_their_columns() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
                    eth0: 10 1 2 0 0 0 0 0 20 1 3 0 0 0 0 0\n";
        let found = parse(text);
        assert_eq!(found.len(), 1);
        let number = |v: &Option<cri::UInt64Value>| v.unwrap().value;
        let eth0 = &found[0];
        assert_eq!(
            [
                number(&eth0.rx_bytes),
                number(&eth0.rx_errors),
                number(&eth0.tx_bytes),
                number(&eth0.tx_errors)
            ],
            [10, 2, 20, 3]
        );
    }
}
