//! The world the promises are tested in: one shared lab, and per test an Entra emulator and a
//! gateway of its own.
//!
//! Every test runs in a process of its own (cargo-nextest). The first one that needs the lab
//! starts it, the others find it; a lock held by each test tells the lab that it is in use, and it
//! ends by itself when nobody has held the lock for a while.
//!
//! ```ignore
//! let stage = Stage::new().await;
//! stage.replace("apps/intranet.toml", "guests = \"provision\"", "guests = \"deny\"");
//! let entra = stage.entra(&[]).await;
//! let gateway = stage.gateway().await;
//! visitor.open(&gateway.url("intranet", "/echo")).await;
//! ```

// Not every promise uses everything.
#![allow(dead_code, reason = "shared by all promises")]

#[path = "../lab/facts.rs"]
pub mod facts;
#[path = "../lab/gateway.rs"]
pub mod gateway;
#[path = "../lab/truth.rs"]
pub mod truth;

use std::env;
use std::fs;
use std::fs::File;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use facts::Facts;

const POLL: Duration = Duration::from_millis(25);
/// Longest time anything of ours may take to start; a debug build on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The shared lab: a real Active Directory and the backends. Tests must not break it.
pub struct Lab {
    pub facts: Facts,
    // Tells the lab that somebody is here.
    _in_use: File,
}

static SHARED: OnceCell<Lab> = OnceCell::const_new();

impl Lab {
    /// The lab of this working copy, started by the first test that asks.
    pub async fn get() -> &'static Self {
        SHARED
            .get_or_init(|| async {
                let folder = target().join("lab");
                Self::up(&folder, &["--until-unused=300"]).await
            })
            .await
    }

    async fn up(folder: &Path, more: &[&str]) -> Self {
        fs::create_dir_all(folder).unwrap();
        let in_use = File::create(folder.join("in-use.lock")).unwrap();
        in_use.lock_shared().unwrap();
        let done = tokio::process::Command::new(lab_program())
            .args(["up", "--dir"])
            .arg(folder)
            .args(more)
            .output()
            .await
            .expect("kerbgate-lab starts: build it with `cargo build --example kerbgate-lab`");
        assert!(
            done.status.success(),
            "the lab did not come up:\n{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
        let facts = fs::read(folder.join("lab.json")).unwrap();
        Self {
            facts: serde_json::from_slice(&facts).unwrap(),
            _in_use: in_use,
        }
    }

    /// The environment for MIT's own tools.
    pub fn mit_tool(&self, program: &str, cache: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("KRB5_CONFIG", &self.facts.krb5_conf)
            .env("KRB5CCNAME", format!("FILE:{}", cache.display()));
        command
    }

    /// What the backends wrote about who arrived, since the lab started.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.facts.logs.join("apache-access.log")).unwrap_or_default()
    }
}

/// A lab for one test that wants to break it; stopped when dropped.
pub struct PrivateLab {
    pub lab: Lab,
    folder: TempDir,
}

impl PrivateLab {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::up(folder.path(), &["--until-unused=60"]).await;
        Self { lab, folder }
    }

    /// Sends a signal to the lab's process of this name (`samba`, `apache`, `wiki`), as
    /// `STOP` and `CONT` for a directory that hangs.
    pub fn signal(&self, name: &str, signal: &str) {
        let text = fs::read(self.folder.path().join("processes.json")).unwrap();
        let all: Value = serde_json::from_slice(&text).unwrap();
        let found = all
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == name);
        let pid = &found.expect("a process of the lab")["id"]["pid"];
        // Samba serves from children of its own: its whole tree is meant.
        for pid in with_children(u32::try_from(pid.as_u64().unwrap()).unwrap()) {
            kill(pid, signal);
        }
    }
}

impl Drop for PrivateLab {
    fn drop(&mut self) {
        let down = Command::new(lab_program())
            .args(["down", "--dir"])
            .arg(self.folder.path())
            .output();
        drop(down);
    }
}

