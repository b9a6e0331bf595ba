//! Small values of the command line.

use std::time::Duration;

use anyhow::{Context, bail};

/// Who we are among candidates for leadership: host and a random part, as upstream.
pub fn candidate() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let unique = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    format!("{}_{}", host.trim(), unique.trim())
}

/// The machine's name in lower case: the name of its node.
pub fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the host name")?;
    let name = name.trim().to_lowercase();
    if name.is_empty() || name == "(none)" {
        bail!("the machine has no host name; name the node yourself");
    }
    Ok(name)
}

/// Reads a duration in Go's form of hours, minutes and seconds: `40s`, `5m`, `1h30m`.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 40s or 1m30s");
    let (mut total, mut number) = (0_u64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        total += number.parse::<u64>().map_err(|_| wrong())? * unit;
        number.clear();
    }
    if !number.is_empty() || text.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_go_form() {
        assert_eq!(seconds("1h2m3s"), Ok(Duration::from_secs(3723)));
        assert_eq!(seconds("40s"), Ok(Duration::from_secs(40)));
        assert!(seconds("40").is_err() && seconds("").is_err() && seconds("5x").is_err());
    }
}
