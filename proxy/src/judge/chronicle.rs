//! The judge's lines in the log. A log that nobody reads (a full pipe, a terminal that is stopped) makes whoever writes
//! to it wait: not the judge.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that may wait; what comes beyond them is counted, and missing in the log.
const LINES_MAX: usize = 1_024;
/// How long an end waits for the log.
const END_WAIT: Duration = Duration::from_secs(1);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) rollout: Arc<str>,
    pub(super) code: &'static str,
    pub(super) text: String,
    /// Somebody should look at it.
    pub(super) loud: bool,
}

/// Hands lines to a thread that may wait.
#[derive(Debug)]
pub(super) struct Chronicle {
    lines: SyncSender<Line>,
    lost: Arc<AtomicU64>,
    ended: Receiver<()>,
}

impl Chronicle {
    /// Starts the thread; `write` is called on it.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(write: impl Fn(&Line) + Send + 'static) -> std::io::Result<Self> {
        let (lines, waiting) = sync_channel::<Line>(LINES_MAX);
        let (end, ended) = sync_channel::<()>(1);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let run = move || {
            let _until_the_end = end;
            while let Ok(line) = waiting.recv() {
                write(&line);
                let lost = counted.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let text = format!("{lost} lines of rollouts are missing here: the log was not read");
                    write(&Line { code: "log-lost", text, loud: true, ..line });
                }
            }
        };
        std::thread::Builder::new().name("serin-chronicle".into()).spawn(run)?;
        Ok(Self { lines, lost, ended })
    }

    /// Writes a line soon. Never waits.
    pub(super) fn write(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines are written, but not for ever. Gives back whether they are.
    pub(super) fn end(self) -> bool {
        let Self { lines, ended, .. } = self;
        drop(lines);
        ended.recv_timeout(END_WAIT) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Into the log of the process.
pub(super) fn log(line: &Line) {
    let Line { rollout, code, text, loud } = line;
    if *loud {
        tracing::warn!(%rollout, code, "{text}");
    } else {
        tracing::info!(%rollout, code, "{text}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn line(number: usize) -> Line {
        Line { rollout: "world".into(), code: "advance", text: number.to_string(), loud: false }
    }

    #[test]
    fn a_log_that_nobody_reads_makes_nobody_wait_and_tells_what_it_lacks() {
        let (seen, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(())));
        let (write, open) = (Arc::clone(&seen), Arc::clone(&gate));
        let shut = gate.lock().unwrap();
        let chronicle = Chronicle::start(move |line| {
            let _open = open.lock().unwrap();
            write.lock().unwrap().push(line.text.clone());
        })
        .unwrap();
        // one is with the thread, or will be
        (0..LINES_MAX + 11).for_each(|number| chronicle.write(line(number)));
        let lost = chronicle.lost.load(Ordering::Relaxed);
        assert!((10..=11).contains(&lost), "{lost}");
        drop(shut);
        assert!(chronicle.end());
        let seen = seen.lock().unwrap();
        assert_eq!((seen[0].as_str(), seen.len()), ("0", LINES_MAX + 12 - lost as usize));
        assert!(seen[1].starts_with(&format!("{lost} lines")), "{}", seen[1]);
    }

    #[test]
    fn an_end_does_not_wait_for_ever() {
        let gate = Arc::new(Mutex::new(()));
        let open = Arc::clone(&gate);
        let _shut = gate.lock().unwrap();
        let chronicle = Chronicle::start(move |_| drop(open.lock())).unwrap();
        chronicle.write(line(0));
        assert!(!chronicle.end());
    }
}
