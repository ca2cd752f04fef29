//! What a process has used so far, as the kernel counts it (`/proc/PID`).
//!
//! Processor time over requests served is steadier on a shared machine than requests a second.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A process to watch.
#[derive(Clone, Debug)]
pub struct Meter {
    folder: PathBuf,
    tick: Duration,
}

/// One look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// User and system time since its start.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    /// The most it ever was.
    pub peak: u64,
    /// Open file descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

impl Meter {
    /// Watches process `pid`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        fs::metadata(&folder)?;
        Ok(Self {
            folder,
            tick: Duration::from_secs(1) / ticks_a_second()?,
        })
    }

    /// Reads it now; an error when the process has gone.
    pub fn read(&self) -> io::Result<Reading> {
        let stat = fs::read_to_string(self.folder.join("stat"))?;
        let status = fs::read_to_string(self.folder.join("status"))?;
        Ok(Reading {
            cpu: self.tick * ticks(&stat).ok_or_else(|| odd("stat"))?,
            resident: kibibytes(&status, "VmRSS:").ok_or_else(|| odd("status"))? * 1024,
            peak: kibibytes(&status, "VmHWM:").ok_or_else(|| odd("status"))? * 1024,
            descriptors: fs::read_dir(self.folder.join("fd"))?.count(),
            threads: fs::read_dir(self.folder.join("task"))?.count(),
        })
    }
}

fn ticks_a_second() -> io::Result<u32> {
    let answer = Command::new("getconf").arg("CLK_TCK").output()?;
    let text = String::from_utf8_lossy(&answer.stdout);
    text.trim().parse().map_err(|_| odd("getconf CLK_TCK"))
}

// proc(5): fields 14 and 15, counted behind the name, which may itself hold spaces and brackets.
fn ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn kibibytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn odd(what: &str) -> io::Error {
    io::Error::other(format!("{what} does not look as expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(42));
    }

    #[test]
    fn this_very_process_can_be_read() {
        let reading = Meter::of(std::process::id()).and_then(|meter| meter.read());
        assert!(reading.is_ok_and(|reading| reading.resident > 100_000 && reading.descriptors > 2));
    }
}
