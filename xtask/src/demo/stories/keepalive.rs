//! Keep-alive race: the server's idle timeout and the client's next request cross on the wire.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::story::{Claim, End, Step, Story};

pub static STORY: Story = Story {
    name: "keepalive",
    about: "the server's idle timeout and the client's next request cross; not retried",
    intro: "A client keeps its connection to gaia-core for the next request, and sends it just after gaia-core's idle \
            timeout has closed the connection. The client reports \"Server disconnected\". A crash?",
    weak: &[],
    steps: &[Step::PostTwice { path: "process_packet" }, Step::AwaitResponse],
    claim: Claim {
        moment: MomentFact::ServerClose,
        raised: Some("ConnectionError"),
        ..Claim::not_retried(CauseKind::KeepaliveRace, End::Lives, HttpxClass::ReadError, "ConnectionError")
    },
    why: &[
        "gaia-core closed an idle connection before the first byte of the request arrived: it never saw the request.",
        "The request was reset. An httpx client would have raised ReadError, which is not on the policy's list, although \
         a retry would have been safe: the server had read nothing.",
    ],
};
