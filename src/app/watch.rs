//! When the configuration is read again: its files changed, or SIGHUP asks for it.
//!
//! A change is acted on once it rests. Files that are renamed into place, symbolic links that are swapped
//! (Kubernetes' `..data`), and files that are gone for a moment all come to rest within seconds; then what is
//! there is read whole. SIGHUP does not wait.
//!
//! # Why
//! The kernel's news only wake us; whether something changed is seen in the files themselves. So news about
//! other files in the same folders cost a few `stat` calls, and where there are no news (network file
//! systems, a folder that was replaced) the slow look finds the change.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher as _;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::app::house::House;
use crate::app::house::Outcome;
use crate::app::supervisor;

/// A change that nobody told us of is seen after so long.
const SLOW_LOOK: Duration = Duration::from_secs(15);
/// Files have come to rest when nothing changed for so long.
const REST: Duration = Duration::from_millis(300);
/// Somebody who writes for longer is not waited for.
const LONGEST: Duration = Duration::from_secs(10);
/// A file that is gone may come back within.
const GONE: Duration = Duration::from_secs(2);
/// How often the ends of certificates are looked at, and how long before it is said.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(12 * 3600);
const CERTIFICATES_BEFORE: i64 = 14 * 86_400;

/// Reloads `house` from the file in `path` whenever there is reason to. Never returns.
pub(super) async fn serve(house: Arc<House>, path: PathBuf, mut hangup: Signal) {
    let (sender, mut news) = mpsc::channel(1);
    // Where the store is written all the time only the slow look looks.
    let mut folders = Folders::new(sender, house.state_dir().await);
    let mut seen = Look::at(&house, &path).await;
    folders.follow(&seen);
    // Whoever changed a file since it was read at the start could not be seen.
    let mut outdated = house.is_outdated(path.clone()).await;
    let mut certificates = Instant::now();
    loop {
        if certificates <= Instant::now() {
            certificates = Instant::now() + CERTIFICATES_EVERY;
            house.warn_of_certificates(CERTIFICATES_BEFORE);
        }
        let asked = tokio::select! {
            () = std::future::ready(()), if std::mem::take(&mut outdated) => true,
            heard = hangup.recv() => heard.is_some(),
            () = rested(&mut news) => false,
            () = sleep(SLOW_LOOK) => false,
        };
        let before = Look::at(&house, &path).await;
        if !asked {
            if before == seen {
                continue;
            }
            let rests = at_rest(&house, &path, before, &seen);
            tokio::select! {
                () = rests => {}
                _ = hangup.recv() => {}
            }
        }
        // Looked at before it is read: what changes meanwhile is seen as a change afterwards.
        let now = Look::at(&house, &path).await;
        supervisor::reloading();
        let outcome = house.reload(path.clone()).await;
        supervisor::ready(&match outcome {
            Outcome::Loaded(_) | Outcome::Unchanged => String::from("serving"),
            Outcome::Refused(reasons) => {
                let first = reasons.first().map_or("", String::as_str);
                let first = first.lines().next().unwrap_or("");
                format!("serving; the changed configuration is refused: {first}")
            }
        });
        // The files named now may be others than those looked at.
        let named = Look::at(&house, &path).await;
        seen = now.with_new_names(named);
        folders.follow(&seen);
    }
}

/// News, but not more often than a look is worth: something else may be written beside our files all the time.
async fn rested(news: &mut mpsc::Receiver<()>) {
    if news.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
    sleep(REST / 3).await;
}

async fn at_rest(house: &House, path: &Path, mut last: Look, seen: &Look) {
    let begin = Instant::now();
    let mut since = begin;
    loop {
        sleep(REST / 3).await;
        let now = Look::at(house, path).await;
        if now != last {
            last = now;
            since = Instant::now();
        }
        let patience = if last.lacks_some_of(seen) { GONE } else { REST };
        if since.elapsed() >= patience || begin.elapsed() >= LONGEST {
            return;
        }
    }
}

