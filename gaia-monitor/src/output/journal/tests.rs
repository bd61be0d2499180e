//! The journal on a real file system, with a clock that the test sets.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use super::{Journal, JournalError, Limits, files, read};
use crate::access::Access;
use crate::engine::effect::Effect;
use crate::model::ids::IncidentId;
use crate::model::incident::Incident;
use crate::model::time::{Nanos, Stamp};
use crate::output::queue::{Bound, OutputQueue, Overflow, WriteError, Writer};
use crate::output::test_fixtures;

const START: i64 = 1_700_000_000_000_000_000;
const HOUR: i64 = 3_600_000_000_000;

#[derive(Clone)]
struct Hand(Arc<AtomicI64>);

impl Hand {
    fn at(start: i64) -> Self {
        Self(Arc::new(AtomicI64::new(start)))
    }
    fn move_by(&self, nanos: i64) {
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
    fn clock(&self) -> impl Fn() -> Stamp + Send + 'static {
        let hand = self.0.clone();
        move || Stamp(hand.load(Ordering::Relaxed))
    }
}

fn all(directory: &Path) -> Vec<Incident> {
    let mut found = Vec::new();
    read(directory, |incident| found.push(incident)).unwrap();
    found
}

fn numbered(number: usize) -> Incident {
    Incident { id: IncidentId(format!("gm-{number:06}")), ..test_fixtures::killed() }
}

fn effect(number: usize) -> Arc<Effect> {
    Arc::new(Effect::Incident(Box::new(numbered(number))))
}

fn length_of_a_line() -> u64 {
    serde_json::to_vec(&numbered(0)).unwrap().len() as u64 + 1
}

fn names(directory: &Path) -> Vec<PathBuf> {
    files::all(directory).unwrap()
}

#[test]
fn a_run_after_a_crash_begins_a_new_file_and_skips_the_torn_line() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("a/b");
    let hand = Hand::at(START);
    let mut first = Journal::create(&directory, Limits::default(), Access::Owner, hand.clock()).unwrap();
    first.take(effect(1), 0).unwrap();
    first.lines.output().write_all(b"{\"schema\":\"gaia").unwrap();
    drop(first);
    hand.move_by(1);
    let mut second = Journal::create(&directory, Limits::default(), Access::Owner, hand.clock()).unwrap();
    second.take(effect(2), 0).unwrap();
    second.finish(0).unwrap();
    assert_eq!(all(&directory), [numbered(1), numbered(2)]);
}

#[test]
fn a_run_without_incidents_leaves_an_empty_journal() {
    let place = tempfile::tempdir().unwrap();
    assert!(matches!(read(place.path(), |_| ()), Err(JournalError::NoJournal { .. })));
    Journal::create(place.path(), Limits::default(), Access::Owner, || Stamp(0)).unwrap().finish(0).unwrap();
    assert_eq!(all(place.path()), []);
}

#[test]
fn two_runs_never_share_a_file() {
    let place = tempfile::tempdir().unwrap();
    let create = || Journal::create(place.path(), Limits::default(), Access::Owner, || Stamp(0));
    let _first = create().unwrap();
    assert!(matches!(create(), Err(JournalError::Create { .. })));
}

#[test]
fn rotates_full_files_without_loss() {
    let place = tempfile::tempdir().unwrap();
    let limits = Limits { file_bytes: 3 * length_of_a_line(), ..Limits::default() };
    // The clock does not advance: names must still differ and sort.
    let journal = Journal::create(place.path(), limits, Access::Owner, || Stamp(START)).unwrap();
    let mut queue = OutputQueue::start(journal, Overflow::Block, Bound::of_items(4)).unwrap();
    (0..100).for_each(|number| queue.push(effect(number)));
    assert_eq!(queue.finish().count, 0);
    let files = names(place.path());
    assert_eq!(files.len(), 34);
    assert!(files.iter().all(|file| file.metadata().unwrap().len() <= limits.file_bytes));
    assert_eq!(all(place.path()), (0..100).map(numbered).collect::<Vec<_>>());
}

