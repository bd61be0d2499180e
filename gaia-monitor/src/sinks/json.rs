//! One incident, one line of JSON. Nothing else ever stands among these lines.

use std::io::{self, Write};
use std::sync::Arc;

use super::lane::{Drain, Trouble};
use super::notice;
use crate::engine::effect::Effect;
use crate::model::incident::Incident;

/// Writes whole lines: what a failed write left behind is ended before the next line begins.
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

    /// Hands one line to the system.
    ///
    /// # Errors
    /// [`Trouble::Gone`] for a closed pipe, else the incident is lost and the next one may succeed.
    pub fn write(&mut self, incident: &Incident) -> Result<(), Trouble> {
        self.put(&Self::line(incident)?)
    }

    /// An incident as its line, with the newline.
    ///
    /// # Errors
    /// Never for the contract's types; the incident would be lost.
    pub fn line(incident: &Incident) -> Result<Vec<u8>, Trouble> {
        let mut line = serde_json::to_vec(incident).map_err(|error| Trouble::Lost { count: 1, error: error.into() })?;
        line.push(b'\n');
        Ok(line)
    }

    /// Hands a line that [`Lines::line`] made to the system, with one write.
    ///
    /// # Errors
    /// As [`Lines::write`].
    pub fn put(&mut self, line: &[u8]) -> Result<(), Trouble> {
        let torn = std::mem::replace(&mut self.torn, true);
        let written = if torn { self.output.write_all(&[b"\n", line].concat()) } else { self.output.write_all(line) };
        match written.and_then(|()| self.output.flush()) {
            Ok(()) => {
                self.torn = false;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Trouble::Gone(error)),
            Err(error) => Err(Trouble::Lost { count: 1, error }),
        }
    }
}

/// Incidents on standard output, for programs. Explanations go to standard error.
pub struct JsonLines<W> {
    lines: Lines<W>,
    explain: bool,
}

impl<W: Write> JsonLines<W> {
    pub fn new(output: W, explain: bool) -> Self {
        Self { lines: Lines::new(output), explain }
    }
}

impl<W: Write + Send + 'static> Drain<Arc<Effect>> for JsonLines<W> {
    fn kind(&self) -> &'static str {
        "stdout"
    }

    fn name(&self) -> String {
        "standard output".to_owned()
    }

    fn take(&mut self, effect: Arc<Effect>, _lost_before: u64) -> Result<(), Trouble> {
        match effect.as_ref() {
            Effect::Incident(incident) => self.lines.write(incident),
            Effect::Explained { at, text } => {
                if self.explain {
                    notice::print(format_args!("{at} {}\n", super::terminal::text::harmless(text)));
                }
                Ok(())
            }
            Effect::Counted(_) | Effect::Wanted(_) => Ok(()),
        }
    }

    fn idle(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn finish(&mut self, _lost: u64) -> Result<(), Trouble> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::Lines;
    use crate::model::incident::Incident;
    use crate::sinks::lane::Trouble;
    use crate::sinks::sample;

    /// Takes so many bytes, fails once, and takes everything again.
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
    fn a_line_that_broke_off_does_not_spoil_the_next_one() {
        let mut lines = Lines::new(Hiccup { data: Vec::new(), room: 100 });
        let incident = sample::killed();
        assert!(matches!(lines.write(&incident), Err(Trouble::Lost { count: 1, .. })));
        lines.write(&incident).unwrap();
        let text = String::from_utf8(lines.output().data.clone()).unwrap();
        let (torn, whole) = text.split_once('\n').unwrap();
        assert_eq!(torn.len(), 100);
        assert_eq!(serde_json::from_str::<Incident>(whole).unwrap(), incident);
    }
}
