//! `cargo fuzz run expression`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::run("expression", data));
