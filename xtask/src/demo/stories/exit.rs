//! Exit with an error code during a request: the policy retries, the candidate responds.

use gaia_monitor::model::incident::CauseKind;

use crate::demo::gaia::CORE;
use crate::demo::story::{Claim, End, FALLBACK_RESPONDED, ONE_REQUEST, Story, Weakness};

pub static STORY: Story = Story {
    name: "exit",
    about: "the primary exits with code 3 during a request; the candidate responds",
    intro: "gaia-core finds no session state and exits with code 3 while it handles a request. gaia-web sees the same \
            disconnect as after a crash. Which was it?",
    weak: &[Weakness::Fault(CORE, "exit")],
    steps: ONE_REQUEST,
    claim: Claim::new(CauseKind::ProcessExited, End::Exit(3)),
    why: &[
        "The process exited spontaneously with code 3: no signal and no Docker request preceded it.",
        "Its open request ended with it: RemoteProtocolError, which the policy retries. The next attempts failed with \
         ConnectError, because the container was no longer running.",
        FALLBACK_RESPONDED,
    ],
};
