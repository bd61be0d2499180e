//! JSON Lines: one incident, or one story, a line and nothing else.

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;

use super::queue::{WriteError, Writer};
use crate::engine::effect::Effect;
use crate::stderr;
use crate::text::harmless;

/// Writes whole lines: a line that a failed write left incomplete is ended before the next one begins.
pub struct Lines<W> {
    output: W,
    torn: bool,
}

impl<W: Write> Lines<W> {
    pub fn new(output: W) -> Self {
        Self { output, torn: false }
    }

    pub fn output(&mut self) -> &mut W {
        &mut self.output
    }

    /// Writes one incident or story.
    ///
    /// # Errors
    /// [`WriteError::Closed`] for a closed pipe; otherwise the incident is lost and the next one may succeed.
    pub fn write(&mut self, line: &impl Serialize) -> Result<(), WriteError> {
        self.put(&Self::line(line)?)
    }

    /// The line of an incident or a story, with its newline.
    ///
    /// # Errors
    /// Never for the contract's types; the line would be lost.
    pub fn line(line: &impl Serialize) -> Result<Vec<u8>, WriteError> {
        let mut line = serde_json::to_vec(line).map_err(|error| WriteError::Lost { count: 1, error: error.into() })?;
        line.push(b'\n');
        Ok(line)
    }

    /// Writes a line that [`Lines::line`] built, with one write.
    ///
    /// # Errors
    /// As [`Lines::write`].
    pub fn put(&mut self, line: &[u8]) -> Result<(), WriteError> {
        let torn = std::mem::replace(&mut self.torn, true);
        let written = if torn { self.output.write_all(&[b"\n", line].concat()) } else { self.output.write_all(line) };
        match written.and_then(|()| self.output.flush()) {
            Ok(()) => {
                self.torn = false;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(WriteError::Closed(error)),
            Err(error) => Err(WriteError::Lost { count: 1, error }),
        }
    }
}

/// Incidents, and stories on request, on standard output, for programs. Explanations go to standard error.
pub struct JsonLines<W> {
    lines: Lines<W>,
    stories: bool,
}

impl<W: Write> JsonLines<W> {
    pub fn new(output: W) -> Self {
        Self { lines: Lines::new(output), stories: false }
    }

    /// Also writes the lines of stories.
    #[must_use]
    pub fn with_stories(self, stories: bool) -> Self {
        Self { stories, ..self }
    }
}

impl<W: Write + Send + 'static> Writer<Arc<Effect>> for JsonLines<W> {
    fn kind(&self) -> &'static str {
        "stdout"
    }

    fn name(&self) -> String {
        "standard output".to_owned()
    }

    fn take(&mut self, effect: Arc<Effect>, _lost_before: u64) -> Result<(), WriteError> {
        match effect.as_ref() {
            Effect::Incident(incident) => self.lines.write(incident),
            Effect::Story(story) if self.stories => self.lines.write(story),
            Effect::Explained(explanation) => {
                stderr::print(format_args!("{}\n", harmless(&explanation.to_string())));
                Ok(())
            }
            Effect::Story(_) | Effect::Count(_) | Effect::Enrich(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::Lines;
    use crate::model::incident::Incident;
    use crate::output::queue::WriteError;
    use crate::output::test_fixtures;

    /// Accepts `room` bytes, fails once, and then accepts everything.
    struct Hiccup {
        data: Vec<u8>,
        room: usize,
    }

    impl Write for Hiccup {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                self.room = usize::MAX;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.room);
            self.room -= if self.room == usize::MAX { 0 } else { taken };
            self.data.extend(&bytes[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn ends_an_incomplete_line_before_the_next_one() {
        let mut lines = Lines::new(Hiccup { data: Vec::new(), room: 100 });
        let incident = test_fixtures::killed();
        assert!(matches!(lines.write(&incident), Err(WriteError::Lost { count: 1, .. })));
        lines.write(&incident).unwrap();
        let text = String::from_utf8(lines.output().data.clone()).unwrap();
        let (torn, whole) = text.split_once('\n').unwrap();
        assert_eq!(torn.len(), 100);
        assert_eq!(serde_json::from_str::<Incident>(whole).unwrap(), incident);
    }
}
