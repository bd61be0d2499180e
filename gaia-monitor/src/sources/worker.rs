//! A thread that runs jobs in sequence, with a privilege that its callers do not have.
//!
//! It starts while privileges are still held, reduces itself to the one it needs, and serves unprivileged threads. It ends
//! when the last handle is dropped.

use std::io;
use std::sync::mpsc as blocking;
use std::thread;

use tokio::sync::{mpsc, oneshot};

/// Queued jobs. Most callers wait for theirs; [`SourceThread::try_submit`] is rejected when the queue is full.
const JOBS: usize = 1_024;

type Job = Box<dyn FnOnce() + Send>;

/// Handle of the thread.
#[derive(Clone, Debug)]
pub struct SourceThread(mpsc::Sender<Job>);

impl SourceThread {
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

    /// Submits a job without waiting for it. Returns `false` if the queue is full.
    pub fn try_submit(&self, job: impl FnOnce() + Send + 'static) -> bool {
        self.0.try_send(Box::new(job)).is_ok()
    }

    /// Runs a job and returns its result.
    ///
    /// # Errors
    /// When the thread has ended, which only a panic in an earlier job can cause.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let ended = || io::Error::other("a worker has ended");
        let (reply, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The caller may have been cancelled.
            let _ = reply.send(job());
        });
        self.0.send(job).await.map_err(|_| ended())?;
        result.await.map_err(|_| ended())
    }
}

/// Starts a thread that runs `reduce` and, if it succeeds, `serve`. Returns after `reduce`.
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
        let reduced = result.is_ok();
        // The creator waits for it.
        let _ = reply.send(result);
        if reduced {
            serve();
        }
    })?;
    reduced.recv().map_err(|_| io::Error::other(format!("the thread {name} has ended")))?
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::SourceThread;

    #[tokio::test]
    async fn runs_jobs_in_its_own_thread() {
        let worker = SourceThread::start("test-worker", || Ok(())).unwrap();
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(worker.run(name).await.unwrap().as_deref(), Some("test-worker"));
        assert_eq!(worker.run(|| 7).await.unwrap(), 7);
    }

    #[test]
    fn does_not_start_when_reduce_fails() {
        let refused = SourceThread::start("test-worker", || Err(io::Error::other("no")));
        assert_eq!(refused.unwrap_err().to_string(), "no");
    }
}
