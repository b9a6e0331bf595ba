//! A short run of every target on damaged samples, the same ones each time.

use fuzz::TARGETS;

/// Inputs per target; `FUZZ_RUNS` asks for more.
const RUNS: u64 = 3_000;
/// Bytes that mean something to one of the targets.
const MEANINGFUL: &[u8] = b"{}[]\",:\\0-\x80\n\0 $.'()!=<>&*|?%aeE9\xff";

fn damage(sample: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..random.usize(0..6) {
        let at = random.usize(0..bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        let meaningful = MEANINGFUL[random.usize(0..MEANINGFUL.len())];
        match random.u8(0..6) {
            _ if bytes.is_empty() => bytes.push(meaningful),
            0 => bytes[at] = random.u8(..),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, meaningful),
            3 => bytes.truncate(at),
            _ => {
                // A piece of the sample elsewhere, or taken out.
                let end = (at + random.usize(0..40)).min(bytes.len());
                let piece: Vec<u8> = bytes.drain(at..end).collect();
                if random.bool() {
                    let to = random.usize(0..=bytes.len());
                    bytes.splice(to..to, piece.iter().chain(&piece).copied());
                }
            }
        }
    }
    bytes
}

#[test]
fn no_target_fails_on_damaged_samples() {
    let runs = std::env::var("FUZZ_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(RUNS);
    for target in TARGETS {
        for run in 0..runs {
            let mut random = fastrand::Rng::with_seed(run);
            let sample = target.samples[random.usize(0..target.samples.len())];
            let input = damage(sample, &mut random);
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(outcome.is_ok(), "{} run {run}: {}", target.name, String::from_utf8_lossy(&input));
        }
    }
}

#[test]
fn samples_are_no_errors() {
    let deployment = schema::GroupVersionKind::new("apps", "v1", "Deployment");
    let schema = schema::Catalog::builtin().kind(&deployment).expect("a known kind");
    for target in TARGETS {
        (target.run)(target.samples[0]);
        match target.name {
            "json" | "protobuf" => assert!(codec::json::decode(target.samples[0], schema).is_ok()),
            "yaml" => assert!(codec::yaml::parse(target.samples[0]).is_ok()),
            "expression" => {
                for sample in target.samples {
                    let source = std::str::from_utf8(sample).expect("text");
                    let env = cel::Env::new().variable("self", cel::Type::Dyn);
                    if let Err(error) = env.compile(source, &[]) {
                        panic!("{source}: {error}");
                    }
                }
            }
            _ => {}
        }
    }
}
