//! `doctor`: prints one line for each requirement of the monitor on this host.

use super::print;
use crate::cli;
use crate::config::Output;
use crate::doctor::{Finding, Status, examine, verdict};
use crate::exit::{CommandFailure, Exit};
use crate::output::terminal::stdout_takes_colour;
use crate::output::terminal::style::{Page, Tone};
use crate::text::one_line;

pub fn doctor(args: &cli::Doctor) -> Result<Exit, CommandFailure> {
    let findings = examine(args.docker_host.as_deref());
    print(&match args.output {
        Output::Pretty => pretty(&findings),
        Output::Json => json(&findings)?,
    })?;
    match verdict(&findings) {
        (exit, None) => Ok(exit),
        (exit, Some(message)) => Err(CommandFailure::new(exit, message)),
    }
}

fn pretty(findings: &[Finding]) -> String {
    let mut page = Page::new(stdout_takes_colour());
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings {
        let (tone, word) = match finding.status {
            Status::Ok => (Tone::Good, "ok"),
            Status::Warning => (Tone::Caution, "warning"),
            Status::Failed => (Tone::Alarm, "FAILED"),
        };
        page.put(tone, &format!("{word:7}")).put(Tone::Strong, &format!("  {:width$}", finding.check));
        page.put(Tone::Plain, &format!("  {}", one_line(&finding.detail)));
        if let Some(fix) = &finding.fix {
            page.put(Tone::Quiet, "  fix: ").put(Tone::Plain, &one_line(fix));
        }
        page.end_line();
    }
    page.into_text()
}

fn json(findings: &[Finding]) -> Result<String, CommandFailure> {
    let mut text = String::new();
    for finding in findings {
        let line = serde_json::to_string(finding).map_err(|error| {
            CommandFailure::new(Exit::Internal, format_args!("cannot write a finding as JSON: {error}"))
        })?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}
