//! A native crash of the primary: the policy retries, the candidate answers.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::gaia::{CORE, WEB};
use crate::demo::story::{Claim, End, Step, Story, Weakness};

pub static STORY: Story = Story {
    name: "segv",
    about: "the primary dies of native code in the middle of its work, the candidate answers",
    telling: "gaia-core loads an embedding model, and native code reads where it must not. gaia-web only sees that the server disconnected. A crash, a kill, or an orderly end?",
    weak: &[Weakness::Fault(CORE, "embedding")],
    steps: &[Step::Ask { path: "process_packet", bytes: 64 }, Step::AwaitAnswer],
    claim: Claim {
        subject: CORE,
        kind: CauseKind::ProcessCrashed,
        end: End::Signal("SIGSEGV"),
        moment: MomentFact::ProcessExit,
        client: WEB,
        error: HttpxClass::RemoteProtocolError,
        raised: None,
        retried: true,
        caller_told: "done",
    },
    saved: true,
    why: &[
        "gaia-core's process raised SIGSEGV itself: nobody sent it, and the kernel's exit record says so.",
        "RemoteProtocolError is on the policy's list; the next attempts found no container any more, ConnectError.",
        "ConnectError is on the policy's list as well. After 2 s and 4 s gaia-web asked the fallback, and the candidate answered.",
    ],
};
