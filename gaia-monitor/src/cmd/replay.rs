//! `replay FILE`: judges a recording again and prints what the run printed.

use super::add_stdout;
use crate::belt::Belt;
use crate::cli::Replay;
use crate::exit::{Exit, Failure};
use crate::recording::play::play;
use crate::recording::reader::Reader;
use crate::sinks::lane::Pace;
use crate::sinks::terminal::text::counted;
use crate::sinks::{Sinks, notice};

pub fn replay(args: &Replay) -> Result<Exit, Failure> {
    let mut reader = Reader::open(&args.file)?;
    let header = reader.header().clone();
    if header.version != env!("CARGO_PKG_VERSION") {
        notice::warn(format_args!(
            "recorded by gaia-monitor {}, judged by {}: verdicts may differ from those of the run",
            header.version,
            env!("CARGO_PKG_VERSION")
        ));
    }
    let mut sinks = Sinks::new(Pace::Replay);
    add_stdout(&mut sinks, args.output, args.explain)?;
    let mut belt = Belt::new(header.settings, sinks);
    let played = play(&mut reader, |event| {
        belt.feed(event);
        !belt.is_unheard()
    });
    let outcome = belt.finish();
    // What could be read has been printed, also in front of a line that could not.
    let played = played?;
    if outcome.unheard {
        return Ok(Exit::Ok);
    }
    notice::print(outcome.summary.text(&outcome.shortfalls));
    if played.torn {
        notice::warn(format_args!(
            "{} breaks off within its last line: the monitor was killed, or is still recording; replayed what was whole",
            args.file.display()
        ));
    }
    if played.missing > 0 {
        let events = counted(played.missing, "event", "events");
        return Err(Failure::new(
            Exit::UnreadableRecording,
            format_args!(
                "{} lacks {events} that the run could not record, so this may differ from what the run printed; \
                 record to a faster or emptier disk",
                args.file.display()
            ),
        ));
    }
    Ok(Exit::Ok)
}
