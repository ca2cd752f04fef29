//! MIT's own tool doing what the gateway does: S4U2Self, then S4U2Proxy, for the same person.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use tempfile::TempDir;
use tokio::process::Command;

use crate::facts::Facts;
use crate::stage::Failure;

/// `kvno` with the gateway's keytab and a ticket-granting ticket of its own.
pub struct Kvno<'a> {
    lab: &'a Facts,
    folder: TempDir,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// With the start of the program.
    pub whole: Duration,
    /// The start of the program: the same one, with nothing to ask the KDC for.
    pub start: Duration,
}

impl Run {
    /// What the two exchanges took.
    pub const fn net(self) -> Duration {
        self.whole.saturating_sub(self.start)
    }
}

const ACCOUNT: &str = "svc-gateway";

impl<'a> Kvno<'a> {
    /// Fetches the ticket-granting ticket, which the gateway also has before anybody comes.
    pub async fn prepare(lab: &'a Facts) -> Result<Self, Failure> {
        let this = Self {
            lab,
            folder: tempfile::tempdir()?,
        };
        let keytab = lab.keytabs.gateway.as_os_str();
        let cache = this.cache("tgt").into_os_string();
        this.time(
            "kinit",
            &[
                "-k".as_ref(),
                "-t".as_ref(),
                keytab,
                "-c".as_ref(),
                &cache,
                ACCOUNT.as_ref(),
            ],
        )
        .await?;
        Ok(this)
    }

    /// Gets `spn` in the name of `sam`, with nothing of that person held.
    pub async fn run(&self, sam: &str, spn: &str) -> Result<Run, Failure> {
        let cache = self.cache("fresh");
        std::fs::copy(self.cache("tgt"), &cache)?;
        let keytab = self.lab.keytabs.gateway.as_os_str();
        let asked: [&OsStr; 8] = [
            "-q".as_ref(),
            "-c".as_ref(),
            cache.as_os_str(),
            "-k".as_ref(),
            keytab,
            // Not -U: an enterprise name is looked for among UPNs, and a guest's is the cloud's.
            "-I".as_ref(),
            sam.as_ref(),
            "-P".as_ref(),
        ];
        let whole = self
            .time("kvno", &[&asked[..], &[spn.as_ref()]].concat())
            .await?;
        let held = format!("krbtgt/{0}@{0}", self.lab.realm);
        let nothing: [&OsStr; 4] = [
            "-q".as_ref(),
            "-c".as_ref(),
            cache.as_os_str(),
            held.as_ref(),
        ];
        let start = self.time("kvno", &nothing).await?;
        Ok(Run { whole, start })
    }

    async fn time(&self, program: &str, arguments: &[&OsStr]) -> Result<Duration, Failure> {
        let began = Instant::now();
        let answer = Command::new(program)
            .env("KRB5_CONFIG", &self.lab.krb5_conf)
            .args(arguments)
            .output()
            .await
            .map_err(|error| format!("{program}: {error}"))?;
        let took = began.elapsed();
        if !answer.status.success() {
            let said = String::from_utf8_lossy(&answer.stderr).into_owned();
            return Err(format!("{program} {arguments:?}: {said}").into());
        }
        Ok(took)
    }

    fn cache(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