#[test]
fn keeps_a_line_longer_than_the_file_limit() {
    let place = tempfile::tempdir().unwrap();
    let limits = Limits { file_bytes: 1, ..Limits::default() };
    let mut journal = Journal::create(place.path(), limits, Access::Owner, || Stamp(START)).unwrap();
    (0..3).for_each(|number| journal.take(effect(number), 0).unwrap());
    assert_eq!((names(place.path()).len(), all(place.path()).len()), (3, 3));
}

#[test]
fn rotates_an_old_file_with_the_next_line() {
    let place = tempfile::tempdir().unwrap();
    let hand = Hand::at(START);
    let limits = Limits { file_age: Nanos(HOUR), ..Limits::default() };
    let mut journal = Journal::create(place.path(), limits, Access::Owner, hand.clock()).unwrap();
    journal.take(effect(1), 0).unwrap();
    hand.move_by(HOUR);
    journal.take(effect(2), 0).unwrap();
    hand.move_by(HOUR);
    journal.idle().unwrap();
    assert_eq!(names(place.path()).len(), 1);
    journal.take(effect(3), 0).unwrap();
    assert_eq!(names(place.path()).len(), 2);
    assert_eq!(all(place.path()), [numbered(1), numbered(2), numbered(3)]);
}

#[test]
fn keeps_the_order_when_the_clock_is_set_back() {
    let place = tempfile::tempdir().unwrap();
    let hand = Hand::at(START);
    let limits = Limits { file_bytes: 1, ..Limits::default() };
    let mut journal = Journal::create(place.path(), limits, Access::Owner, hand.clock()).unwrap();
    for number in 0..4 {
        journal.take(effect(number), 0).unwrap();
        hand.move_by(-HOUR);
    }
    assert_eq!(all(place.path()), (0..4).map(numbered).collect::<Vec<_>>());
}

#[test]
fn removes_the_oldest_files_beyond_the_total_size() {
    let place = tempfile::tempdir().unwrap();
    let line = length_of_a_line();
    let limits = Limits { file_bytes: 2 * line, total_bytes: 5 * line, ..Limits::default() };
    let mut journal = Journal::create(place.path(), limits, Access::Owner, || Stamp(START)).unwrap();
    (0..20).for_each(|number| journal.take(effect(number), 0).unwrap());
    // The total is checked when a file begins: the new one is empty then and grows to its own limit.
    let total: u64 = names(place.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(total <= limits.total_bytes + limits.file_bytes, "{total}");
    assert_eq!(all(place.path()).last(), Some(&numbered(19)));
    assert_eq!(all(place.path()).first(), Some(&numbered(14)));
}

#[test]
fn removes_outdated_files_but_never_a_file_in_use() {
    let place = tempfile::tempdir().unwrap();
    let hand = Hand::at(START);
    let limits = Limits { age: Nanos(10 * HOUR), ..Limits::default() };
    let written = |path: &Path, at: i64| {
        let at = UNIX_EPOCH + Duration::from_nanos(at.unsigned_abs());
        File::options().append(true).open(path).unwrap().set_modified(at).unwrap();
    };
    let old = place.path().join("incidents-20200101T000000.000000000Z.jsonl");
    let unrelated = place.path().join("notes.txt");
    [&old, &unrelated].into_iter().for_each(|path| std::fs::write(path, "").unwrap());
    [&old, &unrelated].into_iter().for_each(|path| written(path, START - 11 * HOUR));
    let held = Journal::create(place.path(), limits, Access::Owner, || Stamp(START - 1)).unwrap();
    assert!(!old.exists() && unrelated.exists());
    written(&held.path, START - 11 * HOUR);
    let mut journal = Journal::create(place.path(), limits, Access::Owner, hand.clock()).unwrap();
    assert!(held.path.exists(), "another monitor still writes to it");
    let other = held.path.clone();
    drop(held);
    written(&journal.path, START);
    hand.move_by(HOUR);
    journal.idle().unwrap();
    assert!(!other.exists());
    hand.move_by(20 * HOUR);
    journal.idle().unwrap();
    assert_eq!(names(place.path()), std::slice::from_ref(&journal.path), "its own file stays, however quiet the run");
}

#[test]
fn continues_in_the_old_file_and_reports_when_rotation_fails() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("journal");
    let limits = Limits { file_bytes: 1, ..Limits::default() };
    let mut journal = Journal::create(&directory, limits, Access::Owner, || Stamp(START)).unwrap();
    journal.take(effect(1), 0).unwrap();
    // The open file stays with the directory; new files cannot be created under the old path.
    let moved = place.path().join("moved");
    std::fs::rename(&directory, &moved).unwrap();
    std::fs::write(&directory, "").unwrap();
    assert!(matches!(journal.take(effect(2), 0), Err(WriteError::Lost { count: 0, .. })));
    std::fs::remove_file(&directory).unwrap();
    std::fs::rename(&moved, &directory).unwrap();
    journal.take(effect(3), 0).unwrap();
    assert_eq!(names(&directory).len(), 2);
    assert_eq!(all(&directory), [numbered(1), numbered(2), numbered(3)]);
}

