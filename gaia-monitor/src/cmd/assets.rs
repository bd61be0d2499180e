//! `assets NAME`: prints a bundled file.

use super::print;
use crate::cli;
use crate::exit::{CommandFailure, Exit};

pub fn assets(args: &cli::Assets) -> Result<Exit, CommandFailure> {
    print(&args.name.content())?;
    Ok(Exit::Ok)
}
