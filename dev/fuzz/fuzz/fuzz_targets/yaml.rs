//! `cargo fuzz run yaml`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::run("yaml", data));
