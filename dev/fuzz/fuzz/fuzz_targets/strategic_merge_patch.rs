//! `cargo fuzz run strategic_merge_patch`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::run("strategic_merge_patch", data));
