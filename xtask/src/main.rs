//! Developer commands, one verb a file.

fn main() {}
