//! The open connections of the HTTP server: what each is doing, since when, and which one gives way.
//!
//! A new connection is always accepted. Beyond [`CONNECTIONS`] the one that made no progress for the longest time is
//! closed: a client that is idle, drips a header or does not read cannot keep another one out. Progress is a complete
//! request or a part of its response; bytes of an incomplete request are none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

/// A Prometheus or two, a browser and some scripts.
pub(super) const CONNECTIONS: usize = 64;
/// For a whole header section, from its first byte; of a new connection from the accept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two requests: longer than any usual scrape interval, so that a scraper may keep its connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// For a client to take the next part of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Receiving a header section; the first one is expected at once.
    Receiving,
    /// Sending a response; `begun`: a part of it has been sent.
    Responding { begun: bool },
    /// Between two requests.
    Idle,
}

#[derive(Clone, Copy, Debug)]
struct Activity {
    doing: Doing,
    /// The last progress, or the first byte of the header section.
    since: Instant,
    progress: Instant,
}

impl Activity {
    fn deadline(self) -> Instant {
        self.since
            + match self.doing {
                Doing::Receiving => HEADER_TIMEOUT,
                Doing::Responding { .. } => WRITE_TIMEOUT,
                Doing::Idle => IDLE_TIMEOUT,
            }
    }
}

#[derive(Debug)]
struct Slot {
    activity: Activity,
    task: Option<AbortHandle>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    slots: BTreeMap<u64, Slot>,
}

/// Shared by the accept loop and the connections, all on one thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<Table>>);

impl Connections {
    /// Adds a connection; closes others while there are too many.
    pub(super) fn admit(&self, now: Instant) -> Connection {
        while self.lock().slots.len() >= CONNECTIONS {
            self.evict();
        }
        let mut table = self.lock();
        let id = table.next;
        table.next += 1;
        let activity = Activity { doing: Doing::Receiving, since: now, progress: now };
        table.slots.insert(id, Slot { activity, task: None });
        Connection { id, all: self.clone() }
    }

    /// Names the task that an eviction ends.
    pub(super) fn attach(&self, id: u64, task: AbortHandle) {
        if let Some(slot) = self.lock().slots.get_mut(&id) {
            slot.task = Some(task);
        }
    }

    /// Closes the connection that made no progress for the longest time; `false`: there is none.
    pub(super) fn evict(&self) -> bool {
        let mut table = self.lock();
        let idle = table.slots.iter().min_by_key(|(_, slot)| slot.activity.progress).map(|(id, _)| *id);
        let Some(slot) = idle.and_then(|id| table.slots.remove(&id)) else { return false };
        if let Some(task) = slot.task {
            task.abort();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's entry. Dropping it removes the entry.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    all: Connections,
}

impl Connection {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Bytes arrived.
    pub(super) fn received(&self, now: Instant) {
        self.change(|activity| {
            if activity.doing == Doing::Idle {
                (activity.doing, activity.since) = (Doing::Receiving, now);
            }
        });
    }

    /// A request is complete.
    pub(super) fn requested(&self, now: Instant) {
        self.progressed(Doing::Responding { begun: false }, now);
    }

    /// The client's side took a part of the response.
    pub(super) fn sent(&self, now: Instant) {
        self.progressed(Doing::Responding { begun: true }, now);
    }

    /// Everything that was to be sent has been sent.
    pub(super) fn flushed(&self, now: Instant) {
        self.change(|activity| {
            if activity.doing == (Doing::Responding { begun: true }) {
                (activity.doing, activity.since) = (Doing::Idle, now);
            }
        });
    }

    /// When the connection is to be closed, unless it makes progress.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.all.lock().slots.get(&self.id).map(|slot| slot.activity.deadline())
    }

    fn progressed(&self, doing: Doing, now: Instant) {
        self.change(|activity| *activity = Activity { doing, since: now, progress: now });
    }

    fn change(&self, change: impl FnOnce(&mut Activity)) {
        if let Some(slot) = self.all.lock().slots.get_mut(&self.id) {
            change(&mut slot.activity);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.lock().slots.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{CONNECTIONS, Connections, HEADER_TIMEOUT, IDLE_TIMEOUT, WRITE_TIMEOUT};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_connection_without_progress_for_the_longest_time_gives_way() {
        let all = Connections::default();
        let start = Instant::now();
        let at = |seconds: usize| start + SECOND * u32::try_from(seconds).unwrap();
        let open: Vec<_> = (0..CONNECTIONS).map(|second| all.admit(at(second))).collect();
        open[0].requested(at(CONNECTIONS));
        // Bytes of a header section that never ends are no progress.
        open[1].received(at(CONNECTIONS));
        let _new = all.admit(at(CONNECTIONS));
        let gone: Vec<_> = (0..CONNECTIONS).filter(|index| open[*index].deadline().is_none()).collect();
        assert_eq!(gone, [1]);
        assert_eq!(all.lock().slots.len(), CONNECTIONS);
    }

    #[test]
    fn each_phase_of_a_connection_has_its_deadline() {
        let all = Connections::default();
        let start = Instant::now();
        let connection = all.admit(start);
        connection.received(start + SECOND);
        assert_eq!(connection.deadline(), Some(start + HEADER_TIMEOUT), "counted from the accept");
        connection.requested(start + SECOND);
        connection.flushed(start + SECOND);
        assert_eq!(connection.deadline(), Some(start + SECOND + WRITE_TIMEOUT), "nothing was sent yet");
        connection.sent(start + SECOND * 2);
        connection.flushed(start + SECOND * 3);
        assert_eq!(connection.deadline(), Some(start + SECOND * 3 + IDLE_TIMEOUT));
        connection.received(start + SECOND * 20);
        connection.received(start + SECOND * 25);
        assert_eq!(connection.deadline(), Some(start + SECOND * 20 + HEADER_TIMEOUT), "counted from the first byte");
    }
}
