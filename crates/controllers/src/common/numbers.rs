//! Numbers that may be percentages (`maxSurge: 25%`).

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a fraction of a pod is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// To the next whole pod.
    Up,
    /// To the last whole pod.
    Down,
}

/// A text that is no percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value for IntOrString: invalid type: string is not a percentage")]
pub struct NotAPercentage;

/// The number that `value` says of `total`.
pub fn scaled(value: &IntOrString, total: i32, round: Round) -> Result<i32, NotAPercentage> {
    match value {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|p| p.parse().ok()).ok_or(NotAPercentage)?;
            let product = percent * i64::from(total);
            let whole = match round {
                Round::Up => product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0),
                Round::Down => product.div_euclid(100),
            };
            Ok(whole.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
        }
    }
}

/// maxSurge (rounded up) and maxUnavailable (rounded down) of a rollout; not both zero, or it could not move.
pub fn fenceposts(
    surge: Option<&IntOrString>,
    unavailable: Option<&IntOrString>,
    desired: i32,
) -> Result<(i32, i32), NotAPercentage> {
    let zero = IntOrString::Int(0);
    let surge = scaled(surge.unwrap_or(&zero), desired, Round::Up)?;
    let unavailable = scaled(unavailable.unwrap_or(&zero), desired, Round::Down)?;
    Ok((surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_and_never_stand_still() {
        let p = |t: &str| IntOrString::String(t.to_owned());
        assert_eq!(fenceposts(Some(&p("25%")), Some(&p("25%")), 10), Ok((3, 2)));
        assert_eq!(fenceposts(Some(&p("0%")), Some(&p("10%")), 3), Ok((0, 1)));
        assert_eq!(fenceposts(Some(&IntOrString::Int(2)), None, 3), Ok((2, 0)));
        assert_eq!(scaled(&p("x"), 3, Round::Up), Err(NotAPercentage));
    }
}
