//! The live cases as tests: real containers, real uvicorn and httpx, bpftrace as an independent witness, and the monitor's
//! lines against both. Needs root and Docker and fails without them. One case: `cargo xtask test --live -- NAME`; cases
//! outside continuous integration are ignored, and run with `--include-ignored`.

use gaia_monitor_tests::live_cases;
use gaia_monitor_tests::play::{keep_folder, right};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let trials = live_cases::all().into_iter().map(|live_case| {
        let (name, kind, ignored) =
            (format!("{}: {}", live_case.id, live_case.title), live_case.group, !live_case.in_ci);
        let test = move || {
            let played = live_case.play(&keep_folder(live_case.id), None);
            right(live_case.id, played).map_err(|error| Failed::from(format!("{}: {error:#}", live_case.id)))
        };
        Trial::test(name, test).with_kind(kind).with_ignored_flag(ignored)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}
