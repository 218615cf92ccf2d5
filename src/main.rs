//! `herald`: one program, its role chosen by the first argument.

fn main() {}
