//! `cargo xtask demo`: a small GAIA stack in real containers, a story that breaks a connection, and the client's log next
//! to the incident that explains it.
//!
//! Each story claims which incident the monitor reports; the demo fails if the monitor does not report it. The demo
//! touches only its own containers, and removes them, also on Ctrl-C and on failure.

mod gaia;
mod show;
mod stories;
mod story;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use gaia_monitor::model::incident::{Incident, State};
use gaia_monitor_tests::image::Image;
use gaia_monitor_tests::monitor::{BINARY_ENV, Monitor, Options, one_line};
use gaia_monitor_tests::stack::Stack;
use gaia_monitor_tests::{cleanup, docker, host};

use crate::privilege;
use gaia::Gaia;
use story::Story;

/// The contract promises two seconds after the last fact, Docker's `die` included; a busy machine needs longer.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub struct Args {
    /// The failure to demonstrate.
    #[arg(
        long,
        default_value = stories::DEFAULT,
        value_parser = PossibleValuesParser::new(stories::possible_values()).try_map(|name| stories::named(&name))
    )]
    story: &'static Story,
    /// List the stories and exit.
    #[arg(long)]
    list: bool,
    /// Remove the container image and what a killed run left behind, and exit.
    #[arg(long)]
    clean: bool,
}

/// Plays one story.
///
/// # Errors
/// When a requirement is missing, a step fails, or the monitor does not report the claimed incident.
pub fn run(args: Args) -> Result<()> {
    if args.list {
        for story in stories::ALL {
            println!("{:<12}{}", story.name, story.about);
        }
        return Ok(());
    }
    cleanup::watch_signals()?;
    if privilege::is_root() {
        // Fail before minutes of building.
        docker::version()?;
    }
    if args.clean {
        privilege::become_root(&[])?;
        cleanup::sweep_dead()?;
        println!("removed {} image(s)", Image::clean()?);
        return Ok(());
    }
    let mut steps = Steps { started: Instant::now() };
    steps.print("building gaia-monitor (release)");
    let binary = crate::test::build_monitor()?;
    privilege::become_root(&[(BINARY_ENV, binary.clone().into_os_string())])?;

    let stack = Stack::begin("demo", &mut |step| steps.print(step))?;
    let played = play(args.story, &stack, &binary, &mut steps);
    steps.print("removing the containers and their network");
    let removed = stack.remove();
    // A failure of the story takes precedence over a failure of the removal.
    let recording = played?;
    removed?;
    next(&binary, &recording);
    Ok(())
}

/// Starts the stack and the monitor, plays the story, and shows the result; returns the path of the kept recording.
fn play(story: &'static Story, stack: &Stack, binary: &Path, steps: &mut Steps) -> Result<PathBuf> {
    steps.print("starting gaia-mcp, gaia-core, gaia-core-candidate and gaia-web");
    let gaia = Gaia::start(stack, story)?;
    steps.print("starting gaia-monitor");
    let mut monitor = Monitor::start(stack.folder(), &Options::of(binary).project(stack.project()))?;
    steps.print("ready");

    println!("\n{}\n", show::heading(story));
    let played = gaia.play(story)?;

    let settled = monitor.wait_for("the incident of this story to settle", SETTLED_WITHIN, |incidents| {
        let is_settled = |incident: &&Incident| matches!(incident.state, State::Settled | State::Closed);
        let claimed = incidents.iter().filter(is_settled).any(|incident| story.claim.differences(incident).is_empty());
        claimed.then_some(())
    });
    let ended = monitor.stop()?;
    let recording = keep(story, &ended.recording)?;
    let incidents = ended.incidents();
    let Some(claimed) = incidents.iter().find(|incident| story.claim.differences(incident).is_empty()) else {
        for incident in &incidents {
            eprintln!("  {}", one_line(incident));
            for difference in story.claim.differences(incident) {
                eprintln!("    {difference}");
            }
        }
        let reason = settled.err().map(|error| format!("{error:#}")).unwrap_or_default();
        bail!(
            "the monitor did not report the incident of this story; recording: {}\n{reason}\n{}",
            recording.display(),
            ended.stderr
        );
    };
    settled?;
    println!("\n{}", show::side_by_side(&played, story, claimed));
    println!("{}", show::why(&played, story, claimed, &incidents));
    if !played.response.contains(story.claim.response) {
        bail!("the caller's response has no {}: {}", story.claim.response, played.response);
    }
    if !ended.status.success() {
        bail!("the monitor exited with {}:\n{}", ended.status, ended.stderr);
    }
    Ok(recording)
}

/// Copies the recording to a folder that outlives the stack, for `replay`.
fn keep(story: &Story, recording: &Path) -> Result<PathBuf> {
    let folder = host::target_dir().join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let kept = folder.join(format!("{}.jsonl", story.name));
    fs::copy(recording, &kept).with_context(|| format!("cannot keep {}", recording.display()))?;
    Ok(kept)
}

fn next(binary: &Path, recording: &Path) {
    println!("\nNext:");
    println!("  {:<34}{} more stories, one line each", "cargo xtask demo --list", stories::ALL.len() - 1);
    println!("  {:<34}run the monitor on your own containers", "cargo xtask run");
    println!("  {:<34}run every suite, the live one on real Docker", "cargo xtask test");
    println!("  {:<34}remove the image that this demo built", "cargo xtask demo --clean");
    println!("  {} replay {} --explain", relative(binary).display(), relative(recording).display());
    println!("  {:<34}replay this run from its recording, with the reasoning", "");
}

fn relative(path: &Path) -> &Path {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path)
}

/// Progress on standard error.
struct Steps {
    started: Instant,
}

impl Steps {
    fn print(&mut self, step: &str) {
        eprintln!("[{:5.1} s] {step}", self.started.elapsed().as_secs_f64());
    }
}