/// What can be seen of the files without reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look(Vec<(PathBuf, Option<Seen>)>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    async fn at(house: &House, path: &Path) -> Self {
        let mut files: BTreeSet<PathBuf> = house.files().await.into_iter().collect();
        files.insert(path.to_owned());
        let folder = house.applications().await;
        let look = tokio::task::spawn_blocking(move || {
            files.extend(applications(&folder));
            let seen = |file: PathBuf| {
                let met = fs::metadata(&file).ok();
                let seen = met.map(|met| Seen {
                    device: met.dev(),
                    inode: met.ino(),
                    size: met.size(),
                    modified: (met.mtime(), met.mtime_nsec()),
                    changed: (met.ctime(), met.ctime_nsec()),
                });
                (file, seen)
            };
            Self(files.into_iter().map(seen).collect())
        });
        look.await.unwrap_or(Self(Vec::new()))
    }

    /// True when a file that was there is gone.
    fn lacks_some_of(&self, before: &Self) -> bool {
        let there = |look: &Self, path: &Path| {
            let found = look.0.iter().find(|(file, _)| file == path);
            found.is_some_and(|(_, seen)| seen.is_some())
        };
        let gone = |(file, seen): &(PathBuf, Option<Seen>)| seen.is_some() && !there(self, file);
        before.0.iter().any(gone)
    }

    /// The same, with those files of `later` that are not in it.
    fn with_new_names(self, later: Self) -> Self {
        let names: BTreeSet<PathBuf> = later.0.iter().map(|(file, _)| file.clone()).collect();
        let mut all = self.0;
        all.retain(|(file, _)| names.contains(file));
        for (file, seen) in later.0 {
            if !all.iter().any(|(known, _)| *known == file) {
                all.push((file, seen));
            }
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self(all)
    }
}

fn applications(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).into_iter().flatten();
    let files = listed.filter_map(|entry| Some(entry.ok()?.path()));
    files
        .filter(|file| file.extension().is_some_and(|e| e == "toml"))
        .collect()
}

/// The folders in which something may happen, followed by the kernel.
struct Folders {
    watcher: Option<RecommendedWatcher>,
    never: PathBuf,
    followed: BTreeSet<PathBuf>,
}

impl Folders {
    fn new(news: mpsc::Sender<()>, never: PathBuf) -> Self {
        // Only that there are news counts: one waiting message stands for all.
        let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change, and we read.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                news.try_send(()).ok();
            }
        });
        if let Err(error) = &made {
            tracing::warn!(%error, "files cannot be watched; changes are looked for now and then");
        }
        Self {
            watcher: made.ok(),
            never,
            followed: BTreeSet::new(),
        }
    }

    /// Follows the folders of these files, where the links lie and where they lead to.
    fn follow(&mut self, look: &Look) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let files = look.0.iter().map(|(file, _)| file);
        let folders = |file: &PathBuf| {
            let real = fs::canonicalize(file).ok();
            [Some(file.clone()), real]
                .into_iter()
                .flatten()
                .filter_map(|file| file.parent().map(Path::to_owned))
                .collect::<Vec<_>>()
        };
        let mut wanted: BTreeSet<PathBuf> = files.flat_map(folders).collect();
        wanted.remove(&self.never);
        if let Ok(real) = fs::canonicalize(&self.never) {
            wanted.remove(&real);
        }
        for folder in self.followed.difference(&wanted) {
            drop(watcher.unwatch(folder));
        }
        for folder in &wanted {
            // Again and again: a folder may have been replaced by another of its name.
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::debug!(folder = %folder.display(), %error, "cannot be watched");
            }
        }
        self.followed = wanted;
    }
}

/// Waits for a first signal, of either.
pub(super) async fn asked_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Ends with `work`, or at once when asked to stop again; tells which.
pub(super) async fn unless_asked_again(
    work: impl Future<Output = ()>,
    terminate: &mut Signal,
    interrupt: &mut Signal,
) -> bool {
    let work = std::pin::pin!(work);
    tokio::select! {
        () = work => true,
        () = asked_to_stop(terminate, interrupt) => false,
    }
}

/// `span` at most.
pub(super) async fn at_most(span: Duration, work: impl Future<Output = ()>) {
    if timeout(span, work).await.is_err() {
        tracing::debug!(seconds = span.as_secs(), "not waited for any longer");
    }
}
