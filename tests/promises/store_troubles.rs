//! For the on-call engineer: a store in trouble is named with its path and cause, nobody who is in is thrown out, and
//! nobody gets in on what could not be checked.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use http::Method;

use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Answer;
use crate::walk::Backend;
use crate::walk::assert_refused;
use crate::walk::browser;
use crate::walk::get;
use crate::walk::guest;
use crate::walk::to_callback;
use crate::walk::world;

const AWAY: &str = "store-unavailable";

/// A small file system of its own over `folder`, taken away with the test.
struct Small(PathBuf);

impl Small {
    fn over(folder: &Path) -> Self {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "kerbgate-test"])
            .arg(folder));
        Self(folder.to_owned())
    }

    /// Not a byte more.
    fn fill(&self) {
        let fill = self.0.join("fill");
        drop(fs::write(&fill, vec![0; 4 << 20]));
        // The last page, too.
        let mut file = fs::File::options().append(true).open(&fill).unwrap();
        while std::io::Write::write(&mut file, &[0]).is_ok_and(|n| n > 0) {}
    }

    fn drain(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn assert_keeps_cookies(answer: &Answer) {
    assert!(
        answer.headers.get("set-cookie").is_none(),
        "no cookie is cleared"
    );
}

/// The gateway must not start, and says why in one line that names the file.
async fn does_not_start(stage: &Stage, why: &str) {
    let mut process = stage.gateway_process(&[]);
    let status = process.ended(Duration::from_secs(30)).await;
    assert!(!status.success());
    let log = process.log();
    assert!(log.contains("kerbgate.db"), "the file is named: {log}");
    assert!(log.contains(why), "{why:?}: {log}");
    assert!(!log.contains("panicked"), "{log}");
    assert!(!stage.path("gateway.ready").exists(), "nothing was served");
}

async fn stopped_once(stage: &Stage) {
    let mut gateway = stage.gateway().await;
    gateway.process.stop().await;
    fs::remove_file(stage.path("gateway.ready")).unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_at_start() {
    let (stage, _backend) = world("").await;
    let file = stage.path("state/kerbgate.db");
    fs::write(&file, "this is no database\n".repeat(500)).unwrap();
    does_not_start(&stage, "is not a database").await;
    assert_eq!(
        fs::read(&file).unwrap().len(),
        10_000,
        "and is left as it is"
    );

    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    does_not_start(&stage, "Is a directory").await;
    fs::remove_dir(&file).unwrap();

    stopped_once(&stage).await;
    let mut content = fs::read(&file).unwrap();
    let half = content.len() / 4;
    for byte in content.iter_mut().skip(half).take(3 * half) {
        *byte = 0xa5;
    }
    fs::write(&file, &content).unwrap();
    does_not_start(&stage, "is corrupt").await;
    assert_eq!(fs::read(&file).unwrap(), content, "and is left as it is");

    // A store of a later version.
    fs::remove_file(&file).unwrap();
    stopped_once(&stage).await;
    later_version(&file).await;
    does_not_start(&stage, "schema this version does not know").await;
}

async fn later_version(file: &Path) {
    use sqlx::Connection as _;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut store = sqlx::SqliteConnection::connect_with(&options)
        .await
        .unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99999, 'later', 1, x'00', 0)")
        .execute(&mut store)
        .await
        .unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_full_or_read_only_disk_is_named_at_start() {
    let (stage, _backend) = world("").await;
    let small = Small::over(&stage.path("state"));
    stopped_once(&stage).await;
    run(Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&small.0));
    does_not_start(&stage, "ead-only").await;
    run(Command::new("mount")
        .args(["-o", "remount,rw"])
        .arg(&small.0));
    fs::remove_file(stage.path("state/kerbgate.db")).unwrap();
    small.fill();
    does_not_start(&stage, "no space left").await;
    small.drain();
    let _gateway = stage.gateway().await;
}

/// Somebody is in; then `breaks` happens to the store: they stay in, and nobody new gets in.
async fn in_and_out(
    stage: &Stage,
    backend: &Backend,
    breaks: impl AsyncFn(),
    heals: impl AsyncFn(),
) {
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let url = gateway.url("wiki", "/echo");
    let (login, oid) = guest(&entra, "store").await;
    let mut visitor = browser(stage);
    visitor.open_as(&login, &url).await.unwrap();
    let mut half = browser(stage);
    let callback = to_callback(&mut half, &login, &url).await;
    breaks().await;

    let page = visitor.open(&url).await.unwrap();
    assert_eq!(page.remote_user(), oid, "who is in stays in");
    let count = backend.count();
    let mut new = browser(stage);
    let page = new.open(&url).await.unwrap();
    assert_refused(&page, AWAY, "a new visitor");
    assert_eq!(page.status, 503);
    assert!(!page.header("retry-after").is_empty());
    assert!(page.body.contains(AWAY), "the page says why");
    assert_keeps_cookies(&page);
    let answer = get(&mut half, &callback).await;
    assert_refused(&answer, AWAY, "half a sign-in");
    assert_keeps_cookies(&answer);
    // Somebody whose session is not in memory: neither let in nor signed out.
    let mut unknown = browser(stage);
    crate::walk::plant(
        &mut unknown,
        "wiki.localhost",
        crate::walk::SESSION,
        &"A".repeat(43),
    );
    let answer = unknown.open(&url).await.unwrap();
    if answer.status == 503 {
        assert_refused(&answer, AWAY, "an unknown session");
    }
    assert_keeps_cookies(&answer);
    // A sign-out that cannot be noted is not claimed.
    let mut leaves = visitor.clone();
    leaves
        .headers
        .insert("sec-fetch-site", "same-origin".parse().unwrap());
    let out = gateway.url("wiki", "/.kerbgate/signout").parse().unwrap();
    let answer = leaves.once(Method::POST, &out, Some(&[])).await.unwrap();
    assert_refused(&answer, AWAY, "signing out");
    assert_eq!(backend.count(), count);
    assert!(
        gateway.log().contains("kerbgate.db"),
        "the log names the file"
    );

    heals().await;
    let shared = tokio::sync::Mutex::new(browser(stage));
    eventually("it heals by itself", async || {
        let page = shared.lock().await.open(&url).await.unwrap();
        page.body.contains("name=\"login\"")
    })
    .await;
    let page = shared.lock().await.open_as(&login, &url).await.unwrap();
    assert_eq!(page.remote_user(), oid);
    let page = visitor.open(&url).await.unwrap();
    assert_eq!(page.remote_user(), oid, "still in");
}

#[tokio::test]
async fn a_full_disk_throws_nobody_out() {
    let (stage, backend) = world("").await;
    let small = Small::over(&stage.path("state"));
    in_and_out(
        &stage,
        &backend,
        async || small.fill(),
        async || small.drain(),
    )
    .await;
}

#[tokio::test]
async fn a_locked_store_throws_nobody_out() {
    let (stage, backend) = world("").await;
    let held = tokio::sync::Mutex::new(None);
    let file = stage.path("state/kerbgate.db");
    let breaks = async || {
        use sqlx::Connection as _;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
        let mut store = sqlx::SqliteConnection::connect_with(&options)
            .await
            .unwrap();
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut store)
            .await
            .unwrap();
        *held.lock().await = Some(store);
    };
    let heals = async || drop(held.lock().await.take());
    in_and_out(&stage, &backend, breaks, heals).await;
}

