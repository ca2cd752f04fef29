//! Sessions: in memory while they are warm, in the store for ever.
//!
//! A warm request reads no database. What has changed in the store is asked for every second ([`News`]), which is how a
//! sign-out on another replica arrives; as long as these answers come, memory is believed for `BELIEVED_WITH_NEWS`,
//! otherwise for `believe`. While the store does not answer, known sessions go on for `store_grace`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use http::HeaderMap;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use uuid::Uuid;

use super::Settings;
use super::cookie;
use super::news::News;
use super::place::Place;
use super::place::Places;
use super::reason;
use super::touches::Touches;
use crate::model::claims::Claims;
use crate::model::clock::Clock;
use crate::model::names::HostName;
use crate::model::names::PersonId;
use crate::model::stop::Stop;
use crate::store::Store;
use crate::store::records::Changed;
use crate::store::records::EndReason;
use crate::store::records::IdHash;
use crate::store::records::Session;
use crate::store::records::SignIn;
use crate::store::records::Touch;

/// What a cookie led to.
#[derive(Debug)]
pub(super) enum Found {
    /// A session that counts.
    Live(Arc<Live>, Arc<Standing>),
    /// Its time ran out; it was this person's.
    Expired(PersonId),
    /// It was ended.
    Ended(EndReason),
    /// No cookie, or one that means nothing here.
    Nothing,
}

/// A session in memory.
#[derive(Debug)]
pub(super) struct Live {
    session: Session,
    read_at: i64,
    /// The moment before the store was read.
    began: Instant,
    /// Something was told while the store was read: whether this was part of it is not known.
    doubtful: AtomicBool,
    /// Its sign-in, shared with its other sessions.
    place: Arc<Place>,
    last_used: AtomicI64,
    touched: AtomicI64,
}

impl Live {
    pub(super) const fn key(&self) -> IdHash {
        self.session.hash
    }

    pub(super) const fn expires(&self) -> i64 {
        self.session.expires
    }

    pub(super) fn last_used(&self) -> i64 {
        self.last_used.load(Ordering::Relaxed)
    }
}

/// A sign-in in memory, shared by its sessions.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) id: Uuid,
    pub(super) claims: Arc<Claims>,
    /// `tid/oid`, for the access line.
    pub(super) label: Arc<str>,
    pub(super) renewable: bool,
    pub(super) checked: i64,
    pub(super) expires: i64,
    ended: Option<EndReason>,
}

impl Standing {
    pub(super) fn of(record: SignIn) -> Self {
        Self {
            id: record.id,
            label: record.claims.person.to_string().into(),
            claims: Arc::new(record.claims),
            renewable: record.refresh_token.is_some(),
            checked: record.checked,
            expires: record.expires,
            ended: record.ended.map(|(_, reason)| reason),
        }
    }

    pub(super) const fn is_live(&self, now: i64) -> bool {
        self.ended.is_none() && now < self.expires
    }
}

/// All sessions.
pub(super) struct Sessions {
    store: Arc<dyn Store>,
    clock: Clock,
    live: Cache<IdHash, Arc<Live>>,
    places: Places,
    news: Arc<News>,
    /// Sign-ins that ended a moment ago, against a read that was under way at that moment.
    just_ended: Cache<Uuid, EndReason>,
    idle: Duration,
    believe: i64,
    store_grace: i64,
    touches: Arc<Touches>,
}

impl Sessions {
    pub(super) fn new(settings: &Settings, store: Arc<dyn Store>, clock: Clock) -> Self {
        Self {
            store,
            clock,
            // moka's own choice, TinyLFU, may refuse a newcomer its place for those who came often: each of its
            // requests would then read the store. It also counts every request once the cache is half full.
            live: Cache::builder()
                .max_capacity(settings.cached_sessions)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_idle(settings.idle)
                .build(),
            places: Places::default(),
            news: Arc::default(),
            // SECURITY: least recently used, so that a sign-out always finds its place.
            just_ended: Cache::builder()
                .max_capacity(settings.cached_sessions)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(JUST_ENDED)
                .build(),
            idle: settings.idle,
            believe: seconds(settings.believe),
            store_grace: seconds(settings.store_grace),
            touches: Arc::default(),
        }
    }

    /// The same with what `old` remembers; with other settings that is only who has just been signed out.
    pub(super) fn knowing(self, old: &Self, unchanged: bool) -> Self {
        // What was told is known of what is remembered, and of nothing else.
        let (live, places, news) = if unchanged {
            (old.live.clone(), old.places.clone(), Arc::clone(&old.news))
        } else {
            (self.live, self.places, self.news)
        };
        Self {
            live,
            places,
            news,
            // SECURITY: a read that was under way must not bring back what a sign-out ended.
            just_ended: old.just_ended.clone(),
            ..self
        }
    }

