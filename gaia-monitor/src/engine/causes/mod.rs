//! Causes: one file for each, and the order between them.
//!
//! A cause reads the world and returns data. It never calls another cause: which one explains a failure is decided by
//! [`PRECEDENCE`] alone. `docs/decisions.md` prints that table, and a test keeps the two equal.

/// A failure with the state that selects its row of the table.
mod situation;
pub use situation::{Row, Situation};
/// Clients that still wait for a subject.
mod awaited;
/// How a process ended and what requested it, and the details of that: place of a crash, limit, requester.
pub mod crash_place;
mod deciding_signal;
pub mod exit;
pub mod resource_limit;

pub mod accept_queue;
pub mod application;
pub mod chain;
pub mod client;
pub mod closed_port;
/// Deaths that a connection outlived.
pub mod death;
/// Deaths of descendants that broke a response of their parent.
pub mod descendant;
pub mod dns;
pub mod outage;
pub mod packet_filter;
pub mod packet_lost;
pub mod pause;
pub mod termination;
pub mod unknown;
pub mod worker;

use crate::engine::context::Context;
use crate::engine::failures::table::Failure;
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{Attribution, CaseKey};
use crate::engine::types::verdict::{Judgement, Verdict};
use crate::engine::world::World;
use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{Alternative, CauseKind, Condition, ConditionKind, Confidence, MomentFact};
use crate::model::time::{Nanos, Stamp, Utc};

/// Events lost so long before the first fact of a case lower its confidence.
pub const LOSS_SHADOW: Nanos = Nanos::from_secs(1);

/// Everything that is specific to one family of causes.
pub trait Cause: Sync {
    /// The values of `cause.kind` that it produces.
    fn kinds(&self) -> &'static [CauseKind];

    /// The container that a case is about.
    fn subject<'a>(&self, world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId>;

    /// How the summary begins if the subject is no container.
    fn subject_without_container(&self) -> &'static str {
        "a process outside every container: "
    }

    /// Moment, subject, confidence.
    fn verdict(&self, ctx: Context, case: &Case) -> Verdict;

    /// The sentence for people, without the subject and the number of deaths.
    fn summary(&self, ctx: Context, case: &Case, verdict: &Verdict) -> String;

    /// Other causes, with the evidence against each.
    fn alternatives(&self, _ctx: Context, _case: &Case, _verdict: &Verdict) -> Vec<Alternative> {
        Vec::new()
    }

    /// The lasting state, and when it ended.
    fn condition(&self, _ctx: Context, _case: &Case, _verdict: &Verdict) -> Option<Condition> {
        None
    }

    /// Whether a SYN, a lookup or a request still waits on the subject.
    fn is_awaited(&self, _ctx: Context, _case: &Case, _judgement: &Judgement) -> bool {
        false
    }

    /// How prominently the terminal shows it.
    fn severity(&self, _kind: CauseKind) -> Severity {
        Severity::Error
    }

    /// An event of a container, which may break something long after it: later cases name the closed one before them.
    fn is_event(&self) -> bool {
        false
    }

    /// The longest gap between two facts of one case.
    fn max_gap(&self) -> Option<Nanos> {
        None
    }

    /// Events lost since this instant lower the confidence. `opened`, `begun`: first fact of the case, and the start of
    /// the request that it broke.
    fn evidence_since(&self, _ctx: Context, _key: &CaseKey, opened: Stamp, begun: Stamp) -> Stamp {
        begun.min(opened).minus(LOSS_SHADOW)
    }

    /// What the verdict is derived from.
    fn requirements(&self) -> Requirements {
        Requirements::default()
    }

    /// The confidence that remains if a requirement is not met.
    fn confidence_without(&self, _ctx: Context, _case: &Case) -> Confidence {
        Confidence::Possible
    }
}

/// How prominently a cause is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// A death or a fault.
    Error,
    /// A requested operation, or a condition that ends without intervention.
    Warning,
}

