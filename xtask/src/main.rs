//! Developer commands, one verb a file. Nothing that users of the installed program need may live here.

mod bench;
mod demo;
mod ebpf;
mod matrix;
mod privilege;
mod run;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gaia_monitor_tests::cleanup;

/// What a shell makes of SIGINT.
const INTERRUPTED: u8 = 130;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Developer commands of gaia-monitor")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the monitor and run it on this host's containers.
    Run(run::Args),
    /// Watch a crash in a small GAIA stack of real containers being pinned.
    Demo(demo::Args),
    /// Run every suite: offline ones, then the live one on real Docker with the real probe.
    Test(test::Args),
    /// Show what the monitor costs: workloads without it and beside it, as ratios.
    Bench(bench::Args),
    /// Play what can go wrong, as often as you like, and tabulate how right the monitor is.
    Matrix(matrix::Args),
    /// Rebuild the probe object that the binary embeds.
    Ebpf(ebpf::Args),
    /// Check the house rules: headers, lengths, links.
    Tidy(tidy::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(args) => run::run(args),
        Verb::Demo(args) => demo::run(args),
        Verb::Test(args) => test::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Matrix(args) => matrix::run(args),
        Verb::Ebpf(args) => ebpf::run(args),
        Verb::Tidy(args) => tidy::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if cleanup::is_interrupted() => {
            eprintln!("{}", cleanup::INTERRUPTED);
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
