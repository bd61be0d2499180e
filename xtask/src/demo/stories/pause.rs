//! A paused server takes requests and answers none: a timeout that the policy does not retry.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::gaia::{CORE, WEB};
use crate::demo::story::{Claim, End, Step, Story, Weakness};

pub static STORY: Story = Story {
    name: "pause",
    about: "the primary is paused: it takes the request, answers nothing, and the policy does not retry",
    telling: "gaia-core is paused. The kernel goes on accepting connections and acknowledging bytes for it, so gaia-web sees a server that is merely slow, and gives up after three seconds.",
    weak: &[Weakness::Patience(3)],
    steps: &[
        Step::Pause(CORE),
        Step::Ask { path: "process_packet", bytes: 64 },
        Step::AwaitAnswer,
        Step::Unpause(CORE),
    ],
    claim: Claim {
        subject: CORE,
        kind: CauseKind::ContainerPaused,
        end: End::Lives,
        moment: MomentFact::DockerPause,
        client: WEB,
        error: HttpxClass::ReadTimeout,
        raised: None,
        retried: false,
        caller_told: "ReadTimeout",
    },
    saved: false,
    why: &[
        "No packet tells a paused server from a slow one: the fact is Docker's pause, and the monitor joins it to the timeout.",
        "gaia-web's policy takes \"slow\" for \"not down\": no timeout is retried, and the healthy candidate was never asked.",
    ],
};
