//! `client_cancelled`: the client closed first and early, or its own process ended.
//!
//! Opens when: a client closes with a response outstanding after less than 500 ms of silence, or its process dies and its
//! container does not. Counted; reported only with `--include-cancelled`, with class `none`.
//! Closes when: it settles; cancellations of one process join while the gaps are under a second.
//! Stays silent when: nothing was outstanding.
//! Moment: the client's close.
//! Distinguished from: `server_slow` by the length of the silence.

use crate::engine::context::Context;
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{Attribution, CaseKey};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::verdict::Verdict;
use crate::engine::world::World;
use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{CauseKind, MomentFact};
use crate::model::time::Nanos;

use super::{Cause, Requirements, Severity, Situation, Step, application, base_verdict};

/// The client closed first.
pub const CANCELLED: Step = Step { name: "client", attribute: cancelled };
/// The client's own process died.
pub const DIED: Step = Step { name: "client", attribute: died };

/// Reported only on request; never the reason of a failover.
pub const KIND: CauseKind = CauseKind::ClientCancelled;

pub struct ClientCause;

fn to(situation: &Situation, reason: String) -> Attribution {
    let failure = situation.failure;
    let key = CaseKey::Client { container: failure.client_container.clone(), pid: failure.client_pid };
    Attribution::to(key, Evidence::None, reason)
}

fn cancelled(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    Some(to(situation, "the client closed first, with a response outstanding".to_owned()))
}

fn died(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    let pid = situation.failure.client_pid?;
    Some(to(situation, format!("the client's own process {pid} died with a response outstanding")))
}

fn parts(key: &CaseKey) -> Option<(Option<&ContainerId>, Option<Pid>)> {
    if let CaseKey::Client { container, pid } = key { Some((container.as_ref(), *pid)) } else { None }
}

impl Cause for ClientCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[KIND]
    }

    fn subject<'a>(&self, _world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        parts(key)?.0
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let (container, pid) = parts(&case.key).unwrap_or_default();
        let base = base_verdict(ctx, case, KIND, container);
        Verdict { fact: MomentFact::ClientClose, pid, comm: pid.and_then(|pid| ctx.comm(pid)), ..base }
    }

    fn summary(&self, _ctx: Context, _case: &Case, _verdict: &Verdict) -> String {
        "the client disconnected before the response".to_owned()
    }

    fn severity(&self, _kind: CauseKind) -> Severity {
        Severity::Warning
    }

    fn max_gap(&self) -> Option<Nanos> {
        Some(application::GAP)
    }

    fn requirements(&self) -> Requirements {
        Requirements { connection_events: true, ..Requirements::default() }
    }
}
