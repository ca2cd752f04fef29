//! The end of the process, while calls are out that nobody can take back.
//!
//! libkrb5 destroys its locks when the process ends (its finalizers), and a thread that is still inside
//! and takes one of them aborts: the gateway would end by SIGABRT instead of well. Whoever ends while
//! calls are out therefore leaves the process without the finalizers of any library.

use std::ffi::c_int;
use std::ffi::c_void;
use std::sync::Once;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::ffi;

/// Calls that are inside the library, of every room of this process.
static OUT: AtomicUsize = AtomicUsize::new(0);
static ENDING: AtomicBool = AtomicBool::new(false);
static WATCH: Once = Once::new();

/// One call; over when it is dropped.
pub(super) struct Call(());

/// Asks to be told of the end: before the first call, so that the libraries' finalizers come after us.
pub(super) fn watch() {
    WATCH.call_once(|| {
        if !ffi::on_exit(end) {
            tracing::warn!("no room for a handler of the process's end");
        }
    });
}

/// Says that a call begins; `None` when the process ends and none may begin.
pub(super) fn begin() -> Option<Call> {
    // The order of these two, and of those in `end`, leaves no gap between: one of us sees the other.
    OUT.fetch_add(1, Ordering::SeqCst);
    let call = Call(());
    (!ENDING.load(Ordering::SeqCst)).then_some(call)
}

impl Drop for Call {
    fn drop(&mut self) {
        OUT.fetch_sub(1, Ordering::SeqCst);
    }
}

extern "C" fn end(status: c_int, _: *mut c_void) {
    ENDING.store(true, Ordering::SeqCst);
    if OUT.load(Ordering::SeqCst) > 0 {
        ffi::leave(status);
    }
}
