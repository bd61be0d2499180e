//! `app_closed`, `app_aborted`, `keepalive_race`, `server_slow`, `protocol_error`: a live server process left a response
//! outstanding, or sent one that is not HTTP.
//!
//! Opens when: a live task closes (FIN) or resets (RST) a connection with an outstanding response; it closes an idle
//! connection before its application read any part of the next request; the client times out on a live server; the
//! response breaks the framing of HTTP/1.x.
//! Closes when: it settles (none of these has a condition); failures of one process and cause join while the gaps between
//! them are under 1 s ([`GAP`]).
//! Stays silent when: every response was complete.
//! Moment: the server's close; the client's close for `server_slow`; the bytes that broke the framing.
//! Distinguished from: deaths by the task, which is not exiting; chains by an upstream failure in between.

use crate::engine::context::Context;
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{Attribution, CaseKey};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::verdict::Verdict;
use crate::engine::world::World;
use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{Alternative, CauseKind, Confidence, MomentFact, Phase};
use crate::model::time::Nanos;

use super::{
    Cause, Requirements, Severity, Situation, Step, against, base_verdict, client, death, is_alive, pause, pid_text,
    process_of, process_text, worker,
};

/// The longest gap between failures of one case.
pub const GAP: Nanos = Nanos::from_secs(1);

/// The server closed an idle connection while the next request was on its way.
pub const KEEPALIVE_RACE: Step = Step { name: "keep-alive race", attribute: keepalive_race };
/// The server closed or reset the connection.
pub const CLOSED: Step = Step { name: "reset: `app_aborted`, FIN: `app_closed`", attribute: closed };
/// Client and server lived, and nothing came.
pub const SLOW: Step = Step { name: "server slow", attribute: slow };
/// The response is not HTTP.
pub const MALFORMED: Step = Step { name: "protocol error", attribute: malformed };

pub(super) const APP_CLOSED: CauseKind = CauseKind::AppClosed;
pub(super) const APP_ABORTED: CauseKind = CauseKind::AppAborted;
pub(super) const SERVER_SLOW: CauseKind = CauseKind::ServerSlow;

pub struct ApplicationCause;

fn to(situation: &Situation, pid: Option<Pid>, kind: CauseKind, reason: String) -> Attribution {
    let key = CaseKey::Process { container: situation.failure.route.container.clone(), pid, kind };
    Attribution::to(key, Evidence::None, reason)
}

/// An exchange was complete, and the server had read nothing of the next request when it closed.
fn keepalive_race(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    let (failure, server, close) = (situation.failure, situation.server?, situation.close?);
    let reason = "the server closed the idle connection before it read the request".to_owned();
    if failure.opaque && !failure.uncertain {
        let raced = close.responded && failure.entry.client_error.phase == Phase::AwaitingResponse;
        return raced.then(|| to(situation, Some(close.task.pid), CauseKind::KeepaliveRace, reason));
    }
    if server.http.complete == 0 {
        return None;
    }
    let unanswered = server.http.begun == server.http.complete;
    let unread = match close.last_read {
        Some(read) => read < failure.begun,
        // Without the time of the last read, unread bytes may be the whole request or its tail; of an upload, most likely
        // the tail.
        None => failure.entry.client_error.phase != Phase::Sending,
    };
    let raced = close.at <= failure.begun || (unanswered && close.unread > 0 && unread);
    raced.then(|| to(situation, Some(close.task.pid), CauseKind::KeepaliveRace, reason))
}

fn closed(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    let close = situation.close?;
    let pid = close.task.pid;
    let (kind, verb) = if close.reset { (CauseKind::AppAborted, "reset") } else { (CauseKind::AppClosed, "closed") };
    Some(to(situation, Some(pid), kind, format!("process {pid} lived and {verb} the connection")))
}

fn slow(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    situation.failure.route.container.as_ref()?;
    let pid = situation.server.and_then(|server| server.owner.as_ref()).map(|task| task.pid);
    let reason = "client and server lived, and the server was silent".to_owned();
    Some(to(situation, pid, CauseKind::ServerSlow, reason))
}

