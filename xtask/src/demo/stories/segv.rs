//! Native crash of the primary: the policy retries, the candidate responds.

use gaia_monitor::model::incident::CauseKind;

use crate::demo::gaia::CORE;
use crate::demo::story::{Claim, End, FALLBACK_RESPONDED, ONE_REQUEST, Story, Weakness};

pub static STORY: Story = Story {
    name: "segv",
    about: "the primary crashes in native code during a request; the candidate responds",
    intro: "gaia-core loads an embedding model, and native code reads an invalid address. gaia-web only sees that the \
            server disconnected. A crash, a kill, or a clean exit?",
    weak: &[Weakness::Fault(CORE, "embedding")],
    steps: ONE_REQUEST,
    claim: Claim::new(CauseKind::ProcessCrashed, End::Signal("SIGSEGV")),
    why: &[
        "gaia-core's process raised SIGSEGV itself: no other process sent it, as the kernel's exit record shows.",
        "RemoteProtocolError is on the policy's list. The next attempts found no running container: ConnectError.",
        FALLBACK_RESPONDED,
    ],
};