/// A folder with the demo's configuration, to be changed before the gateway starts.
pub struct Stage {
    pub lab: &'static Lab,
    pub root: TempDir,
    /// The gateway's port; the URLs in the configuration have it.
    pub port: u16,
    pub entra_port: u16,
    // The ports stay ours until the test ends.
    _ports: [File; 2],
}

impl Stage {
    /// The demo's configuration on free ports.
    pub async fn new() -> Self {
        Self::in_lab(Lab::get().await)
    }

    /// The same in front of another lab: `Box::leak` a private one's.
    pub fn in_lab(lab: &'static Lab) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (port, one) = free_port();
        let (entra_port, other) = free_port();
        let stage = Self {
            lab,
            root,
            port,
            entra_port,
            _ports: [one, other],
        };
        gateway::write(stage.root.path(), &stage.world()).unwrap();
        stage
    }

    pub fn world(&self) -> gateway::World<'_> {
        gateway::World {
            facts: &self.lab.facts,
            listen: SocketAddr::from(([127, 0, 0, 1], self.port)),
            entra_port: self.entra_port,
        }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    /// The published URL of `app` with a path.
    pub fn url(&self, app: &str, path: &str) -> String {
        format!("https://{app}.localhost:{}{path}", self.port)
    }

    /// Replaces one piece of a file; it must be there, or the test tests nothing.
    pub fn replace(&self, file: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(old), "{file} has no {old:?}:\n{text}");
        fs::write(self.path(file), text.replacen(old, new, 1)).unwrap();
    }

    /// Adds lines at the end of a file.
    pub fn append(&self, file: &str, more: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap_or_default();
        fs::write(self.path(file), format!("{text}\n{more}")).unwrap();
    }

    /// Publishes one of the lab's further backends: `refusing`, `undelegated`.
    pub fn publish(&self, id: &str) {
        let text = gateway::application(id, &self.world());
        fs::write(self.path(&format!("apps/{id}.toml")), text).unwrap();
    }

    /// Starts the Entra emulator that the configuration names.
    pub async fn entra(&self, more: &[&str]) -> Entra {
        let sign_in = format!("https://login.localhost:{}", self.port);
        let ready = self.path("entra.ready");
        drop(fs::remove_file(&ready));
        let facts = &self.lab.facts;
        let mut command = Command::new(lab_program());
        command
            .args([
                "entra",
                "--listen",
                &format!("127.0.0.1:{}", self.entra_port),
            ])
            .arg("--public-url")
            .arg(format!("https://entra.localhost:{}", self.entra_port))
            .arg("--cert")
            .arg(&facts.entra_certificate)
            .arg("--key")
            .arg(&facts.entra_key)
            .args(["--client-secret", gateway::CLIENT_SECRET])
            .args(["--redirect-uri", &format!("{sign_in}/.kerbgate/callback")])
            .args([
                "--logout-uri",
                &format!("{sign_in}/.kerbgate/frontchannel-logout"),
            ])
            .args([
                "--post-logout-uri",
                &format!("{sign_in}/.kerbgate/signed-out"),
            ])
            .arg("--people-sids")
            .arg(&facts.sids_file)
            .arg("--ready-file")
            .arg(&ready)
            .args(more);
        let mut process = Running::start("entra", &command, self.path("entra.log"));
        process.wrote(&ready).await;
        Entra {
            process,
            url: format!("https://entra.localhost:{}", self.entra_port),
            port: self.entra_port,
            ca: facts.ca.clone(),
        }
    }

    /// Starts the gateway; it must come up.
    pub async fn gateway(&self) -> Gateway {
        let ready = self.path("gateway.ready");
        drop(fs::remove_file(&ready));
        let mut process = self.gateway_process(&[]);
        process.wrote(&ready).await;
        let ready = serde_json::from_slice(&fs::read(&ready).unwrap()).unwrap();
        Gateway {
            process,
            ready,
            port: self.port,
        }
    }

    /// Starts the gateway without waiting: for configurations it must refuse.
    pub fn gateway_process(&self, more: &[&str]) -> Running {
        let mut command = kerbgate();
        command
            .arg("run")
            .arg("--config")
            .arg(self.path("kerbgate.toml"))
            .arg("--ready-file")
            .arg(self.path("gateway.ready"))
            .args(more);
        Running::start("kerbgate", &command, self.path("kerbgate.log"))
    }
}

