//! The runtime entry as a program of its own, for this crate's and the shim's tests; `corten oci` is what is shipped.

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    std::process::exit(oci::main(&args, 1));
}
