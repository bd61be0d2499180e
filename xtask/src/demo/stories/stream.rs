//! Exception in the middle of a response: the process lives, the connection does not.

use gaia_monitor::model::incident::{CauseKind, MomentFact};

use crate::demo::gaia::CORE;
use crate::demo::story::{Claim, End, ONE_REQUEST, Story, Weakness};

pub static STORY: Story = Story {
    name: "stream",
    about: "a handler raises in the middle of its response; the process lives, the candidate responds",
    intro: "gaia-core's handler raises after half of its response is sent. The process lives, the status line was 200, \
            and gaia-web sees a connection that ends too early. Did anything die?",
    weak: &[Weakness::Fault(CORE, "stream")],
    steps: ONE_REQUEST,
    claim: Claim { moment: MomentFact::ServerClose, ..Claim::new(CauseKind::AppClosed, End::Lives) },
    why: &[
        "Nothing died: a living process closed a connection before its response was complete.",
        "An incomplete body is RemoteProtocolError, which is on the list: the same handler failed three times.",
        "After 2 s and 4 s gaia-web called the fallback, and the candidate, which has its session state, responded.",
    ],
};
