//! What commands print.

/// `println!` whose reader may go away, as `| head` does, without ending the command in the middle.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

pub(crate) use say;
