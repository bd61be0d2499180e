//! Scanners that separate prose from code: comments and string literals of Rust and Python, and comments of files that
//! use `#`.
//!
//! Hand-written, because the rules need only these two token kinds, with line numbers and in any version of the
//! language. The code that remains keeps its lines; comments are blanked and literals are emptied in it.

/// Kind of a piece of prose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Comment,
    Literal,
    Page,
    Asset,
}

/// A comment, a string literal, or a whole page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prose {
    pub kind: Kind,
    /// Line of its first character, from 1.
    pub line: usize,
    /// Without markers; line breaks are kept.
    pub text: String,
}

/// Code and prose of one file.
#[derive(Debug, Default)]
pub struct Scanned {
    pub code: String,
    pub prose: Vec<Prose>,
    /// Line breaks in `code` so far.
    breaks: usize,
}

impl Scanned {
    /// A file that is one piece of prose.
    #[must_use]
    pub fn whole(kind: Kind, text: &str) -> Self {
        Self { prose: vec![Prose { kind, line: 1, text: text.to_owned() }], ..Self::default() }
    }

    fn line(&self) -> usize {
        self.breaks + 1
    }

    fn push(&mut self, c: char) {
        self.breaks += usize::from(c == '\n');
        self.code.push(c);
    }

    /// Adds a comment, joined to the one on the line above, so that sentences and code spans may continue.
    fn comment(&mut self, line: usize, text: &str) {
        match self.prose.last_mut() {
            Some(last) if last.kind == Kind::Comment && last.line + last.text.matches('\n').count() + 1 == line => {
                last.text.push('\n');
                last.text.push_str(text);
            }
            _ => self.prose.push(Prose { kind: Kind::Comment, line, text: text.to_owned() }),
        }
    }

    fn literal(&mut self, line: usize, text: String) {
        self.prose.push(Prose { kind: Kind::Literal, line, text });
    }

    /// Line breaks of what is left out of the code.
    fn skip_lines(&mut self, text: &str) {
        text.chars().filter(|&c| c == '\n').for_each(|c| self.push(c));
    }
}

/// Separates Rust code from its comments (doc comments included) and string literals.
#[must_use]
pub fn rust(text: &str) -> Scanned {
    let mut out = Scanned::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let line = out.line();
        let taken = if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            let comment = rest.get(..length).unwrap_or_default();
            out.comment(line, comment.trim_start_matches('/').trim_start_matches('!'));
            length
        } else if rest.starts_with("/*") {
            let length = block_comment(rest);
            let comment = rest.get(..length).unwrap_or_default();
            out.comment(line, comment.trim_start_matches(['/', '*', '!']).trim_end_matches(['/', '*']));
            out.skip_lines(comment);
            length
        } else if let Some((literal, length)) = rust_literal(rest) {
            out.code.push_str("\"\"");
            out.skip_lines(rest.get(..length).unwrap_or_default());
            out.literal(line, literal);
            length
        } else if first == '_' || first.is_alphabetic() {
            let word = word_length(rest);
            out.code.push_str(rest.get(..word).unwrap_or_default());
            word
        } else if let Some(length) = character(rest) {
            out.code.push_str("' '");
            length
        } else {
            out.push(first);
            first.len_utf8()
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len())
}

/// Length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Content and length of the string literal that begins here: plain, byte, C or raw.
fn rust_literal(text: &str) -> Option<(String, usize)> {
    let prefix = word_length(text);
    let (prefix, rest) = text.split_at_checked(prefix)?;
    match prefix {
        "" | "b" | "c" if rest.starts_with('"') => {
            let length = quoted(rest, "\"");
            let content = rest.get(1..length.saturating_sub(1)).unwrap_or_default();
            Some((without_placeholders(&without_escapes(content)), prefix.len() + length))
        }
        "r" | "br" | "cr" => {
            let hashes = rest.len() - rest.trim_start_matches('#').len();
            let content = rest.get(hashes..)?.strip_prefix('"')?;
            let end = format!("\"{}", "#".repeat(hashes));
            let length = content.find(&end).unwrap_or(content.len());
            let whole = prefix.len() + hashes + 1 + length + end.len();
            Some((without_placeholders(content.get(..length)?), whole.min(text.len())))
        }
        _ => None,
    }
}

/// Length of a literal between equal quotes, with backslash escapes.
fn quoted(text: &str, quote: &str) -> usize {
    let mut at = quote.len();
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(quote) {
            return at + quote.len();
        }
        let mut chars = rest.chars();
        at += match chars.next() {
            Some('\\') => 1 + chars.next().map_or(0, char::len_utf8),
            Some(c) => c.len_utf8(),
            None => 1,
        };
    }
    text.len()
}

/// Length of a character literal; none for a lifetime.
fn character(text: &str) -> Option<usize> {
    let content = text.strip_prefix('\'')?;
    let mut chars = content.chars();
    match chars.next()? {
        '\\' => Some(quoted(text, "'")),
        c => (chars.next() == Some('\'')).then(|| c.len_utf8() + 2),
    }
}

/// Blanks escapes, so that the letter of `\n` joins no word.
fn without_escapes(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => {
                out.push(' ');
                out.push(if chars.next() == Some('\n') { '\n' } else { ' ' });
            }
            (c, false) => out.push(c),
        }
    }
    out
}

