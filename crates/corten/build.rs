//! Links the binary at a fixed address, as upstream's are.
//!
//! A position-independent executable is relocated whenever it is executed: megabytes of private memory in the shim of
//! every pod, and milliseconds in each of the short runs (`oci`, `cni`) that a pod's start consists of. Libraries,
//! stacks and heaps are placed at random all the same.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-no-pie");
}
