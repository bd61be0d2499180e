//! `assets NAME`: prints a bundled file.

use super::print;
use crate::cli;
use crate::exit::{Exit, Failure};

pub fn assets(args: &cli::Assets) -> Result<Exit, Failure> {
    print(&args.name.content())?;
    Ok(Exit::Ok)
}