/// Evidence whose absence lowers the confidence of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// The progress of each exchange, by HTTP framing.
    pub framing: bool,
    /// All events of the connections that failed.
    pub connection_events: bool,
    /// All interface changes.
    pub interfaces: bool,
}

impl Default for Requirements {
    fn default() -> Self {
        Self { framing: true, connection_events: false, interfaces: false }
    }
}

/// One attempt to explain a failure, as `docs/decisions.md` names it.
#[derive(Clone, Copy)]
pub struct Step {
    pub name: &'static str,
    pub attribute: fn(Context, &Situation) -> Option<Attribution>,
}

/// The decision table: row → steps in order; the first that explains the failure wins.
pub const PRECEDENCE: [(Row, &[Step]); 13] = [
    (Row::NotSent, &[unknown::NOT_SENT]),
    (
        Row::Refused,
        &[termination::OF_SERVER, pause::AT_FAILURE, packet_filter::STEP, worker::CLOSED_PORT, closed_port::REFUSED],
    ),
    (
        Row::Unanswered,
        &[
            termination::OF_SERVER,
            pause::AT_FAILURE,
            outage::OF_CONNECTION,
            packet_filter::STEP,
            accept_queue::OF_SYN,
            packet_lost::OF_SYN,
            unknown::NO_RESPONSE,
        ],
    ),
    (
        Row::Silence,
        &[
            termination::OF_SERVER,
            death::OF_HOLDER,
            pause::AT_FAILURE,
            outage::OF_CONNECTION,
            pause::DURING_SILENCE,
            packet_filter::STEP,
            accept_queue::STEP,
            chain::STEP,
            packet_lost::STEP,
            death::OF_ACCEPTOR,
            application::SLOW,
        ],
    ),
    (
        Row::ProxyWithoutBackend,
        &[
            termination::OF_SERVER,
            pause::AT_FAILURE,
            outage::OF_BACKEND,
            packet_filter::STEP,
            accept_queue::STEP,
            closed_port::BEHIND_PROXY,
        ],
    ),
    (
        Row::ServerNotSeen,
        &[termination::OF_SERVER, pause::AT_FAILURE, outage::OF_TIMEOUT, packet_filter::STEP, unknown::SERVER_NOT_SEEN],
    ),
    (
        Row::ClosedByDyingTask,
        &[death::OF_HOLDER, termination::OF_CLOSER, worker::CLOSED_CONNECTION, unknown::EXIT_NOT_SEEN],
    ),
    (
        Row::ClosedByLiveTask,
        &[
            termination::UNDER_WAY,
            death::OF_HOLDER,
            death::ON_ITS_WAY_OUT,
            application::KEEPALIVE_RACE,
            chain::STEP,
            application::CLOSED,
        ],
    ),
    (
        Row::NotClosed,
        &[
            termination::OF_SERVER,
            death::OF_HOLDER,
            pause::AT_FAILURE,
            outage::OF_TIMEOUT,
            packet_filter::STEP,
            unknown::NOT_CLOSED,
        ],
    ),
    (Row::Malformed, &[application::MALFORMED]),
    (Row::Lookup, &[termination::OF_SERVER, outage::OF_LOOKUP, dns::STEP]),
    (Row::ClientCancelled, &[client::CANCELLED]),
    (Row::ClientDied, &[termination::OF_CLIENT, client::DIED]),
];

/// Every family of causes.
const CAUSES: [&dyn Cause; 12] = [
    &termination::TerminationCause,
    &worker::WorkerCause,
    &pause::PauseCause,
    &outage::OutageCause,
    &dns::DnsCause,
    &packet_filter::PacketFilterCause,
    &accept_queue::AcceptQueueCause,
    &packet_lost::PacketLostCause,
    &closed_port::ClosedPortCause,
    &application::ApplicationCause,
    &client::ClientCause,
    &unknown::UnknownCause,
];

