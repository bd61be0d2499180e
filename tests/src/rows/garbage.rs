//! Answers that are no HTTP, by a server that lives.

use crate::case::Case;
use crate::client::Request;
use crate::expect::{Expected, MALFORMED, Moment};
use crate::gaia::{Gaia, by_gaps};
use crate::row::{Row, row};
use anyhow::Result;

pub fn rows() -> Vec<Row> {
    vec![
        row("no-http", "bytes that are no HTTP are a protocol error", garbage("/garbage", HEAD)),
        row("no-http-then-close", "the same when the server closes at once", garbage("/garbage?seconds=0", HEAD)),
        row(
            "tls-to-plain-http",
            "a TLS server's answer to plain HTTP is a protocol error",
            garbage("/tls-alert", HEAD),
        ),
        row("bad-status", "a status line without a number is a protocol error", garbage("/bad-status", HEAD)),
        row("bad-header", "a header line without a colon is a protocol error", garbage("/bad-header", HEAD)),
        row("big-header", "a head above 100 KiB is a protocol error", garbage("/big-header", HEAD)),
        row("bad-chunk", "a chunk without a size is a protocol error", garbage("/bad-chunk", "receiving_body")),
    ]
}

const HEAD: &str = "awaiting_response";

fn garbage(path: &'static str, phase: &'static str) -> impl Fn(&Case) -> Result<Vec<Expected>> {
    move |case| {
        let gaia = Gaia::begin(case, |recipe| recipe, &["raw"])?;
        let request = gaia.web.send(gaia.retried(Request::get(&gaia.core.url(path))))?;
        let broken = gaia.ended(&request, MALFORMED, phase)?.by_the_candidate()?;
        by_gaps(broken, |first| {
            let moment = Moment::Between { fact: "malformed", from: first.outcome.started, to: first.outcome.at };
            let core = &gaia.core;
            Ok(Expected::living("protocol_error", &core.container, Some(core.pid), moment).role("primary"))
        })
    }
}
