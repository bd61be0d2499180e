//! Paused server: it accepts the request and does not respond. The policy does not retry the timeout.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::gaia::CORE;
use crate::demo::story::{Claim, End, Step, Story, Weakness};

pub static STORY: Story = Story {
    name: "pause",
    about: "the primary is paused: it accepts the request and does not respond; not retried",
    intro: "gaia-core is paused. The kernel still accepts connections and acknowledges bytes for it, so gaia-web sees a \
            server that is merely slow, and times out after three seconds.",
    weak: &[Weakness::Timeout(3)],
    steps: &[
        Step::Pause(CORE),
        Step::Post { path: "process_packet", bytes: 64 },
        Step::AwaitResponse,
        Step::Unpause(CORE),
    ],
    claim: Claim {
        moment: MomentFact::DockerPause,
        ..Claim::not_retried(CauseKind::ContainerPaused, End::Lives, HttpxClass::ReadTimeout, "ReadTimeout")
    },
    why: &[
        "No packet distinguishes a paused server from a slow one: the evidence is Docker's pause event, which the \
         monitor joins to the timeout.",
        "gaia-web's policy treats \"slow\" as \"not down\": no timeout is retried, and the healthy candidate was not \
         called.",
    ],
};