/// The binary under test, without the environment of whoever runs the tests.
pub fn kerbgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kerbgate"));
    for name in [
        "KRB5_CONFIG",
        "KRB5CCNAME",
        "KRB5_KTNAME",
        "KRB5_CLIENT_KTNAME",
    ] {
        command.env_remove(name);
    }
    command
}

/// A running Entra emulator.
pub struct Entra {
    pub process: Running,
    pub url: String,
    pub port: u16,
    ca: PathBuf,
}

impl Entra {
    /// One call of the emulator's control API (`tests/lab/entra/control.rs` has the table).
    pub async fn control(&self, method: http::Method, path: &str, body: Value) -> Value {
        let ca = fs::read(&self.ca).unwrap();
        let ca = reqwest::Certificate::from_pem(&ca).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .no_proxy()
            .resolve("entra.localhost", SocketAddr::from(([127, 0, 0, 1], 0)))
            .build()
            .unwrap();
        let request = client.request(method, format!("{}/_control{path}", self.url));
        let answer = request.json(&body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "control {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// A guest from another tenant whom nobody has seen before: login and object id.
    pub async fn new_guest(&self, name: &str, roles: &[&str]) -> (String, String) {
        let unique = aws_random();
        let login = format!("{name}-{unique}@fabrikam.example");
        let body = serde_json::json!({
            "login": login, "like": "jane@fabrikam.example", "name": format!("{name} {unique}"),
            "roles": roles, "groups": [],
        });
        let made = self.control(http::Method::POST, "/people", body).await;
        let oid = made["oid"]
            .as_str()
            .unwrap_or_else(|| panic!("no oid in {made}"));
        (login, oid.to_owned())
    }
}

/// The certificate authority of the lab that is up.
pub fn ca() -> PathBuf {
    SHARED.get().expect("a lab is up").facts.ca.clone()
}

fn aws_random() -> String {
    let mut bytes = [0; 6];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A running gateway.
pub struct Gateway {
    pub process: Running,
    /// What it wrote into its ready file.
    pub ready: Value,
    pub port: u16,
}

impl Gateway {
    /// The published URL of `app` with a path.
    pub fn url(&self, app: &str, path: &str) -> String {
        format!("https://{app}.localhost:{}{path}", self.port)
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The largest resident set that it ever had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.pid());
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let digits = line.unwrap().trim().trim_end_matches(" kB");
        digits.parse().unwrap()
    }
}

/// A child of the test. It is ended with the test; its log is shown when the test fails.
pub struct Running {
    name: &'static str,
    log: PathBuf,
    child: Child,
}

impl Running {
    pub fn start(name: &'static str, command: &Command, log: PathBuf) -> Self {
        // Appended to: a test that restarts it wants to see both lives.
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut ended_with_test = Command::new("setpriv");
        ended_with_test
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => ended_with_test.env(key, value),
                None => ended_with_test.env_remove(key),
            };
        }
        let child = ended_with_test.spawn().unwrap();
        Self { name, log, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal by name, such as `TERM`, `HUP`, `STOP`.
    pub fn signal(&self, signal: &str) {
        kill(self.pid(), signal);
    }

    /// Until it has ended by itself.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                start.elapsed() < within,
                "{} has not ended after {within:?}",
                self.name
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end and waits for that.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended(Duration::from_secs(30)).await
    }

    /// Until its ready file is there.
    pub async fn wrote(&mut self, ready: &Path) {
        let start = Instant::now();
        while !fs::read(ready).is_ok_and(|text| text.trim_ascii_end().ends_with(b"}")) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended with {ended:?}", self.name);
            assert!(start.elapsed() < PATIENCE, "{} is not ready", self.name);
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines
                .get(lines.len().saturating_sub(60)..)
                .unwrap_or_default();
            eprintln!("--- log of {} ---\n{}\n---", self.name, last.join("\n"));
        }
    }
}

