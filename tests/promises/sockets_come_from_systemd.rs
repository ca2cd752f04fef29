//! For whoever restarts a running site: its sockets are systemd's, and nobody who knocks meanwhile is sent
//! away; systemd is told how it is.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;

use crate::lab::Stage;
use crate::lab::eventually;
use crate::lab::kerbgate;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

/// What systemd does: it holds the sockets, hands them over, and listens to what is said.
struct Systemd {
    stage: Stage,
    https: TcpListener,
    ops: TcpListener,
    notify: UnixDatagram,
    names: &'static str,
    watchdog: Option<Duration>,
}

impl Systemd {
    fn new(stage: Stage) -> Self {
        let https = TcpListener::bind(("127.0.0.1", stage.port)).unwrap();
        let ops = TcpListener::bind("127.0.0.1:0").unwrap();
        let notify = UnixDatagram::bind(stage.path("notify")).unwrap();
        notify
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        // What was handed over takes the place of the configured addresses: these are not ours to bind.
        let taken = format!("https = [\"127.0.0.1:{}\"]", stage.port);
        stage.replace("kerbgate.toml", &taken, "https = [\"192.0.2.1:443\"]");
        Self {
            stage,
            https,
            ops,
            notify,
            names: "https:ops",
            watchdog: None,
        }
    }

    fn log(&self) -> PathBuf {
        self.stage.path("kerbgate.log")
    }

    fn start(&self) -> Service {
        let pass = |socket: &TcpListener| Stdio::from(OwnedFd::from(socket.try_clone().unwrap()));
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let gateway = kerbgate();
        let mut command = Command::new("setpriv");
        // The sockets come as standard input and output; the shell puts them where systemd does.
        let script = "exec 3<&0 4<&1 </dev/null 1>&2; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\"";
        command
            .args(["--pdeathsig", "KILL", "--", "sh", "-c", script, "sh"])
            .arg(gateway.get_program())
            .args(["run", "--config"])
            .arg(self.stage.path("kerbgate.toml"))
            .env("LISTEN_FDNAMES", self.names)
            .env("NOTIFY_SOCKET", self.stage.path("notify"))
            .env_remove("KRB5_CONFIG")
            .stdin(pass(&self.https))
            .stdout(pass(&self.ops))
            .stderr(log);
        if let Some(watchdog) = self.watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        Service(command.spawn().unwrap())
    }

    /// Reads what is said until a line is `wanted`; returns all lines up to then.
    fn hears(&self, wanted: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let mut said = [0; 4096];
            let length = self.notify.recv(&mut said);
            let length = length.unwrap_or_else(|e| {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                panic!("no {wanted:?} but {all:?}: {e}\n{log}")
            });
            let text = String::from_utf8_lossy(&said[..length]).into_owned();
            all.extend(text.lines().map(str::to_owned));
            if all.iter().any(|line| line.starts_with(wanted)) {
                return all;
            }
        }
    }
}

struct Service(Child);

impl Service {
    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    async fn stop(mut self) {
        self.signal("TERM");
        let pid = self.0.id();
        eventually("it ends", async || has_ended(pid)).await;
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// True once the process has ended, whether or not somebody has asked for its status.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn nobody_is_sent_away_during_restarts() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    let systemd = Systemd::new(stage);
    let mut service = systemd.start();
    systemd.hears("READY=1");
    let ca = systemd.stage.lab.facts.ca.clone();
    let url = systemd.stage.url("wiki", "/echo");
    let mut emma = Visitor::new(&ca, Speaks::Http2);
    let page = emma.open_as("emma@contoso.example", &url).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.body);

    let leave = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU64::new(0));
    let mut workers = Vec::new();
    for speaks in [Speaks::Http1, Speaks::Http2, Speaks::Http1, Speaks::Http2] {
        let (ca, cookies, url) = (ca.clone(), emma.cookies.clone(), url.parse().unwrap());
        let (leave, served) = (Arc::clone(&leave), Arc::clone(&served));
        workers.push(tokio::spawn(async move {
            while !leave.load(Ordering::Relaxed) {
                // A new connection for each request.
                let mut person = Visitor::new(&ca, speaks);
                person.cookies = cookies.clone();
                let answer = person.once(Method::GET, &url, None).await;
                let answer = answer.unwrap_or_else(|e| panic!("{speaks:?}: {e:?}"));
                assert_eq!(answer.status, 200, "{speaks:?}: {}", answer.body);
                served.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let more = async || {
        let before = served.load(Ordering::Relaxed);
        let going = || workers.iter().all(|worker| !worker.is_finished());
        eventually("people go on", async || {
            assert!(going(), "somebody was sent away");
            served.load(Ordering::Relaxed) >= before + 20
        })
        .await;
    };
    for _ in 0..4 {
        more().await;
        service.stop().await;
        let said = systemd.hears("STOPPING=1");
        assert!(
            said.iter().any(|line| line.starts_with("STATUS=")),
            "{said:?}"
        );
        service = systemd.start();
        systemd.hears("READY=1");
    }
    more().await;
    leave.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test]
async fn systemd_is_told_how_it_is() {
    let stage = Stage::new().await;
    let mut systemd = Systemd::new(stage);
    systemd.watchdog = Some(Duration::from_secs(2));
    let service = systemd.start();
    systemd.hears("READY=1");
    systemd.hears("WATCHDOG=1");

    service.signal("HUP");
    let said = systemd.hears("RELOADING=1");
    let said = [said, systemd.hears("READY=1")].concat();
    assert!(
        said.iter().any(|l| l.starts_with("MONOTONIC_USEC=")),
        "{said:?}"
    );

    systemd.stage.append("apps/wiki.toml", "nonsense = 1\n");
    service.signal("HUP");
    let said = systemd.hears("STATUS=serving; the changed configuration is refused");
    let status = said
        .iter()
        .rfind(|line| line.starts_with("STATUS="))
        .unwrap();
    assert!(status.contains("wiki.toml"), "{said:?}");

    // It is alive again and again, and no more once it hangs.
    for _ in 0..3 {
        systemd.hears("WATCHDOG=1");
    }
    service.stop().await;
    systemd.hears("STOPPING=1");
}

#[tokio::test]
async fn a_socket_without_a_role_is_named() {
    let stage = Stage::new().await;
    let mut systemd = Systemd::new(stage);
    systemd.names = "https:kerbgate.socket";
    let service = systemd.start();
    let pid = service.0.id();
    eventually("it ends", async || has_ended(pid)).await;
    let log = fs::read_to_string(systemd.log()).unwrap();
    assert!(
        log.contains("\"kerbgate.socket\"; wanted: FileDescriptorName="),
        "{log}"
    );
}
