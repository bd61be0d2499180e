//! `cargo xtask bench`: the cost of the monitor. Each workload runs without and with the monitor in turns, in one run on
//! one machine. The result is a ratio: absolute rates differ from host to host, and no test depends on them.
//!
//! The benchmark touches only its own containers, and removes them, also on Ctrl-C and on failure.

mod watch;
mod work;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use gaia_monitor_tests::container::Container;
use gaia_monitor_tests::monitor::BINARY_ENV;
use gaia_monitor_tests::stack::Stack;
use gaia_monitor_tests::{cleanup, docker};

use crate::privilege;
use watch::Watch;
use work::Work;

/// Folder of this program in the containers.
const INSIDE: &str = "/bench";
const SERVES_WITHIN: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub struct Args {
    /// Turns of each workload; each turn runs it once without and once with the monitor.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Duration of one run of a workload, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Run only the workloads with this text in their name.
    #[arg(long)]
    only: Option<String>,
    /// The work of this program inside a container.
    #[arg(long, hide = true)]
    work: Option<Work>,
    #[arg(long, hide = true)]
    server: Option<SocketAddr>,
}

/// Measures and prints the table.
///
/// # Errors
/// When a requirement is missing or a workload fails; a ratio is never an error.
pub fn run(args: Args) -> Result<()> {
    let lasting = Duration::from_secs(args.seconds);
    if let Some(work) = args.work {
        return work.work(args.server, lasting);
    }
    cleanup::watch_signals()?;
    if privilege::is_root() {
        docker::version()?;
    }
    let binary = crate::test::build_monitor()?;
    privilege::become_root(&[(BINARY_ENV, binary.clone().into_os_string())])?;
    let stack = Stack::begin("bench", &mut |step| eprintln!("{step}"))?;
    let measured = measure(&stack, &binary, &args, lasting);
    let removed = stack.remove();
    let rows = measured?;
    println!("{}", table(&rows));
    println!("{}", machine());
    let disturbed = rows.iter().flat_map(|row| &row.turns).filter(|turn| turn.disturbed).count();
    if disturbed > 0 {
        println!("another gaia-monitor ran during {disturbed} turn(s): its probe distorts both rates");
    }
    removed
}

/// A workload. `once` runs it and returns a rate.
struct Workload<'a> {
    name: &'static str,
    once: Box<dyn Fn() -> Result<f64> + 'a>,
}

/// Result of one workload.
struct Row {
    name: &'static str,
    turns: Vec<Turn>,
}

/// One run of a workload without the monitor, and one with it, in either order.
struct Turn {
    bare: f64,
    monitored: f64,
    lost: u64,
    cpu_seconds: f64,
    peak_mib: f64,
    /// Another monitor ran at the beginning or the end, and its probe slowed both runs.
    disturbed: bool,
}

fn measure(stack: &Stack, binary: &Path, args: &Args, lasting: Duration) -> Result<Vec<Row>> {
    let program = Program::copy_into(&stack.folder().join("bin"))?;
    let seconds = args.seconds.to_string();
    let server = program.start(stack, "server", &["--work=serve"])?;
    server.wait_listening(work::PORT, SERVES_WITHIN)?;
    let address = format!("{}:{}", server.ip()?, work::PORT);
    let client = stack.container("client").mount(&program.folder, INSIDE).start(&["sleep", "infinity"])?;
    let inside = |arguments: &[&str]| -> Result<f64> {
        let command = program.command(&[arguments, &["--seconds", &seconds]].concat());
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        client.exec(&command)?.trim().parse().context("the workload printed no rate")
    };
    let all = [
        Workload { name: "resets in a container", once: Box::new(|| inside(&["--work=churn"])) },
        Workload {
            name: "HTTP keep-alive between two containers",
            once: Box::new(|| inside(&["--work=keep-alive", "--server", &address])),
        },
        Workload { name: "resets of the host's own", once: Box::new(|| work::churn(lasting)) },
        Workload { name: "HTTP keep-alive of the host's own", once: Box::new(|| work::keep_alive_here(lasting)) },
    ];
    let wanted = |workload: &&Workload| args.only.as_deref().is_none_or(|only| workload.name.contains(only));
    let mut rows = Vec::new();
    for workload in all.iter().filter(wanted) {
        // Warms the caches; not measured.
        (workload.once)()?;
        let mut turns = Vec::new();
        for round in 0..args.rounds {
            cleanup::check_interrupt()?;
            let turn = turn(workload, binary, stack.folder(), round % 2 == 0)?;
            eprintln!("{}: {:.0}/s, {:.0}/s monitored", workload.name, turn.bare, turn.monitored);
            turns.push(turn);
        }
        rows.push(Row { name: workload.name, turns });
    }
    ensure!(!rows.is_empty(), "no workload has this text in its name");
    Ok(rows)
}

