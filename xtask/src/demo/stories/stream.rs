//! A handler that fails in the middle of its answer: the process lives, the connection does not.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::gaia::{CORE, WEB};
use crate::demo::story::{Claim, End, Step, Story, Weakness};

pub static STORY: Story = Story {
    name: "stream",
    about: "a handler raises in the middle of its answer; the process lives, the candidate answers",
    telling: "gaia-core's handler raises when half of its answer is on its way. The process lives, the status line said 200, and gaia-web sees a connection that ends too early. Did anything die?",
    weak: &[Weakness::Fault(CORE, "stream")],
    steps: &[Step::Ask { path: "process_packet", bytes: 64 }, Step::AwaitAnswer],
    claim: Claim {
        subject: CORE,
        kind: CauseKind::AppClosed,
        end: End::Lives,
        moment: MomentFact::ServerClose,
        client: WEB,
        error: HttpxClass::RemoteProtocolError,
        raised: None,
        retried: true,
        caller_told: "done",
    },
    saved: true,
    why: &[
        "Nothing died: a living process closed a connection on which it owed the rest of an answer.",
        "An incomplete body is RemoteProtocolError, which is on the list: the same handler failed three times.",
        "After 2 s and 4 s gaia-web asked the fallback, and the candidate, which has its session state, answered.",
    ],
};
