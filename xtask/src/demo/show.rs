//! Output of the demo: the story as it happens, then the client's log next to the incident.

use comfy_table::{ContentArrangement, Table, presets};
use gaia_monitor::model::incident::{Affected, CauseKind, Incident, name_of};

use super::gaia::{Played, WEB};
use super::story::Story;
use super::watch::LogLine;

/// Width if standard output is not a terminal.
const WIDTH: u16 = 120;
/// Length of `2026-01-01T00:00:00.000Z`, with which the demo's services begin a log line.
const STAMP: usize = 24;

pub fn heading(story: &Story) -> String {
    format!("── {} ──\n{}", story.name, wrapped(story.intro, ""))
}

/// Prints an action of the demo.
pub fn act(what: &str) {
    println!("  > {what}");
}

/// Prints a line that the service itself logged; not those of its web server or of a traceback.
pub fn log_line(line: &LogLine) {
    let LogLine { service, text: line } = line;
    match stamped(line) {
        Some((time, text)) => println!("    {time}  {service:<20}  {text}"),
        None if line.starts_with("Fatal Python error") || line.contains("HTTP ") && service == "caller" => {
            println!("    {:12}  {service:<20}  {line}", "");
        }
        None => {}
    }
}

/// Time of day and text of a log line with a timestamp.
fn stamped(line: &str) -> Option<(&str, &str)> {
    let (stamp, text) = line.split_at_checked(STAMP)?;
    let time = stamp.strip_suffix('Z')?.split_once('T')?.1;
    Some((time, text.trim_start()))
}

/// The client's log on the left, the incident on the right.
pub fn side_by_side(played: &Played, story: &Story, incident: &Incident) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width())
        .set_header([format!("what {WEB} logged"), "what gaia-monitor reported".to_owned()])
        .add_row([logged(&played.web, &raised(story)).join("\n"), incident_lines(incident).join("\n")]);
    table.to_string()
}

/// Prefix of the last line of the client's traceback.
fn raised(story: &Story) -> String {
    story.claim.raised.map_or_else(|| format!("httpx.{}", name_of(&story.claim.error)), str::to_owned)
}

/// The log line that reports the error, the frame in the service's own code, and the traceback's last line.
fn logged(web: &[String], raised: &str) -> Vec<String> {
    let Some(last) = web.iter().rposition(|line| line.starts_with(raised)) else {
        // A failed attempt that is retried is logged in one line, without a traceback.
        let class = raised.rsplit('.').next().unwrap_or(raised);
        let report = web.iter().find(|line| stamped(line).is_some() && line.contains(class)).cloned();
        return vec![report.unwrap_or_else(|| format!("(no line with {raised})"))];
    };
    let (before, _) = web.split_at(last);
    let report = before.iter().rev().find(|line| stamped(line).is_some());
    let frame = before.iter().rev().find(|line| line.trim_start().starts_with("File \"/srv/gaia/"));
    let traceback = [report.cloned(), frame.map(|frame| format!("  …\n{frame}")), web.get(last).cloned()];
    traceback.into_iter().flatten().collect()
}

fn incident_lines(incident: &Incident) -> Vec<String> {
    let Incident { cause, moment, subject, .. } = incident;
    let mut lines = vec![
        cause.summary.clone(),
        format!("cause    {} ({})", name_of(&cause.kind), name_of(&cause.confidence)),
        format!("moment   {} ({})", moment.at, name_of(&moment.fact)),
    ];
    let pid = subject.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
    lines.push(format!("process  {} pid {pid}", subject.comm.as_deref().unwrap_or("?")));
    if let Some(container) = &subject.container {
        lines.push(format!("in       {container} ({})", name_of(&subject.role)));
    }
    match (&cause.signal, cause.exit_code) {
        (Some(signal), _) => lines.push(format!("died of  {signal}")),
        (None, Some(code)) => lines.push(format!("exit     {code}")),
        (None, None) => {}
    }
    if let Some(sender) = &cause.sender {
        let pid = sender.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        lines.push(format!("sent by  {} pid {pid}", sender.comm.as_deref().unwrap_or("?")));
    }
    lines.extend(incident.affected.iter().map(|entry| broken(incident, entry)));
    lines
}

fn broken(incident: &Incident, entry: &Affected) -> String {
    let Affected { client, server, client_error, .. } = entry;
    let address = |party: &gaia_monitor::model::incident::Party| {
        let name = party.service.as_deref().or(party.container.as_deref()).unwrap_or("host");
        match (party.ip, party.port) {
            (Some(ip), Some(port)) => format!("{name} {ip}:{port}"),
            _ => name.to_owned(),
        }
    };
    let after = entry.at.0.since(incident.moment.at.0);
    let detail = client_error.detail.as_ref().map(name_of).unwrap_or_default();
    let errno = client_error.errno.as_ref().map(|errno| format!(", {errno}")).unwrap_or_default();
    format!(
        "broke    {} → {}\nas       httpx.{} ({detail}{errno})\nwhile    {}, {:+.3} ms from the moment\npolicy   {}",
        address(client),
        address(server),
        name_of(&client_error.httpx),
        name_of(&client_error.phase).replace('_', " "),
        // For display only: a double is exact to the microsecond here.
        after.0 as f64 / 1e6,
        if client_error.retried { "retries this class" } else { "does NOT retry this class" },
    )
}

