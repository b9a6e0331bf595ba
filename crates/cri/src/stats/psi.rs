//! Pressure stall information.

use std::path::Path;

use proto::cri::v1 as cri;

/// Reads a pressure file; `None` if the kernel has none.
pub fn read(path: &Path) -> Option<cri::PsiStats> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = |kind: &str| text.lines().find_map(|line| line.strip_prefix(kind)).map(parse);
    Some(cri::PsiStats { full: line("full "), some: line("some ") })
}

/// `avg10=0.00 avg60=0.00 avg300=0.00 total=0`, the total in microseconds.
fn parse(line: &str) -> cri::PsiData {
    let field = |name: &str| line.split(' ').find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
    let average = |name: &str| field(name).and_then(|v| v.parse().ok()).unwrap_or(0.0);
    let total: u64 = field("total").and_then(|v| v.parse().ok()).unwrap_or(0);
    cri::PsiData {
        total: total * 1000,
        avg10: average("avg10"),
        avg60: average("avg60"),
        avg300: average("avg300"),
    }
}