fn malformed(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    let pid = situation.server.and_then(|server| server.owner.as_ref()).map(|task| task.pid);
    let reason = "the response broke the framing of HTTP/1.x".to_owned();
    Some(to(situation, pid, CauseKind::ProtocolError, reason))
}

impl Cause for ApplicationCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[
            CauseKind::AppClosed,
            CauseKind::AppAborted,
            CauseKind::KeepaliveRace,
            CauseKind::ServerSlow,
            CauseKind::ProtocolError,
        ]
    }

    fn subject<'a>(&self, _world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        process_of(key).0
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let (container, pid, kind) = process_of(&case.key);
        let base = base_verdict(ctx, case, kind, container);
        let closes = || {
            ctx.failures_of(case).filter_map(|failure| {
                ctx.world.sockets.get(failure.route.server?)?.close.as_ref().map(|close| close.at)
            })
        };
        let close = || closes().min().unwrap_or(base.at);
        // A process that closes on its way out exits within that time.
        let lives_on = || closes().max().is_none_or(|last| ctx.world.now.since(last) >= death::WAY_OUT);
        let (fact, at, confidence) = match kind {
            CauseKind::ServerSlow => (MomentFact::ClientClose, base.at, Confidence::Likely),
            CauseKind::ProtocolError => (MomentFact::Malformed, base.at, Confidence::Certain),
            CauseKind::AppClosed | CauseKind::AppAborted if !lives_on() => {
                (MomentFact::ServerClose, close(), Confidence::Likely)
            }
            _ => (MomentFact::ServerClose, close(), Confidence::Certain),
        };
        let pid = pid.or(base.pid);
        Verdict { at, fact, confidence, pid, comm: pid.and_then(|pid| ctx.comm(pid)), ..base }
    }

    fn summary(&self, ctx: Context, _case: &Case, verdict: &Verdict) -> String {
        let process = process_text(verdict);
        let alive = is_alive(ctx, verdict);
        let lives = if alive { " is alive and" } else { "" };
        match verdict.kind {
            CauseKind::AppClosed => format!("{process}{lives} closed the connection with a response outstanding"),
            CauseKind::AppAborted => format!("{process}{lives} reset the connection with a response outstanding"),
            CauseKind::KeepaliveRace => {
                format!("{process} closed an idle connection while the client sent its next request on it")
            }
            CauseKind::ServerSlow if alive => {
                format!("{process} is alive, but did not respond before the client timed out")
            }
            CauseKind::ServerSlow => format!("{process} did not respond before the client timed out"),
            _ => format!("{process} sent bytes that no HTTP parser accepts"),
        }
    }

    fn alternatives(&self, _ctx: Context, _case: &Case, verdict: &Verdict) -> Vec<Alternative> {
        let pid = pid_text(verdict);
        let alive = || against(worker::KIND, format!("{pid} was not exiting when it closed the socket"));
        match verdict.kind {
            CauseKind::AppClosed | CauseKind::AppAborted => {
                let sentence = "the request arrived before the server closed";
                vec![alive(), against(CauseKind::KeepaliveRace, sentence)]
            }
            CauseKind::KeepaliveRace => {
                let sentence = "the server had responded to everything that it had read";
                vec![against(CauseKind::AppClosed, sentence), alive()]
            }
            CauseKind::ServerSlow => vec![
                against(pause::PAUSED, "neither Docker nor a signal stopped it in between"),
                against(client::KIND, "the client waited in silence for at least 500 ms"),
            ],
            _ => Vec::new(),
        }
    }

    fn severity(&self, kind: CauseKind) -> Severity {
        match kind {
            CauseKind::KeepaliveRace | CauseKind::ServerSlow => Severity::Warning,
            _ => Severity::Error,
        }
    }

    fn max_gap(&self) -> Option<Nanos> {
        Some(GAP)
    }

    fn requirements(&self) -> Requirements {
        Requirements { connection_events: true, ..Requirements::default() }
    }
}