    /// The session of a request to `host`.
    ///
    /// # Errors
    /// Two cookies, or the store does not answer and memory does not help.
    pub(super) async fn find(&self, headers: &HeaderMap, host: &HostName) -> Result<Found, Stop> {
        let Some(id) = cookie::read(headers, cookie::SESSION)? else {
            return Ok(Found::Nothing);
        };
        let now = self.clock.unix();
        let Some((live, standing)) = self.look_up(IdHash::of(id), now).await? else {
            return Ok(Found::Nothing);
        };
        // SECURITY: a cookie of one host is worth nothing on another, even if it leaks there.
        if live.session.host != *host {
            return Ok(Found::Nothing);
        }
        Ok(self.judged(live, standing, now))
    }

    /// A session that was found before.
    ///
    /// # Errors
    /// The store does not answer and memory does not help.
    pub(super) async fn find_again(&self, hash: IdHash) -> Result<Found, Stop> {
        let now = self.clock.unix();
        let found = self.look_up(hash, now).await?;
        Ok(found.map_or(Found::Nothing, |(live, standing)| {
            self.judged(live, standing, now)
        }))
    }

    fn judged(&self, live: Arc<Live>, standing: Arc<Standing>, now: i64) -> Found {
        if let Some(reason) = standing.ended {
            return Found::Ended(reason);
        }
        let idle_until = live.last_used().saturating_add(seconds(self.idle));
        if now >= live.session.expires || now >= standing.expires || now >= idle_until {
            return Found::Expired(standing.claims.person);
        }
        Found::Live(live, standing)
    }

    async fn look_up(
        &self,
        hash: IdHash,
        now: i64,
    ) -> Result<Option<(Arc<Live>, Arc<Standing>)>, Stop> {
        let known = self.live.get(&hash).and_then(|live| {
            let standing = live.place.standing()?;
            Some((live, standing))
        });
        let age = known
            .as_ref()
            .map_or(i64::MAX, |(live, _)| now.saturating_sub(live.read_at));
        if age < self.believe
            || known
                .as_ref()
                .is_some_and(|(live, _)| self.vouched(live, age))
        {
            return Ok(known);
        }
        let began = Instant::now();
        match self.store.session(&hash).await {
            Ok(Some((session, sign_in))) => {
                let before = known.map(|(live, _)| live);
                Ok(Some(self.remember(
                    session,
                    sign_in,
                    began,
                    before.as_deref(),
                )))
            }
            Ok(None) => {
                self.live.invalidate(&hash);
                Ok(None)
            }
            Err(error) if age < self.store_grace => {
                tracing::warn!(%error, "store does not answer, known sessions go on");
                Ok(known)
            }
            Err(error) => Err(reason::store(&error)),
        }
    }

    /// True as long as a change of this session would have been told.
    fn vouched(&self, live: &Live, age: i64) -> bool {
        age < BELIEVED_WITH_NEWS
            && !live.doubtful.load(Ordering::Acquire)
            && self.news.vouches_since(live.began)
    }

    /// Takes records into memory that were read from `began` on.
    fn remember(
        &self,
        session: Session,
        sign_in: SignIn,
        began: Instant,
        before: Option<&Live>,
    ) -> (Arc<Live>, Arc<Standing>) {
        let mut standing = Standing::of(sign_in);
        let id = standing.id;
        let place = self.places.of(id);
        // Use is noted in memory first: what was read may be a minute behind.
        let last_used = before.map_or(0, Live::last_used).max(session.last_seen);
        let touched = before.map_or(0, |live| live.touched.load(Ordering::Relaxed));
        let live = Arc::new(Live {
            read_at: self.clock.unix(),
            began,
            doubtful: AtomicBool::new(false),
            place: Arc::clone(&place),
            last_used: AtomicI64::new(last_used),
            touched: AtomicI64::new(touched.max(session.last_seen)),
            session,
        });
        self.live.insert(live.key(), Arc::clone(&live));
        // SECURITY: the record may have been read just before a sign-out. `forget` notes the end first and removes the
        // session then; so either it is seen here, or what was inserted above is removed there. News are noted in the
        // same order.
        if let Some(reason) = self.just_ended.get(&id) {
            standing.ended = Some(reason);
        }
        let standing = Arc::new(standing);
        place.put(Arc::clone(&standing));
        if self.just_ended.contains_key(&id) && standing.ended.is_none() {
            place.clear();
        }
        if self.news.came_since(began) {
            live.doubtful.store(true, Ordering::Release);
        }
        (live, standing)
    }

