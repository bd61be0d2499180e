//! Developer commands, one module for each. Users of the installed program must not need any of them.

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

/// Exit code of a shell after SIGINT.
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
    /// Break a connection in a small GAIA stack of real containers, and show the incident that explains it.
    Demo(demo::Args),
    /// Run every suite: first the offline ones, then the live one on real Docker with the real probe.
    Test(test::Args),
    /// Measure the cost of the monitor: workloads with and without it, as ratios.
    Bench(bench::Args),
    /// Run the live cases repeatedly, and tabulate the accuracy of the monitor.
    Matrix(matrix::Args),
    /// Rebuild the probe object that the binary embeds.
    Ebpf(ebpf::Args),
    /// Check the house rules: files, voice, commits, structure, names, docs.
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
