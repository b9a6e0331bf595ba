//! `cargo fuzz run json_patch`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::run("json_patch", data));
