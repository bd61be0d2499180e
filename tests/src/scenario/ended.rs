//! Containers that had ended before the monitor started, as Docker records them.

use anyhow::{Result, bail};
use gaia_monitor::model::event::{ContainerInfo, DockerAction, DockerEvent, Fact, RecordedEnd};
use gaia_monitor::model::time::Nanos;

use super::script::Script;
use super::words::Words;

/// From the end to the monitor's start.
const BEFORE: Nanos = Nanos::from_secs(60);
/// From the end to Docker's `die`, and from there to its `stop`.
const REPORTED: Nanos = Nanos::from_millis(5);

/// The end of a container's last run.
pub struct Ended {
    code: i64,
    /// The request whose events Docker still replays, `itself` for an end without one; `None`: no event any more.
    by: Option<String>,
    out_of_memory: bool,
    restarting: bool,
}

impl Ended {
    /// `ended=CODE [by=stop|kill|itself] [out-of-memory] [restarting]`.
    pub fn read(words: &mut Words) -> Result<Option<Self>> {
        let Some(code) = words.value("ended") else { return Ok(None) };
        let (out_of_memory, restarting) = (words.flag("out-of-memory"), words.flag("restarting"));
        Ok(Some(Self { code: code.parse()?, by: words.value("by"), out_of_memory, restarting }))
    }
}

impl Script {
    /// Docker's own event.
    pub(super) fn docker_event(&mut self, name: &str, action: DockerAction) -> Result<()> {
        let info = &self.actors.player(name)?.info;
        let event = DockerEvent { container: info.id.clone(), name: info.name.clone(), action };
        self.facts.docker(Fact::Docker(event));
        Ok(())
    }

    /// What an inspection shows of it, and the events that Docker still has.
    pub(super) fn ended(&mut self, name: &str, ended: &Ended) -> Result<()> {
        let now = self.facts.now;
        let at = now.minus(BEFORE);
        let player = self.actors.player_mut(name)?;
        player.info.exit_code = Some(ended.code);
        player.info.started_at = Some(at.minus(BEFORE));
        let end = RecordedEnd { at, oom_killed: ended.out_of_memory, restarting: ended.restarting };
        let mut info = ContainerInfo {
            running: false,
            pid: None,
            cgroup: None,
            netns: None,
            ended: Some(end),
            ..player.info.clone()
        };
        info.networks.iter_mut().for_each(|network| network.addresses.clear());
        self.facts.marked = Some(at);
        self.facts.own(Fact::ContainerSeen(Box::new(info)));
        let die = DockerAction::Die { exit_code: Some(ended.code) };
        let kill = |signal: &str| DockerAction::Kill { signal: signal.to_owned() };
        let events = match ended.by.as_deref() {
            Some("stop") => vec![kill("SIGTERM"), die, DockerAction::Stop],
            Some("kill") => vec![kill("SIGKILL"), die],
            Some("itself") => vec![die],
            Some(other) => bail!("no end by {other}"),
            None => Vec::new(),
        };
        let late = now.since(at);
        for (action, offset) in events.into_iter().zip([Nanos(0), REPORTED, Nanos(2 * REPORTED.0)]) {
            (self.facts.now, self.facts.late) = (at.plus(offset), late);
            self.docker_event(name, action)?;
        }
        (self.facts.now, self.facts.late) = (now, Nanos(0));
        Ok(())
    }
}
