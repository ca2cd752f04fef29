//! Processes the lab starts: each dies with the lab's keeper, and none is ended by mistake.

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;
use tokio::process::Child;
use tokio::process::Command;

use crate::trouble::Because;
use crate::trouble::Trouble;

/// How often anything that is waited for is asked again.
pub const POLL: Duration = Duration::from_millis(50);

/// A process by id and by the moment it started: ids are used again, the pair is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// In clock ticks since boot, `starttime` of proc(5).
    pub started: u64,
}

impl ProcessId {
    /// The running process of this id.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, so count fields from behind it.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(Self { pid, started })
    }

    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, only if this is still the same process.
    pub async fn signal(self, name: &str) {
        if self.is_alive() {
            // The shell's own kill: no unsafe code here, and no further package.
            let _sent = Command::new("sh")
                .args(["-c", "kill -s \"$0\" \"$1\""])
                .args([name, &self.pid.to_string()])
                .status()
                .await;
        }
    }

    /// Asks it to end, and ends it when it has not within the time.
    pub async fn end(self, within: Duration) {
        self.signal("TERM").await;
        if !wait_until(within, || !self.is_alive()).await {
            self.signal("KILL").await;
            wait_until(within, || !self.is_alive()).await;
        }
    }
}

/// A child of the lab's keeper.
pub struct Service {
    pub name: &'static str,
    pub log: PathBuf,
    child: Child,
    id: Option<ProcessId>,
}

impl Service {
    /// Starts a program whose output goes to a file, which is emptied.
    ///
    /// It must be called from the keeper's main thread: the kernel ends the child with the
    /// *thread* that started it.
    pub fn start<A: AsRef<OsStr>>(
        name: &'static str,
        log: PathBuf,
        program: &Path,
        arguments: &[A],
        environment: &[(&str, &OsStr)],
    ) -> Result<Self, Trouble> {
        let doing = || format!("start {name} ({})", program.display());
        // Appending: what the program, or another one, adds to the file by its name is not written over.
        File::create(&log).because(doing())?;
        let out = File::options().append(true).open(&log).because(doing())?;
        let errors = out.try_clone().because(doing())?;
        // setpriv: a lab that was killed leaves nothing behind.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped()) // Samba ends when it closes
            .stdout(out)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .because(doing())?;
        let id = child.id().and_then(ProcessId::of);
        Ok(Self {
            name,
            log,
            child,
            id,
        })
    }

    pub fn id(&self) -> Option<ProcessId> {
        self.id
    }

    /// What to say when it is not running any more.
    pub fn ended(&mut self) -> Option<Trouble> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(Trouble::new(format!(
            "{} ended with {status}; the end of {}:\n{}",
            self.name,
            self.log.display(),
            tail(&self.log, 15)
        )))
    }

    /// Until all these addresses accept connections.
    pub async fn listening(&mut self, addresses: &[SocketAddr]) -> Result<(), Trouble> {
        // On loopback a connection is made or refused at once, so blocking is no matter.
        let open = || addresses.iter().all(|at| TcpStream::connect(at).is_ok());
        self.ready(open).await
    }

    /// Until it has written the file that says it is ready.
    pub async fn wrote(&mut self, file: &Path) -> Result<(), Trouble> {
        let whole = || fs::read(file).is_ok_and(|text| text.trim_ascii_end().ends_with(b"}"));
        self.ready(whole).await
    }

    async fn ready(&mut self, so: impl Fn() -> bool) -> Result<(), Trouble> {
        let start = Instant::now();
        while !so() {
            if let Some(trouble) = self.ended() {
                return Err(trouble);
            }
            if start.elapsed() > Duration::from_secs(60) {
                return Err(Trouble::new(format!(
                    "{} is not ready after a minute; the end of {}:\n{}",
                    self.name,
                    self.log.display(),
                    tail(&self.log, 15)
                )));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Ends it in an orderly way, and reaps it.
    pub async fn stop(mut self) {
        if let Some(id) = self.id {
            id.signal("TERM").await;
        }
        let waited = tokio::time::timeout(Duration::from_secs(8), self.child.wait()).await;
        if waited.is_err() {
            let _killed = self.child.kill().await;
        }
    }
}

/// Runs a program to its end; its output goes to a log that the error quotes.
pub async fn run(command: &mut Command, log: &Path) -> Result<(), Trouble> {
    let program = command.as_std().get_program().to_owned();
    let doing = || format!("run {}", program.display());
    let out = File::create(log).because(doing())?;
    let errors = out.try_clone().because(doing())?;
    let status = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors)
        .status()
        .await
        .because(doing())?;
    if status.success() {
        return Ok(());
    }
    Err(Trouble::new(format!(
        "{} ended with {status}; the end of {}:\n{}",
        program.display(),
        log.display(),
        tail(log, 15)
    )))
}

/// Polls until it is so; false when the time is over.
pub async fn wait_until(within: Duration, so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !so() {
        if start.elapsed() > within {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all.iter()
        .skip(all.len().saturating_sub(lines))
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
