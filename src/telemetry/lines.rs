//! Access lines on their way to the file: collected for a moment, written together.
//!
//! # Why
//!
//! A line a request through a general logging library costs more than the rest of the corridor: it visits
//! each field, formats a date and makes one system call a line. Here a line is written into memory in one
//! pass, and a thread of its own hands what has come together to the system, some fifty times a second.
//! A full buffer makes writers wait for that thread: a slow disk slows requests down, no line is lost.
//! Audit events do not come here; they are written at once.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// How long lines are collected.
const COLLECT: Duration = Duration::from_millis(20);
/// Most bytes that wait for the writer.
const LARGEST: usize = 4 << 20;
const SECOND: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");

/// Where lines go.
#[derive(Debug)]
pub(super) struct Lines {
    state: Mutex<State>,
    /// Told when the first line comes, and when the writer is to end.
    work: Condvar,
    /// Told when the buffer was taken.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    ending: bool,
}

/// Writes what waits, and ends the writer, when dropped.
#[derive(Debug)]
pub struct Writer {
    lines: Arc<Lines>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Lines that `to` gets, and their writer.
    pub(super) fn start(to: impl Write + Send + 'static) -> std::io::Result<(Arc<Self>, Writer)> {
        let lines = Arc::new(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let its_own = Arc::clone(&lines);
        let thread = thread::Builder::new()
            .name(String::from("access-lines"))
            .spawn(move || its_own.write_to(to))?;
        let writer = Writer {
            lines: Arc::clone(&lines),
            thread: Some(thread),
        };
        Ok((lines, writer))
    }

    /// Adds what `write` writes as one line.
    pub(super) fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            write(line);
            line.push(b'\n');
            self.append(line);
        });
    }

    /// Adds `text` as one line.
    pub(super) fn add_text(&self, text: &str) {
        self.append(format!("{text}\n").as_bytes());
    }

    fn append(&self, line: &[u8]) {
        let mut state = self.lock();
        while state.waiting.len() > LARGEST && !state.ending {
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        let idle = !state.writing;
        drop(state);
        if first && idle {
            self.work.notify_one();
        }
    }

    fn write_to(&self, mut to: impl Write) {
        let mut batch = Vec::new();
        while self.take(&mut batch) {
            self.room.notify_all();
            if let Err(error) = to.write_all(&batch).and_then(|()| to.flush()) {
                tracing::error!(%error, bytes = batch.len(), "access lines were not written");
            }
            batch.clear();
        }
    }

    /// Waits for lines, collects for a moment, and takes them; false once there will be none.
    fn take(&self, batch: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        state.writing = false;
        while state.waiting.is_empty() && !state.ending {
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        if !state.ending {
            let waited = self.work.wait_timeout_while(state, COLLECT, |s| !s.ending);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut state.waiting, batch);
        !batch.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lines.lock().ending = true;
        self.lines.work.notify_all();
        self.lines.room.notify_all();
        if let Some(thread) = self.thread.take() {
            // It panics nowhere; if it did, there is nobody left to tell.
            drop(thread.join());
        }
    }
}

/// A JSON object as it is written (RFC 8259). Names are ours, and need no escapes.
pub(super) struct Object<'a>(&'a mut Vec<u8>);

impl<'a> Object<'a> {
    pub(super) fn begin(line: &'a mut Vec<u8>) -> Self {
        line.push(b'{');
        Self(line)
    }

    pub(super) fn text(&mut self, name: &'static str, value: &str) {
        self.name(name);
        // SECURITY: a line stays one line, whatever a client says.
        let special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        // Without an early end, which would keep the compiler from looking at many bytes at a time.
        let found = value.bytes().fold(false, |any, byte| any | special(byte));
        if !found {
            self.0.push(b'"');
            self.0.extend_from_slice(value.as_bytes());
            self.0.extend_from_slice(b"\",");
        } else {
            self.value(&value);
        }
    }

    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        self.value(&value);
    }

    pub(super) fn end(self) {
        // Instead of the last member's comma.
        self.0.pop();
        self.0.push(b'}');
    }

    /// Cannot fail: into memory, and of types that are JSON.
    fn value(&mut self, value: &impl Serialize) {
        drop(serde_json::to_writer(&mut *self.0, value));
        self.0.push(b',');
    }

    fn name(&mut self, name: &'static str) {
        for part in ["\"", name, "\":"] {
            self.0.extend_from_slice(part.as_bytes());
        }
    }
}

thread_local! {
    static LINE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(1024));
    static DATE: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// `now` as RFC 3339 with microseconds; the date is formatted once a second.
pub(super) fn timestamp(now: OffsetDateTime) -> String {
    DATE.with_borrow_mut(|(second, text)| {
        if *second != now.unix_timestamp() {
            *second = now.unix_timestamp();
            *text = now.format(SECOND).unwrap_or_default();
        }
        format!("{text}.{:06}Z", now.microsecond())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use time::macros::datetime;

    use super::*;

    struct Sink(mpsc::Sender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_arrives_whole_and_in_order() {
        let (sender, written) = mpsc::channel();
        let (lines, writer) = Lines::start(Sink(sender)).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let lines = Arc::clone(&lines);
                thread::spawn(move || {
                    for n in 0..1000 {
                        lines.add(|line| write!(line, "[{thread},{n}]").unwrap());
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        drop(writer);
        let text = String::from_utf8(written.iter().flatten().collect()).unwrap();
        let records: Vec<(u32, u32)> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for thread in 0..4 {
            let of_it = records.iter().filter(|(by, _)| *by == thread);
            assert!(of_it.map(|(_, n)| *n).eq(0..1000), "thread {thread}");
        }
    }

    #[test]
    fn whatever_a_client_says_stays_one_member_of_one_line() {
        for said in [
            "",
            "plain",
            "a\"b",
            "a\\b",
            "a\nb",
            "a\u{0}b",
            "\u{7f}é\u{2028}",
        ] {
            let mut line = Vec::new();
            let mut object = Object::begin(&mut line);
            object.text("said", said);
            object.number("n", u64::MAX);
            object.end();
            let text = String::from_utf8(line).unwrap();
            assert!(!text.contains('\n'), "{text}");
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read, serde_json::json!({"said": said, "n": u64::MAX}));
        }
    }

    #[test]
    fn dates_are_those_of_the_moment() {
        let moment = datetime!(2026-11-23 01:02:03.000_045 UTC);
        assert_eq!(timestamp(moment), "2026-11-23T01:02:03.000045Z");
        let later = datetime!(2026-12-31 23:59:59.999_999 UTC);
        assert_eq!(timestamp(later), "2026-12-31T23:59:59.999999Z");
        assert_eq!(timestamp(moment), "2026-11-23T01:02:03.000045Z");
    }
}
