//! A program for the tests: `shim ARGS…` is the shim, `oci ARGS…` the runtime, as in the one binary that is shipped.

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let code = match args.get(1).and_then(|a| a.to_str()) {
        Some("shim") => shim::main(args.into_iter().skip(2)),
        Some("oci") => oci::main(&args, 2),
        _ => {
            eprintln!("usage: corten-shim-test shim|oci ARGS…");
            2
        }
    };
    std::process::exit(code);
}
