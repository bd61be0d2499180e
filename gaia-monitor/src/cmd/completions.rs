//! `completions SHELL`: prints a shell's completion script.

use clap::CommandFactory;

use super::print;
use crate::cli::{Cli, Completions};
use crate::exit::{CommandFailure, Exit};

pub fn completions(args: &Completions) -> Result<Exit, CommandFailure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gaia-monitor", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
