//! The live suite's rows as tests: real containers, real uvicorn and httpx, bpftrace as an independent witness, and the
//! monitor's lines against both. Needs root and Docker and fails without them. One row: `cargo xtask test --live -- NAME`;
//! those that are not in continuous integration stand as ignored and run with `--include-ignored`.

use gaia_monitor_tests::play::{keep_folder, right};
use gaia_monitor_tests::rows;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let trials = rows::all().into_iter().map(|row| {
        let (name, kind, ignored) = (format!("{}: {}", row.id, row.tells), row.group, !row.in_ci);
        let test = move || {
            let played = row.play(&keep_folder(row.id), None);
            right(row.id, played).map_err(|error| Failed::from(format!("{}: {error:#}", row.id)))
        };
        Trial::test(name, test).with_kind(kind).with_ignored_flag(ignored)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}
