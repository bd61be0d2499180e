//! One of two workers dies under a living parent: the container lives, the retry is served.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::gaia::{CORE, WEB};
use crate::demo::story::{Claim, End, Step, Story, Weakness};

pub static STORY: Story = Story {
    name: "worker",
    about: "one of two workers crashes, its container lives on, and the retry is served",
    telling: "gaia-core runs two uvicorn workers. One of them dies of native code with a request in its hands; the parent starts another one, and neither Docker nor a health check notices anything.",
    weak: &[Weakness::Workers(CORE, 2), Weakness::Fault(CORE, "once")],
    steps: &[Step::Ask { path: "process_packet", bytes: 64 }, Step::AwaitAnswer],
    claim: Claim {
        subject: CORE,
        kind: CauseKind::WorkerDied,
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
        "The process that died was no first process: the container lives, and its port stayed open all the time.",
        "RemoteProtocolError is on the policy's list: after 2 s gaia-web asked again, and another worker answered.",
    ],
};
