//! `docker stop` with a grace period shorter than the request: the candidate responds.

use gaia_monitor::model::incident::CauseKind;

use crate::demo::gaia::CORE;
use crate::demo::story::{Claim, End, FALLBACK_RESPONDED, Step, Story, Weakness};

pub static STORY: Story = Story {
    name: "stop",
    about: "the grace period of docker stop is shorter than a request; the candidate responds",
    intro: "gaia-core needs five seconds for a request when it is stopped with a grace period of one second. It handles \
            SIGTERM and refuses new connections immediately, but the old request still runs when the period ends.",
    weak: &[Weakness::Fault(CORE, "slow")],
    steps: &[
        Step::Post { path: "process_packet", bytes: 64 },
        Step::AwaitLog { service: CORE, needle: "working on the packet" },
        Step::StopWithin(CORE, 1),
        Step::AwaitResponse,
    ],
    claim: Claim::new(CauseKind::ContainerStopped, End::Signal("SIGKILL")),
    why: &[
        "Docker received a stop request for the container: the stop is the cause, although SIGKILL ended the process \
         after the grace period.",
        "The running request lost its response: RemoteProtocolError, which the policy retries.",
        FALLBACK_RESPONDED,
    ],
};