/// Blanks `{name}` and `{name:>5}`: a captured variable is code.
fn without_placeholders(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let is_inner = |c: char| c.is_alphanumeric() || "_:?.#<>^+-$*!".contains(c);
        let length = after.find(|c: char| !is_inner(c)).unwrap_or(after.len());
        match after.get(length..).and_then(|tail| tail.strip_prefix('}')) {
            Some(tail) => {
                out.push_str(&" ".repeat(length + 2));
                rest = tail;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Separates Python code from its comments (docstrings included) and string literals.
#[must_use]
pub fn python(text: &str) -> Scanned {
    let mut out = Scanned::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let line = out.line();
        let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|&quote| rest.starts_with(quote));
        let taken = match (first, quote) {
            ('#', _) => {
                let length = rest.find('\n').unwrap_or(rest.len());
                out.comment(line, rest.get(1..length).unwrap_or_default());
                length
            }
            (_, Some(quote)) => {
                let length = quoted(rest, quote);
                let content = rest.get(quote.len()..length.saturating_sub(quote.len())).unwrap_or_default();
                if quote.len() == 3 {
                    out.comment(line, content);
                } else {
                    out.literal(line, without_placeholders(&without_escapes(content)));
                }
                out.code.push_str("\"\"");
                out.skip_lines(rest.get(..length).unwrap_or_default());
                length
            }
            (first, None) => {
                out.push(first);
                first.len_utf8()
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

/// Comments of a file in which a line that begins with `#` is one: TOML, YAML, shell.
#[must_use]
pub fn hash_comments(text: &str) -> Scanned {
    let mut out = Scanned::default();
    for (index, line) in text.lines().enumerate() {
        if let Some(comment) = line.trim_start().strip_prefix('#').filter(|comment| !comment.starts_with('!')) {
            out.comment(index + 1, comment);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(scanned: &Scanned) -> Vec<(Kind, usize, &str)> {
        scanned.prose.iter().map(|prose| (prose.kind, prose.line, prose.text.trim())).collect()
    }

    #[test]
    fn separates_comments_and_literals_from_code() {
        let scanned =
            rust("//! Head.\nfn f() { // tail\n    let x = \"a b\"; /* c /* d */ e */ g(b\"h\", c\"i\");\n}\n");
        let expected = [
            (Kind::Comment, 1, "Head.\n tail"),
            (Kind::Literal, 3, "a b"),
            (Kind::Comment, 3, "c /* d */ e"),
            (Kind::Literal, 3, "h"),
            (Kind::Literal, 3, "i"),
        ];
        assert_eq!(found(&scanned), expected);
        assert_eq!(scanned.code, "\nfn f() { \n    let x = \"\";  g(\"\", \"\");\n}\n");
    }

    #[test]
    fn reads_raw_strings_to_their_own_end() {
        let scanned = rust("let a = r#\"one \"two\" // three\"#; let r#type = br\"four\\\"; // five");
        let expected =
            [(Kind::Literal, 1, "one \"two\" // three"), (Kind::Literal, 1, "four\\"), (Kind::Comment, 1, "five")];
        assert_eq!(found(&scanned), expected);
        assert!(scanned.code.contains("let r#type = "), "{}", scanned.code);
    }

    #[test]
    fn takes_a_quote_character_for_no_string_and_a_lifetime_for_no_character() {
        let scanned = rust("fn f<'a>(x: &'a str) { g('\"', '\\'', b'\"', '\\u{22}', 'é'); } // end");
        assert_eq!(found(&scanned), [(Kind::Comment, 1, "end")]);
        assert!(scanned.code.starts_with("fn f<'a>(x: &'a str)"), "{}", scanned.code);
    }

    #[test]
    fn joins_comment_lines_and_keeps_their_line_numbers() {
        let scanned = rust("/// one\n/// two\nfn f() {}\n\n// three\n");
        assert_eq!(found(&scanned), [(Kind::Comment, 1, "one\n two"), (Kind::Comment, 5, "three")]);
    }

    #[test]
    fn blanks_escapes_and_placeholders_of_literals() {
        let scanned = rust(
            r#"f("a\nb {name} {count:>5} {{c}} {} \
            d")"#,
        );
        let words: Vec<&str> = scanned.prose.iter().flat_map(|prose| prose.text.split_whitespace()).collect();
        assert_eq!(words, ["a", "b", "{", "}", "d"]);
    }

    #[test]
    fn separates_docstrings_and_literals_of_python() {
        let scanned = python("\"\"\"Head\nsecond.\"\"\"\nx = 'it\\'s'  # why\n# more\ny = f\"{x} z\"\n");
        let expected = [
            (Kind::Comment, 1, "Head\nsecond."),
            (Kind::Literal, 3, "it  s"),
            (Kind::Comment, 3, "why\n more"),
            (Kind::Literal, 5, "z"),
        ];
        assert_eq!(found(&scanned), expected);
    }

    #[test]
    fn reads_hash_comments_without_the_interpreter_line() {
        let scanned = hash_comments("#!/bin/sh\n# one\n# two\nkey = 1\n  # three\n");
        assert_eq!(found(&scanned), [(Kind::Comment, 2, "one\n two"), (Kind::Comment, 5, "three")]);
    }
}
