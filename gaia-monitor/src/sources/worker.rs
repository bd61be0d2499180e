//! A thread that does one thing after another for those who may not do it themselves.
//!
//! It is started while it may still keep a privilege, reduces itself to that, and serves threads that have none. It ends
//! when the last clone of its door is gone.

use std::io;
use std::sync::mpsc as blocking;
use std::thread;

use tokio::sync::{mpsc, oneshot};

/// Jobs that wait. Most have an asker who waits for them; of the others, what finds no room is not taken.
const JOBS: usize = 1_024;

type Job = Box<dyn FnOnce() + Send>;

/// The worker's door.
#[derive(Clone, Debug)]
pub struct Worker(mpsc::Sender<Job>);

impl Worker {
    /// Starts the thread and waits until it has reduced itself by `reduce`.
    ///
    /// # Errors
    /// When the system refuses a thread, or `reduce` fails.
    pub fn start(name: &str, reduce: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (sender, mut jobs) = mpsc::channel::<Job>(JOBS);
        let serve = move || {
            while let Some(job) = jobs.blocking_recv() {
                job();
            }
        };
        start(name, reduce, serve)?;
        Ok(Self(sender))
    }

    /// Has a job done without waiting for it. `false`: there is no room for it.
    pub fn begin(&self, job: impl FnOnce() + Send + 'static) -> bool {
        self.0.try_send(Box::new(job)).is_ok()
    }

    /// Has a job done; ready with what it returned.
    ///
    /// # Errors
    /// When the thread has ended, which only a panic in an earlier job can make it do.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let ended = || io::Error::other("a worker has ended");
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Whoever does not wait any more needs no answer.
            let _ = reply.send(job());
        });
        self.0.send(job).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }
}

/// Starts a thread that runs `reduce`, and then, if that went well, `serve`. Returns when it has been reduced.
///
/// # Errors
/// When the system refuses a thread, or `reduce` fails.
pub fn start(
    name: &str,
    reduce: impl FnOnce() -> io::Result<()> + Send + 'static,
    serve: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let (reply, reduced) = blocking::sync_channel(1);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = reduce();
        let goes_on = result.is_ok();
        // The maker waits for it.
        let _ = reply.send(result);
        if goes_on {
            serve();
        }
    })?;
    reduced.recv().map_err(|_| io::Error::other(format!("the thread {name} has ended")))?
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::Worker;

    #[tokio::test]
    async fn jobs_are_done_in_the_workers_thread_in_order() {
        let worker = Worker::start("test-worker", || Ok(())).unwrap();
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(worker.run(name).await.unwrap().as_deref(), Some("test-worker"));
        assert_eq!(worker.run(|| 7).await.unwrap(), 7);
    }

    #[test]
    fn a_worker_that_cannot_reduce_itself_does_not_start() {
        let refused = Worker::start("test-worker", || Err(io::Error::other("no")));
        assert_eq!(refused.unwrap_err().to_string(), "no");
    }
}
