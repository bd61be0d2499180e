//! docker stop with less grace than a request needs.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::gaia::{CORE, WEB};
use crate::demo::story::{Claim, End, Step, Story, Weakness};

pub static STORY: Story = Story {
    name: "stop",
    about: "docker stop gives less grace than a request needs; the candidate answers",
    telling: "gaia-core works on a request for five seconds when somebody stops it with one second of grace. SIGTERM is honoured, new connections are refused at once, the old request still runs, and then the grace is over.",
    weak: &[Weakness::Fault(CORE, "slow")],
    steps: &[
        Step::Ask { path: "process_packet", bytes: 64 },
        Step::AwaitLog { service: CORE, needle: "working on the packet" },
        Step::StopWithin(CORE, 1),
        Step::AwaitAnswer,
    ],
    claim: Claim {
        subject: CORE,
        kind: CauseKind::ContainerStopped,
        end: End::Signal("SIGKILL"),
        moment: MomentFact::ProcessExit,
        client: WEB,
        error: HttpxClass::RemoteProtocolError,
        raised: None,
        retried: true,
        caller_told: "done",
    },
    saved: true,
    why: &[
        "Docker was asked to stop the container: the cause is the stop, though SIGKILL ended it when the grace was over.",
        "The request that was still running lost its answer: RemoteProtocolError, which the policy retries.",
        "ConnectError is on the policy's list as well. After 2 s and 4 s gaia-web asked the fallback, and the candidate answered.",
    ],
};
