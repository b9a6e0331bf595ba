//! Signals by the names that CRI and images use.

use proto::cri::v1::Signal;

use crate::error::{Error, Result};

const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Signals below the real-time ones. Of those with one number the first is the name to show.
const NAMES: [(&str, i32); 34] = [
    ("SIGABRT", libc::SIGABRT),
    ("SIGALRM", libc::SIGALRM),
    ("SIGBUS", libc::SIGBUS),
    ("SIGCHLD", libc::SIGCHLD),
    ("SIGCLD", libc::SIGCHLD),
    ("SIGCONT", libc::SIGCONT),
    ("SIGFPE", libc::SIGFPE),
    ("SIGHUP", libc::SIGHUP),
    ("SIGILL", libc::SIGILL),
    ("SIGINT", libc::SIGINT),
    ("SIGIO", libc::SIGIO),
    ("SIGIOT", libc::SIGABRT),
    ("SIGKILL", libc::SIGKILL),
    ("SIGPIPE", libc::SIGPIPE),
    ("SIGPOLL", libc::SIGIO),
    ("SIGPROF", libc::SIGPROF),
    ("SIGPWR", libc::SIGPWR),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGSEGV", libc::SIGSEGV),
    ("SIGSTKFLT", libc::SIGSTKFLT),
    ("SIGSTOP", libc::SIGSTOP),
    ("SIGSYS", libc::SIGSYS),
    ("SIGTERM", libc::SIGTERM),
    ("SIGTRAP", libc::SIGTRAP),
    ("SIGTSTP", libc::SIGTSTP),
    ("SIGTTIN", libc::SIGTTIN),
    ("SIGTTOU", libc::SIGTTOU),
    ("SIGURG", libc::SIGURG),
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGVTALRM", libc::SIGVTALRM),
    ("SIGWINCH", libc::SIGWINCH),
    ("SIGXCPU", libc::SIGXCPU),
    ("SIGXFSZ", libc::SIGXFSZ),
];

/// The signal that asks a container to end: its own, else its image's, else SIGTERM.
pub fn choose(asked: Signal, of_image: &str) -> Result<i32> {
    if asked != Signal::RuntimeDefault {
        return parse(asked.as_str_name());
    }
    if of_image.is_empty() { Ok(libc::SIGTERM) } else { parse(of_image) }
}

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`, `SIGRTMINPLUS3` and the like.
pub fn parse(text: &str) -> Result<i32> {
    let invalid = || Error::InvalidArgument(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase().replace("PLUS", "+").replace("MINUS", "-");
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
    let number = match (name.strip_prefix("SIGRTMIN"), name.strip_prefix("SIGRTMAX")) {
        (Some(rest), _) => offset(rest).map(|o| RTMIN + o),
        (_, Some(rest)) => offset(rest).map(|o| RTMAX + o),
        _ => None,
    };
    number.filter(|n| (RTMIN..=RTMAX).contains(n)).ok_or_else(invalid)
}

/// The signal as CRI names it.
pub fn to_cri(number: i32) -> Signal {
    let name = match number {
        RTMIN => "SIGRTMIN".to_owned(),
        RTMAX => "SIGRTMAX".to_owned(),
        n if (RTMIN..=RTMIN + 15).contains(&n) => format!("SIGRTMINPLUS{}", n - RTMIN),
        n if n > RTMIN => format!("SIGRTMAXMINUS{}", RTMAX - n),
        n => NAMES.iter().find(|(_, known)| *known == n).map_or("", |(name, _)| name).to_owned(),
    };
    Signal::from_str_name(&name).unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_of_cri_goes_there_and_back() {
        for value in 1..=65 {
            let signal = Signal::try_from(value).unwrap();
            let number = parse(signal.as_str_name()).unwrap();
            assert_eq!(parse(to_cri(number).as_str_name()).unwrap(), number, "{signal:?}");
        }
    }

    #[test]
    fn images_name_signals_in_their_own_ways() {
        let chosen = |text: &str| choose(Signal::RuntimeDefault, text).ok();
        assert_eq!(chosen(""), Some(15));
        assert_eq!(chosen("SIGQUIT"), Some(3));
        assert_eq!(chosen("quit"), Some(3));
        assert_eq!(chosen("9"), Some(9));
        assert_eq!(chosen("SIGRTMIN+3"), Some(37));
        assert_eq!(chosen("RTMAX-1"), Some(63));
        assert_eq!(chosen("NONSENSE"), None);
        assert_eq!(chosen("99"), None);
        assert_eq!(choose(Signal::Sigusr1, "SIGQUIT").unwrap(), 10);
    }
}
