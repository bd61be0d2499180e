//! Failover to a candidate that crashes: the primary is stopped, the candidate receives the request and dies.

use gaia_monitor::model::incident::CauseKind;

use crate::demo::gaia::{CANDIDATE, CORE};
use crate::demo::story::{Claim, End, Step, Story, Weakness};

pub static STORY: Story = Story {
    name: "failover",
    about: "the primary is stopped, and its candidate crashes during the request",
    intro: "gaia-core is stopped. gaia-web retries its request after 2 s and 4 s, then calls gaia-core-candidate, which \
            drops the connection while it works on the request. What died, when exactly, and why?",
    weak: &[Weakness::Fault(CANDIDATE, "embedding")],
    steps: &[Step::Stop(CORE), Step::Post { path: "process_packet", bytes: 64 }, Step::AwaitResponse],
    claim: Claim {
        subject: CANDIDATE,
        response: "ConnectError",
        ..Claim::new(CauseKind::ProcessCrashed, End::Signal("SIGSEGV"))
    },
    why: &[
        "gaia-core was stopped, and its name was removed from Docker's DNS: three attempts, three ConnectErrors.",
        "ConnectError is on the policy's list, so after 2 s and 4 s gaia-web called the fallback, once.",
        "The candidate crashed in native code during the request. RemoteProtocolError is on the list as well, but there \
         is nothing left to fail over to.",
        "gaia-web then raised the *primary's* error: its caller received ConnectError, not the crash behind it.",
    ],
};