    /// Puts a sign-in that was renewed from `began` on in the place of the old one, for all its sessions.
    pub(super) fn renewed(&self, sign_in: SignIn, began: Instant) -> Arc<Standing> {
        let standing = Arc::new(Standing::of(sign_in));
        let place = self.places.of(standing.id);
        place.put(Arc::clone(&standing));
        // It may have ended meanwhile, here or elsewhere: the next request reads it again.
        if self.just_ended.contains_key(&standing.id) || self.news.came_since(began) {
            place.clear();
        }
        standing
    }

    /// Notes that the session is used: in memory now, in the store about once a minute.
    pub(super) fn touch(&self, live: &Live) {
        let now = self.clock.unix();
        live.last_used.fetch_max(now, Ordering::Relaxed);
        let touched = live.touched.load(Ordering::Relaxed);
        if now.saturating_sub(touched) < TOUCH_EVERY {
            return;
        }
        let ours =
            live.touched
                .compare_exchange(touched, now, Ordering::Relaxed, Ordering::Relaxed);
        if ours.is_err() {
            return; // a request beside us does it
        }
        let touch = Touch {
            hash: live.key(),
            last_seen: now,
            idle_until: now.saturating_add(seconds(self.idle)),
        };
        if !self.touches.add(touch, &self.store) {
            // A slow store must not collect a heap of them: the next request tries again.
            live.touched.store(touched, Ordering::Relaxed);
        }
    }

    /// Asks what has changed in the store, and forgets that. Sign-ins that sessions in memory hang on are noted in `changed_here`.
    ///
    /// # Errors
    /// The store does not answer; what is in memory is then believed for `believe` as if nobody told anything.
    pub(super) async fn ask_for_news(
        &self,
        changed_here: &mut BTreeSet<Uuid>,
    ) -> Result<(), crate::store::Error> {
        let known = Mutex::new(changed_here);
        let forget = |changed: &Changed| match changed {
            Changed::SignIn(id) => {
                // What this process ended itself, it has told itself.
                if self.places.known(*id).is_some() && !self.just_ended.contains_key(id) {
                    known
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(*id);
                }
                self.forget_sign_in(*id);
            }
            Changed::Session(hash) => self.forget_session(hash),
        };
        self.news.ask(self.store.as_ref(), forget).await
    }

    /// Which sessions in memory hang on these sign-ins.
    pub(super) fn hanging_on(&self, sign_ins: &BTreeSet<Uuid>) -> Vec<(Uuid, IdHash)> {
        let all = self.live.iter();
        let hanging = all.filter(|(_, live)| sign_ins.contains(&live.session.sign_in));
        hanging
            .map(|(hash, live)| (live.session.sign_in, *hash))
            .collect()
    }

    /// Drops a sign-in and its sessions from memory.
    pub(super) fn forget(&self, sign_in: Uuid, reason: EndReason, sessions: &[IdHash]) {
        self.just_ended.insert(sign_in, reason);
        self.forget_sign_in(sign_in);
        for session in sessions {
            self.live.invalidate(session);
        }
    }

    /// Drops a sign-in from memory, so that its state is read again.
    pub(super) fn forget_sign_in(&self, sign_in: Uuid) {
        if let Some(place) = self.places.known(sign_in) {
            place.clear();
        }
    }

    /// Drops one session from memory.
    pub(super) fn forget_session(&self, hash: &IdHash) {
        self.live.invalidate(hash);
    }
}

/// Whole seconds, as the records count.
pub(super) fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

const JUST_ENDED: Duration = Duration::from_secs(300);
const TOUCH_EVERY: i64 = 60;
/// Seconds, however many news arrive.
const BELIEVED_WITH_NEWS: i64 = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::SqliteStore;

    #[tokio::test]
    async fn a_sign_out_is_remembered_however_many_went_before() {
        let url = "https://login.example/".parse().unwrap();
        let mut settings = Settings::new(url, "login.example".parse().unwrap());
        settings.cached_sessions = 16;
        let store = Arc::new(SqliteStore::in_memory().await.unwrap());
        let sessions = Sessions::new(&settings, store, Clock::Fixed(1_700_000_000));
        for _ in 0..64 {
            let sign_in = Uuid::new_v4();
            sessions.forget(sign_in, EndReason::SignOut, &[]);
            sessions.just_ended.run_pending_tasks();
            // Asked for often: reasons to keep it rather than the next.
            for _ in 0..100 {
                assert!(sessions.just_ended.get(&sign_in).is_some());
            }
        }
    }
}
