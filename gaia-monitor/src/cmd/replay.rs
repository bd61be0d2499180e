//! `replay FILE`: analyzes a recording again and prints what the run printed.

use super::add_stdout;
use crate::cli::Replay;
use crate::driver::Driver;
use crate::exit::{CommandFailure, Exit};
use crate::output::Outputs;
use crate::output::queue::Overflow;
use crate::recording::play::play;
use crate::recording::reader::Reader;
use crate::stderr;
use crate::text::counted;

pub fn replay(args: &Replay) -> Result<Exit, CommandFailure> {
    let mut reader = Reader::open(&args.file)?;
    let header = reader.header().clone();
    if header.version != env!("CARGO_PKG_VERSION") {
        stderr::warn(format_args!(
            "recorded by gaia-monitor {}, analyzed by {}: verdicts may differ from those of the run",
            header.version,
            env!("CARGO_PKG_VERSION")
        ));
    }
    let mut outputs = Outputs::new(Overflow::Block);
    let mut settings = header.settings;
    settings.stories |= args.stories;
    add_stdout(&mut outputs, args.output, args.explain, &settings)?;
    let mut driver = Driver::new(settings, outputs);
    let played = play(&mut reader, |event| {
        driver.feed(event);
        !driver.all_outputs_closed()
    });
    let outcome = driver.finish();
    // The events before an unreadable line have been printed.
    let played = played?;
    if outcome.all_closed {
        return Ok(Exit::Ok);
    }
    stderr::print(outcome.summary.text(&outcome.losses));
    if played.torn {
        stderr::warn(format_args!(
            "{} ends within its last line: the monitor was killed or is still recording; complete lines were replayed",
            args.file.display()
        ));
    }
    if played.missing > 0 {
        let events = counted(played.missing, "event", "events");
        return Err(CommandFailure::new(
            Exit::UnreadableRecording,
            format_args!(
                "{} is missing {events} that the run could not record, so the output may differ from the run's; record \
                 to a faster disk, or to one with more free space",
                args.file.display()
            ),
        ));
    }
    Ok(Exit::Ok)
}