/// Polls until it is so; fails with `what` when it never is.
pub async fn eventually(what: &str, so: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !so().await {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// A port below the ephemeral ones that stays ours as long as the file lives.
pub fn free_port() -> (u16, File) {
    let folder = Path::new("/run/kerbgate-lab/ports");
    fs::create_dir_all(folder).unwrap();
    let first = u16::try_from(std::process::id() % 1000).unwrap() * 10;
    for step in 0..10_000 {
        let port = 20_000 + (first + step) % 10_000;
        let lock = File::create(folder.join(port.to_string())).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return (port, lock);
        }
    }
    panic!("no free port");
}

fn kill(pid: u32, signal: &str) {
    let sent = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid.to_string()])
        .status();
    // A child may have followed its parent by itself.
    let gone = || !Path::new(&format!("/proc/{pid}")).exists();
    assert!(sent.unwrap().success() || gone(), "kill -s {signal} {pid}");
}

fn with_children(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        let children = format!("/proc/{pid}/task/{pid}/children");
        let text = fs::read_to_string(children).unwrap_or_default();
        all.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
        next += 1;
    }
    all
}

// target/PROFILE/deps/promises-HASH
fn target() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}

/// The lab's own program, beside this one.
pub fn lab_program() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors()
        .nth(2)
        .unwrap()
        .join("examples/kerbgate-lab")
}

#[tokio::test]
async fn the_lab_is_found_by_every_test() {
    let lab = Lab::get().await;
    assert!(
        TcpListener::bind(lab.facts.ldaps).is_err(),
        "LDAPS is served"
    );
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path().join("cc");
    let keytab = &lab.facts.keytabs.gateway;
    let kinit = lab
        .mit_tool("kinit", &cache)
        .args(["-k", "-t"])
        .arg(keytab)
        .arg("svc-gateway")
        .status();
    assert!(kinit.unwrap().success());
    for backend in ["intranet", "timesheet"] {
        let kvno = lab
            .mit_tool("kvno", &cache)
            .arg("-k")
            .arg(keytab)
            .args([
                "-U",
                "emma.employee",
                "-P",
                &format!("HTTP/{backend}.contoso.test"),
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&kvno.stderr).into_owned();
        assert!(kvno.status.success(), "delegation to {backend}: {said}");
    }
}

#[tokio::test]
async fn the_emulator_of_a_test_is_its_own() {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    assert_eq!(
        entra.url,
        format!("https://entra.localhost:{}", stage.entra_port)
    );
    assert!(TcpListener::bind(("127.0.0.1", entra.port)).is_err());
}

#[tokio::test]
async fn the_configuration_of_the_demo_is_sound() {
    let stage = Stage::new().await;
    stage.publish("refusing");
    stage.publish("undelegated");
    let loaded = kerbgate::config::load(&stage.path("kerbgate.toml"));
    let config = loaded.unwrap_or_else(|mistakes| {
        let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        panic!("{}", told.join("\n"))
    });
    assert_eq!(config.applications.len(), 5);
}

#[tokio::test]
async fn a_private_lab_may_be_broken() {
    let private = PrivateLab::start().await;
    let kdc = private.lab.facts.kdc;
    assert!(std::net::TcpStream::connect(kdc).is_ok());
    private.signal("samba", "KILL");
    eventually("the KDC is gone", async || {
        std::net::TcpStream::connect(kdc).is_err()
    })
    .await;
}
