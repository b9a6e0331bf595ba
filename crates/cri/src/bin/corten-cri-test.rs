//! What this crate's tests execute as a shim; users have `corten shim`.

fn main() {
    let mut args = std::env::args_os().skip(1);
    let code = match args.next() {
        Some(name) if name == "shim" => shim::main(args),
        _ => {
            eprintln!("usage: corten-cri-test shim --dir DIR");
            2
        }
    };
    std::process::exit(code);
}
