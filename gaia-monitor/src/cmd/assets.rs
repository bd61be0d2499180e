//! `assets NAME`: prints a file that the program carries.

use super::print;
use crate::assets::Asset;
use crate::cli;
use crate::exit::{Exit, Failure};

pub fn assets(args: &cli::Assets) -> Result<Exit, Failure> {
    print(&Asset::from(args.name).content())?;
    Ok(Exit::Ok)
}
