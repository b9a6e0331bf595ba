//! `cargo fuzz run protobuf`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::run("protobuf", data));