#[tokio::test]
async fn a_store_damaged_under_way_lets_nobody_in() {
    let (stage, backend) = world("").await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let url = gateway.url("wiki", "/echo");
    let (login, oid) = guest(&entra, "damaged").await;
    let mut visitor = browser(&stage);
    visitor.open_as(&login, &url).await.unwrap();
    for file in ["kerbgate.db", "kerbgate.db-wal"] {
        let path = stage.path("state").join(file);
        let length = fs::metadata(&path).unwrap().len();
        let file = fs::File::options().write(true).open(&path).unwrap();
        let noise = vec![0x5a; usize::try_from(length).unwrap()];
        std::os::unix::fs::FileExt::write_all_at(&file, &noise, 0).unwrap();
    }
    let page = visitor.open(&url).await.unwrap();
    assert_eq!(page.remote_user(), oid, "who is in stays in");
    let count = backend.count();
    for _ in 0..3 {
        let page = browser(&stage).open(&url).await.unwrap();
        // Pages that SQLite has in memory may still serve; whatever comes, it is no access and no panic.
        assert!(page.remote_user().is_empty());
        assert!(
            page.status == 503 || page.body.contains("name=\"login\""),
            "{}",
            page.status
        );
    }
    assert_eq!(backend.count(), count);
    assert!(!gateway.log().contains("panicked"));
}
