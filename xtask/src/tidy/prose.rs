//! Words of prose, without what is quoted: code spans, code blocks, and tables marked as quotations.

/// A Markdown table after this line quotes replaced wording.
pub const QUOTATION: &str = "<!-- quotation -->";

/// Blanks quoted text; line breaks stay, so that line numbers remain right.
#[must_use]
pub fn unquoted(text: &str) -> String {
    without_spans(&without_blocks(text))
}

/// Blanks fenced blocks and marked tables, line by line.
fn without_blocks(text: &str) -> String {
    let mut is_fenced = false;
    let mut is_marked = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        let is_fence = trimmed.starts_with("```");
        is_marked = trimmed == QUOTATION || is_marked && (trimmed.is_empty() || trimmed.starts_with('|'));
        lines.push(if is_fence || is_fenced || is_marked { "" } else { line });
        is_fenced ^= is_fence;
    }
    lines.join("\n")
}

/// Blanks code spans: from a run of backticks to the next one of the same length in the paragraph.
fn without_spans(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, from_tick)) = rest.find('`').and_then(|at| rest.split_at_checked(at)) {
        out.push_str(before);
        let content = from_tick.trim_start_matches('`');
        let ticks = from_tick.len() - content.len();
        let paragraph = content.find("\n\n").and_then(|end| content.get(..end)).unwrap_or(content);
        match closing(paragraph, ticks) {
            Some(at) => {
                let (span, after) = content.split_at_checked(at + ticks).unwrap_or((content, ""));
                out.push(' ');
                out.extend(span.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = after;
            }
            None => {
                out.push_str(&" ".repeat(ticks));
                rest = content;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Where a run of exactly so many backticks begins.
fn closing(text: &str, ticks: usize) -> Option<usize> {
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        at += rest.find('`')?;
        let run = text.get(at..)?.len() - text.get(at..)?.trim_start_matches('`').len();
        if run == ticks {
            return Some(at);
        }
        at += run;
    }
    None
}

/// Words as the pattern `\b` delimits them, with their lines counted from 0.
pub fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(line, text)| {
        let words = text.split(|c: char| c != '_' && !c.is_alphanumeric());
        words.filter(|word| !word.is_empty()).map(move |word| (line, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Vec<(usize, String)> {
        words(&unquoted(text)).map(|(line, word)| (line, word.to_owned())).collect()
    }

    #[test]
    fn blanks_code_spans_also_across_lines() {
        assert_eq!(kept("a `b\nc` d ``e ` f`` g"), [(0, "a".into()), (1, "d".into()), (1, "g".into())]);
    }

    #[test]
    fn keeps_text_after_a_lone_backtick() {
        assert_eq!(kept("a ` b"), [(0, "a".into()), (0, "b".into())]);
    }

    #[test]
    fn blanks_fenced_blocks() {
        assert_eq!(kept("a\n```text\nb\n```\nc"), [(0, "a".into()), (4, "c".into())]);
    }

    #[test]
    fn blanks_a_table_only_when_it_is_marked() {
        assert_eq!(kept("| a |\n\nb"), [(0, "a".into()), (2, "b".into())]);
        assert_eq!(kept(&format!("{QUOTATION}\n\n| a |\n| b |\nc")), [(4, "c".into())]);
    }

    #[test]
    fn keeps_a_name_with_underscores_as_one_word() {
        assert_eq!(words("a_b, c-d").map(|(_, word)| word).collect::<Vec<_>>(), ["a_b", "c", "d"]);
    }
}
