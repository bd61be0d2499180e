//! What a case amounts to: cause, moment, failing process, lasting state.

use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{CauseKind, Condition, Confidence, Crash, How, Limit, MomentFact, Sender};
use crate::model::time::Stamp;

/// Fields have the meaning of the incident line (docs/contract.md).
#[derive(Clone, Debug)]
pub struct Verdict {
    pub kind: CauseKind,
    pub how: Option<How>,
    pub at: Stamp,
    pub fact: MomentFact,
    /// The subject.
    pub container: Option<ContainerId>,
    pub pid: Option<Pid>,
    pub comm: Option<String>,
    pub signal: Option<String>,
    pub exit_code: Option<i32>,
    /// The signal that led to an end with an exit code.
    pub ended_by: Option<String>,
    pub sender: Option<Sender>,
    pub crash: Option<Crash>,
    pub limit: Option<Limit>,
    pub confidence: Confidence,
    /// It ended before the monitor started; Docker is the only witness.
    pub before_monitor: bool,
    pub deaths: u32,
    /// An incident even if it broke nothing.
    pub reportable_alone: bool,
}

impl Verdict {
    /// A certain verdict of which only the kind and the moment are known.
    #[must_use]
    pub fn new(kind: CauseKind, at: Stamp, fact: MomentFact) -> Self {
        Self {
            kind,
            how: None,
            at,
            fact,
            container: None,
            pid: None,
            comm: None,
            signal: None,
            exit_code: None,
            ended_by: None,
            sender: None,
            crash: None,
            limit: None,
            confidence: Confidence::Certain,
            before_monitor: false,
            deaths: 0,
            reportable_alone: false,
        }
    }
}

/// Everything that the steps after attribution need of a case. Computed once for each case and step.
#[derive(Clone, Debug)]
pub struct Judgement {
    pub verdict: Verdict,
    pub condition: Option<Condition>,
    /// It is an incident, and in scope.
    pub reportable: bool,
    /// A SYN, a lookup or a request still waits on the subject.
    pub awaited: bool,
}

impl Judgement {
    /// Nothing lasts, or what lasted has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.condition.is_none_or(|condition| condition.until.is_some())
    }
}
