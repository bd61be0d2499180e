//! OOM kill during a request: the primary exceeds its memory limit, the candidate responds.

use gaia_monitor::model::incident::CauseKind;

use crate::demo::gaia::CORE;
use crate::demo::story::{Claim, End, FALLBACK_RESPONDED, ONE_REQUEST, Story, Weakness};

pub static STORY: Story = Story {
    name: "oom",
    about: "the primary exceeds its memory limit during a request; the candidate responds",
    intro: "gaia-core has a memory limit of 256 MiB and builds an index in memory. The kernel's OOM killer ends it while \
            gaia-web waits. Docker's own OOM flag comes late, if at all; what does the kernel report?",
    weak: &[Weakness::Memory(CORE, 256), Weakness::Fault(CORE, "memory")],
    steps: ONE_REQUEST,
    claim: Claim::new(CauseKind::OomKilled, End::Signal("SIGKILL")),
    why: &[
        "The kernel's OOM killer chose gaia-core's process: its connection ended with a FIN before any response, which \
         httpx reports as RemoteProtocolError.",
        "RemoteProtocolError is on the policy's list, so gaia-web retried. By then the container was no longer running \
         and its DNS name was removed: ConnectError.",
        FALLBACK_RESPONDED,
    ],
};
