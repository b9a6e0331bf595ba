//! Shuffle sharding: a flow is dealt a hand of queues, so that two flows hardly ever share all of theirs.

/// The queues of a flow, `hand` different ones below `queues`.
pub fn deal(flow: u64, queues: usize, hand: usize) -> Vec<usize> {
    let mut rest = flow;
    let mut dealt: Vec<usize> = Vec::with_capacity(hand);
    for i in 0..hand.min(queues) {
        let left = (queues - i) as u64;
        let mut card = (rest % left) as usize;
        rest /= left;
        // The card counts among those that are not dealt yet.
        let mut taken = dealt.clone();
        taken.sort_unstable();
        for other in taken {
            if card >= other {
                card += 1;
            }
        }
        dealt.push(card);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_have_different_cards_and_depend_on_the_flow() {
        let mut seen = std::collections::BTreeSet::new();
        for flow in 0..1000_u64 {
            let flow = flow.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut hand = deal(flow, 64, 8);
            assert_eq!(hand, deal(flow, 64, 8));
            hand.sort_unstable();
            hand.dedup();
            assert_eq!(hand.len(), 8);
            assert!(hand.iter().all(|card| *card < 64));
            seen.insert(hand);
        }
        assert!(seen.len() > 990, "{}", seen.len());
        assert_eq!(deal(5, 3, 8).len(), 3);
    }
}
