//! Plays one live case: a story under the monitor, then the verdict over all lines of its output.
//!
//! A wrong run keeps its recording, the monitor's output and the witness's records (a test in
//! `target/live-failures/NAME/`); a recording from there, once understood, becomes a golden.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::check::{Arrived, Measured, Reference, Verdict, check};
use crate::command::{OnInterrupt, run};
use crate::diff::{Aspect, Diff, Diffs, none_of};
use crate::expect::Expected;
use crate::host;
use crate::monitor::{Ended, Line, Monitor, Options, binary};
use crate::recordings;
use crate::stage::Stage;
use crate::witness::Witness;

/// Cases that run concurrently. Two keep two cores busy, and the lags still those of an idle host.
const AT_ONCE: usize = 2;
/// An incident comes to rest a second after its last fact; the longest back-off between revisions adds half a second.
const REST_LIMIT: Duration = Duration::from_secs(12);
/// The monitor ends this long after the longest story if this process is killed.
const AT_MOST: Duration = Duration::from_secs(600);
/// How long a false incident is waited for. A death that broke nothing is published after a second at the latest.
const SILENCE: Duration = Duration::from_millis(1500);

/// What came of playing a story once.
#[derive(Debug)]
pub struct Played {
    pub verdict: Verdict,
    /// The folder with recording, output and records of a wrong run.
    pub kept: Option<PathBuf>,
}

/// Plays `story` and panics with everything that is wrong. `arguments` are the monitor's.
pub fn live(name: &str, arguments: &[&str], story: impl FnOnce(&Stage) -> Result<Vec<Expected>>) {
    let _turn = Turn::take();
    if let Err(error) = right(name, play(arguments, &keep_folder(name), story)) {
        panic!("{name}: {error:#}");
    }
}

/// Where a wrong run of a test is kept.
#[must_use]
pub fn keep_folder(name: &str) -> PathBuf {
    host::target_dir().join("live-failures").join(name)
}

/// The same as a result.
///
/// # Errors
/// With everything that is wrong.
pub fn right(name: &str, played: Played) -> Result<()> {
    report(name, &played.verdict.measured)?;
    let Some(kept) = played.kept else { return none_of(&played.verdict.wrong) };
    none_of(&played.verdict.wrong)
        .with_context(|| format!("recording and output of the monitor are kept in {}", kept.display()))
}

/// Plays `story` once. The verdict contains everything that went wrong, errors of the story included; a wrong run is kept in
/// `keep`.
pub fn play(arguments: &[&str], keep: &Path, story: impl FnOnce(&Stage) -> Result<Vec<Expected>>) -> Played {
    play_into(arguments, keep, None, story)
}

/// The same; the recording of a right run goes to `recording`.
pub fn play_into(
    arguments: &[&str],
    keep: &Path,
    recording: Option<&Path>,
    story: impl FnOnce(&Stage) -> Result<Vec<Expected>>,
) -> Played {
    match attempt(arguments, keep, recording, story) {
        Ok(played) => played,
        Err(error) => Played { verdict: failed(&error), kept: None },
    }
}

/// The verdict on a run that failed altogether.
fn failed(error: &anyhow::Error) -> Verdict {
    let wrong = vec![Diff { aspect: Aspect::Story, text: format!("{error:#}") }];
    Verdict { wrong, ..Verdict::default() }
}

fn attempt(
    arguments: &[&str],
    folder: &Path,
    recording: Option<&Path>,
    story: impl FnOnce(&Stage) -> Result<Vec<Expected>>,
) -> Result<Played> {
    ensure!(nix::unistd::geteuid().is_root(), "the live suite needs root: run it with sudo");
    let stage = Stage::begin(Witness::get()?)?;
    let at_most = Some(Stage::lasting() + AT_MOST);
    let options = Options { at_most, ..Options::default() };
    let options =
        arguments.iter().fold(options.project(stage.stack.project()), |options, argument| options.arg(argument));
    let monitor = Monitor::start(stage.stack.folder(), &options)?;
    let mut output = String::new();
    let verdict = judge(&stage, monitor, story, &mut output).unwrap_or_else(|error| failed(&error));
    if !verdict.wrong.is_empty() {
        // Its folder is removed with the stack, and contains the reason.
        let kept = keep(folder, &stage, &output)?;
        return Ok(Played { verdict, kept: Some(kept) });
    }
    if let Some(to) = recording {
        let from = stage.stack.folder().join("recording.jsonl");
        recordings::store(&from, to)?;
    }
    stage.stack.remove()?;
    Ok(Played { verdict, kept: None })
}

