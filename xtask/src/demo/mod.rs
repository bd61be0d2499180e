//! `cargo xtask demo`: a small GAIA stack in real containers, a story that breaks a connection, and side by side what
//! the client logged and the incident that pins it.
//!
//! It holds itself to its claim: if the monitor did not pin the break, the demo says so and fails. It touches only
//! containers of its own, and removes them, also on Ctrl-C and on failure.

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

/// The contract promises two seconds after the last fact, Docker's `die` among them; a busy machine needs longer.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub struct Args {
    /// What goes wrong.
    #[arg(
        long,
        default_value = stories::DEFAULT,
        value_parser = PossibleValuesParser::new(stories::possible_values()).try_map(|name| stories::named(&name))
    )]
    story: &'static Story,
    /// Name every story in a line, and play nothing.
    #[arg(long)]
    list: bool,
    /// Remove the container image and whatever a killed run left, and play nothing.
    #[arg(long)]
    clean: bool,
}

/// Plays one story.
///
/// # Errors
/// When something is missing or breaks, or the monitor did not pin what the story broke.
pub fn run(args: Args) -> Result<()> {
    if args.list {
        for story in stories::ALL {
            println!("{:<12}{}", story.name, story.about);
        }
        return Ok(());
    }
    cleanup::watch_signals()?;
    if privilege::is_root() {
        // Before minutes of building: what cannot end well is said now.
        docker::version()?;
    }
    if args.clean {
        privilege::become_root(&[])?;
        cleanup::sweep_dead()?;
        println!("removed {} image(s)", Image::clean()?);
        return Ok(());
    }
    let mut steps = Steps { started: Instant::now() };
    steps.say("building gaia-monitor (release)");
    let binary = crate::test::build_monitor()?;
    privilege::become_root(&[(BINARY_ENV, binary.clone().into_os_string())])?;

    let stack = Stack::begin("demo", &mut |step| steps.say(step))?;
    let told = tell(args.story, &stack, &binary, &mut steps);
    steps.say("removing the containers and their network");
    let removed = stack.remove();
    // What went wrong in the story is told first; what is left behind, only where nothing else did.
    let recording = told?;
    removed?;
    next(&binary, &recording);
    Ok(())
}

/// Brings everything up, plays, and shows; returns where the recording is kept.
fn tell(story: &'static Story, stack: &Stack, binary: &Path, steps: &mut Steps) -> Result<PathBuf> {
    steps.say("starting gaia-mcp, gaia-core, gaia-core-candidate and gaia-web");
    let gaia = Gaia::start(stack, story)?;
    steps.say("starting gaia-monitor beside them");
    let mut monitor = Monitor::start(stack.folder(), &Options::of(binary).project(stack.project()))?;
    steps.say("ready");

    println!("\n{}\n", show::heading(story));
    let played = gaia.play(story)?;

    let told = monitor.wait_for("the incident of this story to settle", SETTLED_WITHIN, |incidents| {
        let settled = |incident: &&Incident| matches!(incident.state, State::Settled | State::Closed);
        let pinned = incidents.iter().filter(settled).any(|incident| story.claim.objections(incident).is_empty());
        pinned.then_some(())
    });
    let ended = monitor.stop()?;
    let recording = keep(story, &ended.recording)?;
    let incidents = ended.incidents();
    let Some(pinned) = incidents.iter().find(|incident| story.claim.objections(incident).is_empty()) else {
        for incident in &incidents {
            eprintln!("  {}", one_line(incident));
            for objection in story.claim.objections(incident) {
                eprintln!("    {objection}");
            }
        }
        let reason = told.err().map(|error| format!("{error:#}")).unwrap_or_default();
        bail!("the monitor did not pin what broke; recording: {}\n{reason}\n{}", recording.display(), ended.stderr);
    };
    told?;
    println!("\n{}", show::side_by_side(&played, story, pinned));
    println!("{}", show::why(&played, story, pinned, &incidents));
    if !played.answer.contains(story.claim.caller_told) {
        bail!("the caller was to be told {}, but got: {}", story.claim.caller_told, played.answer);
    }
    if !ended.status.success() {
        bail!("the monitor ended with {}:\n{}", ended.status, ended.stderr);
    }
    Ok(recording)
}

/// Copies the recording to where a later `replay` finds it.
fn keep(story: &Story, recording: &Path) -> Result<PathBuf> {
    let folder = host::target_dir().join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let kept = folder.join(format!("{}.jsonl", story.name));
    fs::copy(recording, &kept).with_context(|| format!("cannot keep {}", recording.display()))?;
    Ok(kept)
}

fn next(binary: &Path, recording: &Path) {
    println!("\nNext:");
    println!("  {:<34}{} more stories, with what each is about", "cargo xtask demo --list", stories::ALL.len() - 1);
    println!("  {:<34}the monitor on your own containers", "cargo xtask run");
    println!("  {:<34}every suite, the live one on real Docker", "cargo xtask test");
    println!("  {:<34}removes the image that this demo made", "cargo xtask demo --clean");
    println!("  {} replay {} --explain", relative(binary).display(), relative(recording).display());
    println!("  {:<34}this very run again, with the reasoning, from its recording", "");
}

fn relative(path: &Path) -> &Path {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path)
}

/// Progress, on standard error.
struct Steps {
    started: Instant,
}

impl Steps {
    fn say(&mut self, step: &str) {
        eprintln!("[{:5.1} s] {step}", self.started.elapsed().as_secs_f64());
    }
}
