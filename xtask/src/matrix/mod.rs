//! `cargo xtask matrix`: accuracy of the monitor per live case, on real containers, compared with an independent witness.
//!
//! A wrong run is counted and does not stop the matrix. Each run is recorded immediately, per kernel and binary, so that
//! an interrupted matrix can be resumed. The live suite decides what is right; this module must not.

mod host;
mod page;
mod results;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use gaia_monitor_tests::cleanup;
use gaia_monitor_tests::docker;
use gaia_monitor_tests::host::{self as needs, Need};
use gaia_monitor_tests::live_case::LiveCase as Row;
use gaia_monitor_tests::live_cases as rows;
use gaia_monitor_tests::monitor::{BINARY_ENV, Monitor, Options, use_binary};
use gaia_monitor_tests::recordings;

use crate::privilege;
use results::{Results, Run};

#[derive(clap::Args)]
pub struct Args {
    /// Live cases or groups of them; without a name, those of continuous integration.
    #[arg(value_name = "NAME")]
    rows: Vec<String>,
    /// Run every live case.
    #[arg(long, conflicts_with = "rows")]
    all: bool,
    /// Number of runs per live case, those of earlier calls included.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Number of live cases that run in parallel. More than one increases the measured delays.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    jobs: u32,
    /// Duration of the live cases with clean traffic.
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<f64>,
    /// Discard earlier runs of the selected live cases.
    #[arg(long)]
    fresh: bool,
    /// List the live cases and exit.
    #[arg(long)]
    list: bool,
    /// Keep the recording of a right run of each live case in this folder, for `tests/recordings`.
    #[arg(long, value_name = "FOLDER")]
    record_goldens: Option<PathBuf>,
    /// Write the table, with kernel and versions, to gaia-monitor/docs/accuracy.md.
    #[arg(long)]
    write: bool,
}

/// Runs the selected live cases and prints the table.
///
/// # Errors
/// When a requirement is missing or a run is wrong.
pub fn run(args: Args) -> Result<()> {
    let rows = chosen(&args)?;
    if args.list {
        rows.iter().for_each(|row| println!("{:<12} {:<34} {}", row.group, row.id, row.title));
        return Ok(());
    }
    cleanup::watch_signals()?;
    if privilege::is_root() {
        docker::version()?;
    }
    let binary = crate::test::build_monitor()?;
    privilege::become_root(&[(BINARY_ENV, binary.clone().into_os_string())])?;
    needs::ensure(&[Need::Bpftrace], &mut |step| eprintln!("{step}"))?;
    use_binary(&binary);
    if let Some(minutes) = args.minutes {
        let lasting = Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?;
        gaia_monitor_tests::stage::traffic_lasts(lasting);
    }
    if let Some(folder) = &args.record_goldens {
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let mut results = Results::open(&binary)?;
    if args.fresh {
        results.forget(&rows)?;
    }
    eprintln!("runs are written to {}", results.path().display());
    check_start(&results)?;
    // Wrong runs of earlier calls; those of this call are printed as they end.
    for run in results.wrong(&rows) {
        eprintln!("earlier: {}", described(run));
    }
    let played = play(&rows, &args, &mut results);
    println!("{}", table::of(&rows, &results));
    played?;
    if args.write {
        page::write(&rows, &results)?;
    }
    let wrong = results.wrong(&rows).count();
    ensure!(wrong == 0, "{wrong} wrong run(s), see above");
    Ok(())
}

/// Fails early if the monitor does not start: every run would be wrong for that reason alone.
fn check_start(results: &Results) -> Result<()> {
    let folder = results.folder().join("start");
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let ended = Monitor::start(&folder, &Options::default())?.stop()?;
    ensure!(ended.status.success(), "the monitor exited with {}: {}", ended.status, ended.stderr);
    Ok(())
}

fn chosen(args: &Args) -> Result<Vec<Row>> {
    let mut all = rows::all();
    for name in &args.rows {
        ensure!(all.iter().any(|row| names(name, row)), "no live case or group is named `{name}`: see --list");
    }
    if args.list && args.rows.is_empty() {
        return Ok(all);
    }
    all.retain(|row| match args.rows.as_slice() {
        [] => args.all || row.in_ci,
        selected => selected.iter().any(|name| names(name, row)),
    });
    Ok(all)
}

fn names(name: &str, row: &Row) -> bool {
    row.id == name || row.group == name
}

/// Runs every live case once before the next turn, so that an interrupted matrix is missing turns, not cases.
fn play(rows: &[Row], args: &Args, results: &mut Results) -> Result<()> {
    let had: BTreeMap<&str, u32> = rows.iter().map(|row| (row.id, results.count(row.id))).collect();
    let due = (1..=args.runs).flat_map(|turn| rows.iter().map(move |row| (turn, row)));
    let due = Mutex::new(due.filter(|(turn, row)| had.get(row.id).is_none_or(|had| had < turn)));
    let folder = results.folder().to_owned();
    let results = Mutex::new(results);
    let next = || due.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || -> Result<()> {
        while let Some((turn, row)) = next() {
            cleanup::check_interrupt()?;
            let began = Instant::now();
            let keep = folder.join("wrong").join(format!("{}-{turn}", row.id));
            // The recording of minutes of traffic is too long for a golden.
            let goldens = args.record_goldens.as_ref().filter(|_| row.group != "traffic");
            let golden = goldens.map(|folder| recordings::place(folder, row.id)).transpose()?;
            let played = row.play(&keep, golden.as_deref());
            if cleanup::is_interrupted() {
                // A run that Ctrl-C interrupted is no result.
                bail!(cleanup::INTERRUPTED);
            }
            let run = Run::of(row.id, turn, began.elapsed(), played);
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("{}", described(&run));
            results.append(run)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a live case panicked"))?)
    })
}

/// Summary of one run.
fn described(run: &Run) -> String {
    let mut text = format!(
        "{} {}, run {} ({:.1} s)",
        if run.is_right() { "right" } else { "WRONG" },
        run.row,
        run.turn,
        run.seconds
    );
    for difference in &run.verdict.wrong {
        text.push_str(&format!("\n    {:?}: {}", difference.aspect, difference.text));
    }
    if let Some(kept) = &run.kept {
        text.push_str(&format!("\n    kept in {}", kept.display()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(rows: &[&str], all: bool) -> Args {
        Args {
            rows: rows.iter().map(|&row| row.to_owned()).collect(),
            all,
            jobs: 1,
            runs: 1,
            minutes: None,
            fresh: false,
            list: false,
            record_goldens: None,
            write: false,
        }
    }

    #[test]
    fn selects_live_cases_by_name_by_group_or_all() {
        let one = chosen(&selected(&["docker-kill-before-response"], false)).unwrap();
        assert_eq!(one.iter().map(|row| row.id).collect::<Vec<_>>(), ["docker-kill-before-response"]);
        let group = chosen(&selected(&["stops"], false)).unwrap();
        assert!(group.len() > 1 && group.iter().all(|row| row.group == "stops"));
        assert_eq!(chosen(&selected(&[], true)).unwrap().len(), rows::all().len());
        assert!(chosen(&selected(&["nothing-of-that-name"], false)).is_err());
    }
}