/// What is measured and not asserted: printed, and kept in a file, because the output of a passing test is not shown.
fn report(name: &str, notes: &[Measured]) -> Result<()> {
    let path = host::target_dir().join("live-report.txt");
    let file = fs::File::options().create(true).append(true).open(&path);
    let mut file = file.with_context(|| format!("opening {}", path.display()))?;
    for note in notes {
        println!("{name}: {note}");
        writeln!(file, "{name}: {note}").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn judge(
    stage: &Stage,
    mut monitor: Monitor,
    story: impl FnOnce(&Stage) -> Result<Vec<Expected>>,
    output: &mut String,
) -> Result<Verdict> {
    let played = story(stage);
    let expected = played.as_ref().map(Vec::as_slice).unwrap_or_default();
    // Whether they came to rest is judged below, where the message can be better.
    let _rest = monitor.wait_for("the incidents to come to rest", REST_LIMIT, |incidents| {
        let rest = |wanted: &&Expected| incidents.iter().any(|incident| wanted.is_at_rest_in(incident));
        expected.iter().all(|wanted| rest(&wanted)).then_some(())
    });
    let _none =
        monitor.wait_for("a false incident", SILENCE, |incidents| (incidents.len() > expected.len()).then_some(()));
    let before_stop = monitor.lines().map_or(0, |lines| lines.len());
    let stderr = monitor.stderr();
    let ended = match monitor.stop() {
        Ok(ended) => ended,
        Err(error) => {
            output.push_str(&stderr);
            return Err(error);
        }
    };
    *output = format!("{}\n--- standard error\n{}", printed(&ended.lines), ended.stderr);
    let expected = played.context("the story")?;
    ensure!(ended.status.success(), "the monitor ended with {}", ended.status);
    let witness = Reference::of(stage);
    for wanted in &expected {
        wanted.happened(&witness).with_context(|| format!("the case of `{}` did not come about", wanted.kind))?;
    }
    let arrived: Vec<Arrived> = ended.lines.iter().map(arrival).collect::<Result<_>>()?;
    let mut verdict = check(&expected, &arrived, before_stop, &witness)?;
    let mut form = Diffs::default();
    form.note(Aspect::Form, "schema", against_schema(&ended.lines));
    form.note(Aspect::Form, "replay", replays(&ended));
    verdict.wrong.extend(form.into_found());
    Ok(verdict)
}

fn arrival(line: &Line) -> Result<Arrived> {
    let at = line.received.duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(Arrived { at: i64::try_from(at.as_nanos())?, line: line.raw.clone() })
}

fn printed(lines: &[Line]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        text.push_str(&line.raw);
        text.push('\n');
        text
    })
}

/// Every line against the schema that the binary itself prints.
fn against_schema(lines: &[Line]) -> Result<()> {
    static SCHEMA: OnceLock<std::result::Result<jsonschema::Validator, String>> = OnceLock::new();
    let compile = || -> Result<jsonschema::Validator> {
        let schema = run(Command::new(binary()?).args(["assets", "incident-schema"]), OnInterrupt::End)?.stdout;
        let schema = serde_json::from_str(&schema).context("`assets incident-schema` is no JSON")?;
        jsonschema::validator_for(&schema).map_err(|error| anyhow::anyhow!("the incident schema is none: {error}"))
    };
    let schema = SCHEMA.get_or_init(|| compile().map_err(|error| format!("{error:#}")));
    let schema = schema.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    for line in lines {
        if let Some(error) = schema.iter_errors(&line.value).next() {
            anyhow::bail!("a line breaks the schema at {}: {error}\n{}", error.instance_path, line.raw);
        }
    }
    Ok(())
}

/// The recording gives the same bytes as the run gave.
pub fn replays(ended: &Ended) -> Result<()> {
    let replayed =
        run(Command::new(binary()?).arg("replay").arg(&ended.recording).args(["--output", "json"]), OnInterrupt::End)?;
    let printed = printed(&ended.lines);
    let differs = replayed.stdout.lines().zip(printed.lines()).position(|(replayed, printed)| replayed != printed);
    ensure!(
        replayed.stdout == printed,
        "the recording does not replay to what the run printed: {} lines against {}, first difference at {differs:?}",
        replayed.stdout.lines().count(),
        printed.lines().count()
    );
    Ok(())
}

fn keep(folder: &Path, stage: &Stage, output: &str) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    copy_files(stage.stack.folder(), folder)?;
    fs::write(folder.join("monitor.txt"), output)?;
    let records = stage.witness.since(stage.began).iter().fold(String::new(), |mut text, record| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {:?}", record.at, record.fact);
        text
    });
    fs::write(folder.join("witness.txt"), records)?;
    Ok(folder.to_owned())
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        // Not the clients' pipes: reading one would never end.
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// A place among the concurrent cases.
struct Turn;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    fn take() -> Self {
        let (running, freed) = &RUNNING;
        let running = running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running =
            freed.wait_while(running, |running| *running >= AT_ONCE).unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (running, freed) = &RUNNING;
        *running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        freed.notify_one();
    }
}
