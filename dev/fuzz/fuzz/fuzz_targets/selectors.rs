//! `cargo fuzz run selectors`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::run("selectors", data));
