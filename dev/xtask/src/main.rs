//! Tasks of the project: tests, checks, generated code and benchmarks.

fn main() {}
