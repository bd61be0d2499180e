//! A primary that gives up by itself with an exit code: no signal, no crash.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::gaia::{CORE, WEB};
use crate::demo::story::{Claim, End, Step, Story, Weakness};

pub static STORY: Story = Story {
    name: "exit",
    about: "the primary gives up with exit code 3 while it holds a request, the candidate answers",
    telling: "gaia-core finds no session state and ends itself with exit code 3, the request in its hands. gaia-web sees what it would see of a crash. Which was it?",
    weak: &[Weakness::Fault(CORE, "exit")],
    steps: &[Step::Ask { path: "process_packet", bytes: 64 }, Step::AwaitAnswer],
    claim: Claim {
        subject: CORE,
        kind: CauseKind::ProcessExited,
        end: End::Exit(3),
        moment: MomentFact::ProcessExit,
        client: WEB,
        error: HttpxClass::RemoteProtocolError,
        raised: None,
        retried: true,
        caller_told: "done",
    },
    saved: true,
    why: &[
        "The process ended by itself with code 3: nothing in the kernel or in Docker asked it to.",
        "The request in its hands ended with it: RemoteProtocolError, which the policy retries; then ConnectError, the container being gone.",
        "ConnectError is on the policy's list as well. After 2 s and 4 s gaia-web asked the fallback, and the candidate answered.",
    ],
};