fn journal_in(directory: &Path) -> Journal<impl Fn() -> Stamp + Send + use<>> {
    Journal::create(directory, Limits::default(), Access::Owner, || Stamp(START)).unwrap()
}

fn lost(result: Result<(), WriteError>) -> u64 {
    match result {
        Ok(()) => 0,
        Err(WriteError::Lost { count, .. }) => count,
        Err(WriteError::Closed(error)) => panic!("{error}"),
    }
}

#[test]
fn begins_again_and_counts_what_a_deleted_directory_held() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("a/journal");
    let mut journal = journal_in(&directory);
    (0..3).for_each(|number| journal.take(effect(number), 0).unwrap());
    std::fs::remove_dir_all(place.path().join("a")).unwrap();
    assert_eq!(lost(journal.take(effect(3), 0)), 3);
    assert_eq!(lost(journal.take(effect(4), 0)), 0);
    assert_eq!(all(&directory), [numbered(3), numbered(4)]);
    assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(journal.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn notices_a_deleted_file_without_an_incident() {
    let place = tempfile::tempdir().unwrap();
    let mut journal = journal_in(place.path());
    journal.take(effect(1), 0).unwrap();
    std::fs::remove_file(&journal.path).unwrap();
    assert_eq!(lost(journal.idle()), 1);
    assert_eq!((lost(journal.idle()), names(place.path()).len()), (0, 1));
}

#[test]
fn begins_again_without_a_loss_when_file_or_directory_was_moved() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("journal");
    let mut journal = journal_in(&directory);
    journal.take(effect(1), 0).unwrap();
    let (file, aside) = (place.path().join("incidents-0.jsonl"), place.path().join("aside"));
    std::fs::rename(&journal.path, &file).unwrap();
    assert_eq!(lost(journal.take(effect(2), 0)), 0);
    std::fs::rename(&directory, &aside).unwrap();
    assert_eq!(lost(journal.take(effect(3), 0)), 0);
    assert_eq!((all(place.path()), all(&aside)), (vec![numbered(1)], vec![numbered(2)]));
    assert_eq!(all(&directory), [numbered(3)]);
    // Another file of the same name is not the journal's.
    std::fs::rename(&journal.path, place.path().join("other")).unwrap();
    std::fs::write(&journal.path, "").unwrap();
    assert_eq!(lost(journal.take(effect(4), 0)), 0);
    assert_eq!(all(&directory), [numbered(4)]);
}

#[test]
fn counts_every_incident_while_no_file_can_be_created() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("journal");
    let mut journal = journal_in(&directory);
    journal.take(effect(1), 0).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::write(&directory, "").unwrap();
    let losses = [journal.take(effect(2), 0), journal.idle(), journal.take(effect(3), 0)].map(lost);
    assert_eq!(losses, [2, 0, 1], "the line in the deleted file, and each that came since");
    std::fs::remove_file(&directory).unwrap();
    assert_eq!(lost(journal.take(effect(4), 0)), 0);
    assert_eq!(all(&directory), [numbered(4)]);
}
