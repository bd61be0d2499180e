//! Colours, and the page under construction. Without colour a page holds plain text only.

use anstyle::{AnsiColor, Style};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    /// Labels and references.
    Quiet,
    /// Names and instants.
    Strong,
    /// A failure, and an error that is not retried.
    Alarm,
    /// A requested or routine end, and an error that is retried.
    Caution,
    Good,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Plain => Style::new(),
            Tone::Quiet => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
            Tone::Alarm => AnsiColor::Red.on_default().bold(),
            Tone::Caution => AnsiColor::Yellow.on_default().bold(),
            Tone::Good => AnsiColor::Green.on_default(),
        }
    }
}

/// Text under construction.
pub struct Page {
    text: String,
    colour: bool,
}

/// Columns of a row's label.
const LABEL: usize = 12;

impl Page {
    #[must_use]
    pub fn new(colour: bool) -> Self {
        Self { text: String::new(), colour }
    }

    pub fn put(&mut self, tone: Tone, text: &str) -> &mut Self {
        if self.colour && tone != Tone::Plain {
            let style = tone.style();
            self.text.push_str(&format!("{style}{text}{style:#}"));
        } else {
            self.text.push_str(text);
        }
        self
    }

    pub fn end_line(&mut self) -> &mut Self {
        self.text.push('\n');
        self
    }

    /// Begins a row with its label, padded; an empty one continues the row above.
    pub fn label(&mut self, label: &str) -> &mut Self {
        self.text.push_str("  ");
        let width = LABEL - 2;
        self.put(Tone::Quiet, &format!("{label:width$}"))
    }

    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}
