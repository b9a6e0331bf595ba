//! Lends seats of levels that do not need theirs to levels that need more (upstream's `updateBorrowing`).

use std::sync::Arc;

use super::config::Config;
use super::level::Level;

/// Steps of the search for the fair fraction; each halves the error.
const STEPS: usize = 48;

/// What one level needs.
#[derive(Debug, Clone, Copy)]
struct Need {
    least: f64,
    most: f64,
    target: f64,
}

/// Seats for each need, `total` together as far as the bounds allow: each target times one common factor.
fn share(total: f64, needs: &[Need]) -> Vec<f64> {
    let at = |factor: f64| needs.iter().map(move |n| (n.target * factor).clamp(n.least, n.most));
    let (mut low, mut high) = (0.0, total.max(1.0));
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if at(middle).sum::<f64>() > total { high = middle } else { low = middle }
    }
    at(low).collect()
}

/// Gives every level the seats for what it wanted since the last time.
pub fn adjust(config: &Config, seats: u32) {
    let levels: Vec<&Arc<Level>> = config.levels.values().filter(|level| !level.is_exempt()).collect();
    let needs: Vec<Need> = levels
        .iter()
        .map(|level| {
            let mut state = level.state.lock();
            let wanted = state.high_water.max(state.seats_in_use);
            state.high_water = state.seats_in_use;
            let limits = state.limits;
            // Who wants little keeps what it does not lend, and may have its nominal part back at once.
            let target = f64::from(wanted.max(limits.least).max(1));
            Need { least: f64::from(limits.least.max(1)), most: f64::from(limits.most.max(1)), target }
        })
        .collect();
    for (level, current) in levels.iter().zip(share(f64::from(seats), &needs)) {
        level.set_current(current.round() as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_levels_lend_and_busy_ones_borrow_within_bounds() {
        let need = |least: f64, most: f64, target: f64| Need { least, most, target };
        let shared = share(100.0, &[need(10.0, 100.0, 10.0), need(20.0, 100.0, 200.0), need(5.0, 8.0, 50.0)]);
        assert!((shared.iter().sum::<f64>() - 100.0).abs() < 0.01, "{shared:?}");
        assert!(shared[0] >= 10.0 && shared[1] > 70.0 && shared[2] <= 8.0, "{shared:?}");
        let crowded = share(10.0, &[need(4.0, 10.0, 50.0), need(4.0, 10.0, 50.0)]);
        assert!((crowded[0] - 5.0).abs() < 0.01 && (crowded[1] - 5.0).abs() < 0.01, "{crowded:?}");
    }
}