/// The cause of one failure, with its row of the table. Pure; repeated whenever a new fact could change the result.
#[must_use]
pub fn attribute(ctx: Context, failure: &Failure) -> (Option<Row>, Attribution) {
    let situation = match Situation::of(ctx, failure) {
        Ok(situation) => situation,
        Err(reason) => return (None, Attribution::ignored(reason)),
    };
    let steps = PRECEDENCE.iter().find(|(row, _)| *row == situation.row).map_or(&[][..], |(_, steps)| steps);
    let found = steps.iter().find_map(|step| (step.attribute)(ctx, &situation));
    let outside = || Attribution::ignored("the server is outside this host, and nothing on this host broke it");
    (Some(situation.row), found.unwrap_or_else(outside))
}

/// The family that a key belongs to.
#[must_use]
pub fn of(key: &CaseKey) -> &'static dyn Cause {
    match key {
        CaseKey::Termination(_) => &termination::TerminationCause,
        CaseKey::Workers { .. } => &worker::WorkerCause,
        CaseKey::Paused { .. } => &pause::PauseCause,
        CaseKey::Outage(_) => &outage::OutageCause,
        CaseKey::ClosedPort { .. } | CaseKey::Backend { .. } => &closed_port::ClosedPortCause,
        CaseKey::Name { .. } => &dns::DnsCause,
        CaseKey::PacketFilter { .. } => &packet_filter::PacketFilterCause,
        CaseKey::AcceptQueue(_) => &accept_queue::AcceptQueueCause,
        CaseKey::Client { .. } => &client::ClientCause,
        CaseKey::Process { kind, .. } => of_kind(*kind),
    }
}

fn of_kind(kind: CauseKind) -> &'static dyn Cause {
    CAUSES.into_iter().find(|cause| cause.kinds().contains(&kind)).unwrap_or(&unknown::UnknownCause)
}

/// How prominently a kind is shown.
#[must_use]
pub fn severity(kind: CauseKind) -> Severity {
    of_kind(kind).severity(kind)
}

/// What a case amounts to now.
#[must_use]
pub fn judge(ctx: Context, case: &Case) -> Judgement {
    ctx.judgements.set(ctx.judgements.get() + 1);
    let cause = of(&case.key);
    let verdict = cause.verdict(ctx, case);
    let verdict = Verdict { confidence: verdict.confidence.min(ceiling(ctx, case, cause, &verdict)), ..verdict };
    let condition = cause.condition(ctx, case, &verdict);
    let cancelled = matches!(case.key, CaseKey::Client { .. }) && ctx.settings.include_cancelled;
    // What an event may have broken is listed, if not counted; of a live process it is no incident.
    let doubtful = || cause.is_event() && ctx.failures_of(case).any(Failure::is_error);
    let worth = case.has_errors() || verdict.reportable_alone || doubtful() || (cancelled && !case.failures.is_empty());
    let reportable = worth && is_in_scope(ctx, case, verdict.container.as_ref());
    let judgement = Judgement { verdict, condition, reportable, awaited: false };
    Judgement { awaited: cause.is_awaited(ctx, case, &judgement), ..judgement }
}

/// The highest confidence that losses and the framing of the failed connections allow. A loss is never evidence, and
/// takes certainty away; so does a connection whose framing was not followed.
fn ceiling(ctx: Context, case: &Case, cause: &dyn Cause, verdict: &Verdict) -> Confidence {
    let requires = cause.requirements();
    let required = |stage: &String| {
        let interfaces = requires.interfaces && stage.starts_with("netlink.");
        interfaces || ["ring.", "docker.", "engine."].iter().any(|prefix| stage.starts_with(prefix))
    };
    let lost = case.losses.keys().any(required);
    let is_doubt = |failure: &Failure| {
        // A death is certain whatever a connection carried.
        let framing = requires.framing && failure.uncertain && !verdict.reportable_alone;
        framing || (requires.connection_events && failure.lossy)
    };
    if lost || ctx.failures_of(case).any(is_doubt) {
        return cause.confidence_without(ctx, case);
    }
    let mut errors = ctx.failures_of(case).filter(|failure| failure.is_error()).peekable();
    let opaque = errors.peek().is_some() && errors.all(|failure| failure.opaque && !failure.uncertain);
    // An event that was observed is certain, whatever a connection carried.
    if opaque && !cause.is_event() && !verdict.reportable_alone { Confidence::Likely } else { Confidence::Certain }
}