/// Why the policy did or did not help, and the other incidents.
pub fn why(played: &Played, story: &Story, claimed: &Incident, incidents: &[Incident]) -> String {
    let heading =
        if story.is_saved() { "How the policy saved the call" } else { "Why the policy did not save the call" };
    let mut text = format!("\n{heading}:\n");
    for (index, sentence) in story.why.iter().enumerate() {
        text.push_str(&wrapped(sentence, &format!("  {}. ", index + 1)));
        text.push('\n');
    }
    text.push_str(&format!("\nThe caller's response, {}\n", played.response));
    for other in incidents.iter().filter(|other| other.id != claimed.id) {
        text.push_str(&format!("Also reported: {} ({} broken)\n", other.cause.summary, other.affected_total));
    }
    if claimed.cause.kind == CauseKind::ProcessCrashed {
        text.push_str("The moment is the kernel's own record of the crash, earlier than any log line.\n");
    }
    text
}

/// Wraps text to the width of the terminal, with a hanging indent.
fn wrapped(text: &str, lead: &str) -> String {
    let indent = " ".repeat(lead.chars().count());
    let options = textwrap::Options::new(usize::from(width()).clamp(40, 120));
    textwrap::fill(text, options.initial_indent(lead).subsequent_indent(&indent))
}

fn width() -> u16 {
    terminal_size::terminal_size().map_or(WIDTH, |(width, _)| width.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::stories;
    use crate::demo::story::tests::claimed;

    #[test]
    fn keeps_the_report_the_services_own_frame_and_the_last_line() {
        let web: Vec<String> = [
            "2026-01-01T00:00:00.000Z WARNING attempt 1/3 failed",
            "2026-01-01T00:00:11.500Z WARNING HA fallback POST x also failed (ReadError).",
            "Traceback (most recent call last):",
            "  File \"/usr/local/lib/httpx/_client.py\", line 1, in post",
            "  File \"/srv/gaia/web.py\", line 66, in post_with_retry",
            "  File \"/usr/local/lib/httpx/_client.py\", line 2, in send",
            "httpx.ReadError",
        ]
        .map(str::to_owned)
        .to_vec();
        let lines = logged(&web, "httpx.ReadError");
        assert_eq!(lines.first(), web.get(1));
        assert_eq!(lines.last(), web.last());
        assert!(lines.iter().any(|line| line.ends_with("line 66, in post_with_retry")), "{lines:?}");
    }

    #[test]
    fn shows_the_clients_log_next_to_the_moment_and_the_policy() {
        let story = stories::named("upload").unwrap();
        let incident = serde_json::from_value(claimed(story)).unwrap();
        let web = vec!["2026-01-01T00:00:11.006Z ERROR POST failed".to_owned(), "httpx.ReadError".to_owned()];
        let played = Played { web, response: "after 1 s: HTTP 500".to_owned() };
        let shown = side_by_side(&played, story, &incident);
        let row = |left: &str, right: &str| shown.lines().any(|line| line.contains(left) && line.contains(right));
        assert!(row("what gaia-web logged", "what gaia-monitor reported"), "{shown}");
        assert!(row("ERROR POST failed", "it ended"), "{shown}");
        assert!(shown.contains("2026-01-01T00:00:11.000000000Z (process_exit)"), "{shown}");
        assert!(shown.contains("as       httpx.ReadError (reset, ECONNRESET)"), "{shown}");
        assert!(shown.contains("while    awaiting response, +4.712 ms from the moment"), "{shown}");
        assert!(shown.contains("policy   does NOT retry this class"), "{shown}");
        let reasons = why(&played, story, &incident, std::slice::from_ref(&incident));
        assert!(reasons.contains("  3. ReadError is *not* on the policy's list") && !reasons.contains("Also reported"));
    }

    #[test]
    fn reads_the_timestamp_of_a_services_own_line() {
        assert_eq!(stamped("2026-01-01T00:00:11.500Z INFO packet"), Some(("00:00:11.500", "INFO packet")));
        assert_eq!(stamped("INFO:     127.0.0.1:1 - \"POST /x HTTP/1.1\" 500"), None);
        assert_eq!(stamped("short"), None);
    }

    #[test]
    fn indents_the_further_lines_of_a_numbered_sentence() {
        let text = wrapped(&"word ".repeat(60), "  1. ");
        assert!(text.starts_with("  1. word word"));
        assert!(text.lines().skip(1).all(|line| line.starts_with("     word")), "{text}");
    }
}
