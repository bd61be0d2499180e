//! Crash of one of two workers under a living parent: the container lives, the retry succeeds.

use gaia_monitor::model::incident::CauseKind;

use crate::demo::gaia::CORE;
use crate::demo::story::{Claim, End, ONE_REQUEST, Story, Weakness};

pub static STORY: Story = Story {
    name: "worker",
    about: "one of two workers crashes, its container lives on, and the retry succeeds",
    intro: "gaia-core runs two uvicorn workers. One of them crashes in native code during a request. The parent starts \
            another one, and neither Docker nor a health check notices.",
    weak: &[Weakness::Workers(CORE, 2), Weakness::Fault(CORE, "once")],
    steps: ONE_REQUEST,
    claim: Claim::new(CauseKind::WorkerDied, End::Signal("SIGSEGV")),
    why: &[
        "The crashed process was not the container's first process: the container lives, and its port stayed open.",
        "RemoteProtocolError is on the policy's list: after 2 s gaia-web retried, and another worker responded.",
    ],
};