fn is_in_scope(ctx: Context, case: &Case, subject: Option<&ContainerId>) -> bool {
    ctx.any_in_scope([subject])
        || ctx
            .failures_of(case)
            .any(|failure| ctx.any_in_scope([failure.client_container.as_ref(), failure.route.container.as_ref()]))
}

/// Container and process whose single connections a case is about, and the kind of their cause.
fn process_of(key: &CaseKey) -> (Option<&ContainerId>, Option<Pid>, CauseKind) {
    if let CaseKey::Process { container, pid, kind } = key {
        (container.as_ref(), *pid, *kind)
    } else {
        (None, None, unknown::KIND)
    }
}

/// A verdict with the moment of the first failure and the first process of the subject; causes fill in the rest.
fn base_verdict(ctx: Context, case: &Case, kind: CauseKind, container: Option<&ContainerId>) -> Verdict {
    let first = ctx.failures_of(case).next();
    let info = container.and_then(|id| ctx.world.containers.get(id)).map(|container| &container.info);
    let pid = info.and_then(|info| info.pid);
    let at = first.map_or(case.opened, |first| first.at());
    Verdict {
        container: container.cloned(),
        pid,
        comm: pid.and_then(|pid| ctx.comm(pid)),
        ..Verdict::new(kind, at, MomentFact::ClientError)
    }
}

/// A condition; it cannot end before it began.
#[expect(clippy::unnecessary_wraps, reason = "the tail of `Cause::condition`, which may have none")]
fn lasting(kind: ConditionKind, since: Stamp, until: Option<Stamp>) -> Option<Condition> {
    Some(Condition { kind, since: Utc(since), until: until.map(|until| Utc(until.max(since))) })
}

/// When a container went down at or after an instant: most conditions end with it.
fn terminated_after(ctx: Context, id: &ContainerId, from: Stamp) -> Option<Stamp> {
    let terminations = ctx.world.terminations.of_container(id);
    terminations.filter_map(|termination| termination.down()).find(|down| *down >= from)
}

fn against(kind: CauseKind, sentence: impl Into<String>) -> Alternative {
    Alternative { kind, against: sentence.into() }
}

/// A process for people: `python3 (pid 7)`.
fn process_text(verdict: &Verdict) -> String {
    match (&verdict.comm, verdict.pid) {
        (Some(comm), Some(pid)) => format!("{comm} (pid {pid})"),
        (None, Some(pid)) => format!("pid {pid}"),
        (_, None) => "its process".to_owned(),
    }
}

/// Whether the process of a verdict is known to run: neither its exit nor a fatal signal to it was observed.
fn is_alive(ctx: Context, verdict: &Verdict) -> bool {
    let process = verdict.pid.and_then(|pid| ctx.world.processes.get(pid));
    process.is_some_and(|process| process.doomed().is_none())
}

/// A process in a sentence about its signals or its close: `process 7`.
fn pid_text(verdict: &Verdict) -> String {
    verdict.pid.map_or_else(|| "its process".to_owned(), |pid| format!("process {pid}"))
}

/// The port of the first failure: `port 80`.
fn port_text(ctx: Context, case: &Case) -> String {
    let port = ctx.failures_of(case).next().map(|failure| failure.route.address.port());
    port.map_or_else(|| "its port".to_owned(), |port| format!("port {port}"))
}