/// The order alternates, so that a machine that slows down biases neither rate.
fn turn(workload: &Workload, binary: &Path, folder: &Path, bare_first: bool) -> Result<Turn> {
    let mut disturbed = other_monitor_runs()?;
    let first = if bare_first { Some((workload.once)()?) } else { None };
    let watch = Watch::start(binary, folder)?;
    let before = watch.usage()?;
    let monitored = (workload.once)()?;
    let after = watch.usage()?;
    let lost = watch.stop()?;
    let bare = first.map_or_else(&workload.once, Ok)?;
    disturbed |= other_monitor_runs()?;
    let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
    Ok(Turn { bare, monitored, lost, cpu_seconds, peak_mib: after.peak_mib, disturbed })
}

/// Valid only while no monitor of this benchmark runs.
fn other_monitor_runs() -> Result<bool> {
    let processes = fs::read_dir("/proc").context("cannot read /proc")?;
    // A process may exit in the meantime.
    let mut names = processes.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    Ok(names.any(|name| name.trim() == "gaia-monitor"))
}

/// Copy of this program with its loaded libraries, which runs in any image regardless of the image's C library.
struct Program {
    folder: PathBuf,
    loader: String,
    name: String,
}

impl Program {
    fn copy_into(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let own = std::env::current_exe().context("cannot find the path of this program")?;
        let maps = fs::read_to_string("/proc/self/maps").context("cannot read /proc/self/maps")?;
        let mapped = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        let libraries: BTreeSet<PathBuf> = mapped.filter(|path| path.contains(".so")).map(PathBuf::from).collect();
        let mut loader = None;
        for file in libraries.iter().chain([&own]) {
            let name = file.file_name().context("a path without a file name")?;
            fs::copy(file, folder.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
            let name = name.to_string_lossy();
            if name.starts_with("ld-") {
                loader = Some(name.into_owned());
            }
        }
        let name = own.file_name().context("a path without a file name")?.to_string_lossy().into_owned();
        Ok(Self { folder: folder.to_owned(), loader: loader.context("no ld.so is mapped into this program")?, name })
    }

    fn command(&self, arguments: &[&str]) -> Vec<String> {
        let own = [format!("{INSIDE}/{}", self.loader), "--library-path".into(), INSIDE.into()];
        let program = [format!("{INSIDE}/{}", self.name), "bench".into()];
        own.into_iter().chain(program).chain(arguments.iter().map(|&word| word.to_owned())).collect()
    }

    fn start(&self, stack: &Stack, service: &str, arguments: &[&str]) -> Result<Container> {
        let command = self.command(arguments);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        stack.container(service).mount(&self.folder, INSIDE).start(&command)
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["workload", "bare /s", "monitored /s", "ratio", "range", "lost", "CPU s", "peak MiB"]);
    for Row { name, turns } in rows {
        let median = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure).collect());
        let ratios = || turns.iter().map(|turn| turn.monitored / turn.bare);
        table.add_row([
            (*name).to_owned(),
            format!("{:.0}", median(|turn| turn.bare)),
            format!("{:.0}", median(|turn| turn.monitored)),
            format!("{:.3}", median(|turn| turn.monitored / turn.bare)),
            format!("{:.2}-{:.2}", ratios().fold(f64::INFINITY, f64::min), ratios().fold(f64::NEG_INFINITY, f64::max)),
            turns.iter().map(|turn| turn.lost).sum::<u64>().to_string(),
            format!("{:.2}", median(|turn| turn.cpu_seconds)),
            format!("{:.0}", turns.iter().map(|turn| turn.peak_mib).fold(0.0, f64::max)),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The median; of an even number, the mean of both middle values.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let half = figures.len() / 2;
    match (figures.get(half.wrapping_sub(1)), figures.get(half)) {
        (Some(below), Some(above)) if figures.len().is_multiple_of(2) => f64::midpoint(*below, *above),
        (_, Some(middle)) => *middle,
        (_, None) => f64::NAN,
    }
}

fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().nth(2).unwrap_or("unknown");
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!("Linux {}, {processors} processors, load {load} over the last 15 minutes", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_the_median_of_odd_and_even_numbers() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]).to_bits(), 3.0_f64.to_bits());
    }
}
