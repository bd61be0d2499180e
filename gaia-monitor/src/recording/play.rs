//! Iteration over the events of a recording, with a `Lost` event in place of each gap.

use std::io::BufRead;

use super::format::LOST_STAGE;
use super::reader::{Entry, Reader, RecordingError};
use crate::model::event::{Event, Fact};
use crate::model::time::Stamp;

/// The content of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    pub events: u64,
    /// Events that its gap lines count.
    pub missing: u64,
    /// It broke off within a line.
    pub torn: bool,
}

/// Feeds event after event until `feed` has enough (`false`) or the recording ends.
///
/// The engine of the run received the events that a gap lost, so a replay cannot print the same: it reports the missing
/// events, and the engine lowers its confidence as for any other loss.
///
/// # Errors
/// A line that cannot be read; all lines before it have been fed.
pub fn play<R: BufRead>(
    reader: &mut Reader<R>,
    mut feed: impl FnMut(&Event) -> bool,
) -> Result<Played, RecordingError> {
    let mut played = Played::default();
    let mut seen = Stamp::default();
    while let Some(entry) = reader.next_entry()? {
        let event = match entry {
            Entry::Event(event) => *event,
            Entry::Gap(0) => continue,
            Entry::Gap(count) => {
                played.missing = played.missing.saturating_add(count);
                let seq = reader.next_seq().saturating_sub(count);
                let fact = Fact::Lost { stage: LOST_STAGE.to_owned(), count };
                Event { seq, seen, at: seen, fact }
            }
        };
        seen = event.seen;
        played.events += 1;
        if !feed(&event) {
            return Ok(played);
        }
    }
    played.torn = reader.is_torn();
    Ok(played)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{Played, play};
    use crate::model::event::{Event, Fact};
    use crate::model::settings::Settings;
    use crate::model::time::Stamp;
    use crate::recording::format::Header;
    use crate::recording::reader::Reader;

    fn events(lines: &str) -> (Vec<Event>, Played) {
        let header = Header::new("6.18.0".into(), Stamp(2), Stamp(1), Settings::default());
        let text = format!("{}\n{lines}", serde_json::to_string(&header).unwrap());
        let mut reader = Reader::new("R".into(), Cursor::new(text.into_bytes())).unwrap();
        let mut events = Vec::new();
        let played = play(&mut reader, |event| {
            events.push(event.clone());
            true
        });
        (events, played.unwrap())
    }

    #[test]
    fn feeds_a_loss_in_place_of_a_gap() {
        let tick = |seq, seen| Event { seq, seen: Stamp(seen), at: Stamp(seen), fact: Fact::Tick };
        let (first, second) = (tick(1, 10), tick(4, 20));
        let json = |event| serde_json::to_string(event).unwrap();
        let text = format!("{}\n{{\"gap\":{{\"count\":2}}}}\n{}\n", json(&first), json(&second));
        let (events, played) = events(&text);
        let lost = Fact::Lost { stage: "recording".into(), count: 2 };
        assert_eq!(events, [first, Event { seq: 2, seen: Stamp(10), at: Stamp(10), fact: lost }, second]);
        assert_eq!(played, Played { events: 3, missing: 2, torn: false });
    }
}
