//! A promise about the Kerberos room needs a process of its own: libkrb5's environment is the process's,
//! and the gateway's must be there before the first thread.

use std::env;
use std::future::Future;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use kerbgate::kerberos::Delegator;
use kerbgate::kerberos::Error;
use kerbgate::kerberos::KdcAddress;
use kerbgate::kerberos::Settings;
use kerbgate::kerberos::environment;
use kerbgate::model::names::Principal;
use kerbgate::model::names::Spn;

use crate::lab::Lab;

const INSIDE: &str = "KERBGATE_PROMISE_ALONE";

/// The inside of such a process.
pub struct Room {
    pub lab: &'static Lab,
    /// The runtime folder: `krb5.conf` is here, and the test may put files of its own beside it.
    pub folder: PathBuf,
}

/// Runs `body` in a new process of this very test, `path` being its name as the test runner knows it.
pub fn alone<F: Future<Output = ()>>(path: &str, body: impl FnOnce(Room) -> F) {
    alone_with(path, &[], body);
}

/// The same with further variables on top of the gateway's. Out, but not inside: what the process said.
pub fn alone_with<F: Future<Output = ()>>(
    path: &str,
    more: &[(&str, &str)],
    body: impl FnOnce(Room) -> F,
) -> Option<String> {
    if let Some(folder) = env::var_os(INSIDE) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let room = Room {
                lab: Lab::get().await,
                folder: PathBuf::from(folder),
            };
            body(room).await;
        });
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    // `promises::file::test` here, `file::test` to the runner.
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    let done = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .envs(environment(folder.path()))
        .envs(more.iter().copied())
        .env(INSIDE, folder.path())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(done.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{name} was not run:\n{said}");
    Some(said)
}

impl Room {
    pub fn settings(&self) -> Settings {
        self.settings_with(
            &self.lab.facts.keytabs.gateway,
            &[self.lab.facts.kdc.to_string()],
        )
    }

    /// The gateway's settings with this keytab and these KDCs.
    pub fn settings_with(&self, keytab: &Path, kdcs: &[String]) -> Settings {
        let kdcs: Vec<KdcAddress> = kdcs.iter().map(|kdc| kdc.parse().unwrap()).collect();
        Settings::new(
            person("svc-gateway"),
            self.lab.facts.realm.parse().unwrap(),
            keytab.to_owned(),
            kdcs,
            self.folder.clone(),
        )
    }

    pub fn delegator(&self) -> Delegator {
        Delegator::start(self.settings()).unwrap()
    }

    /// A copy of a keytab that the test may replace.
    pub fn own_keytab(&self, from: &Path) -> PathBuf {
        let path = self.folder.join("own.keytab");
        replace(&path, &std::fs::read(from).unwrap());
        path
    }
}

/// Puts `bytes` in place of the file as a whole, readable by the owner alone.
pub fn replace(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, bytes).unwrap();
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}

pub fn person(name: &str) -> Principal {
    format!("{name}@CONTOSO.TEST").parse().unwrap()
}

pub fn http(name: &str) -> Spn {
    format!("HTTP/{name}.contoso.test").parse().unwrap()
}

/// The code of the refusal, and its text for the log of a failing test.
pub fn code<T>(outcome: Result<T, Error>) -> (&'static str, String) {
    let error = outcome.err().expect("a refusal");
    (error.diagnosis().code, error.to_string())
}
