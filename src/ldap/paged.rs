//! Searches whose answers come in pages (RFC 2696): a stream of bounded size, never one big list.
//!
//! In: a [`Search`] and how much of it at a time. Out: one [`Turn`] after the other, pulled by the caller. The cookie between
//! two pages is good on one connection to one controller only: when that is lost, the search begins again on the next one,
//! and the caller is told ([`Turn::Restarted`]), so that nothing is lost and nothing counted twice.
//!
//! A caller who stops early gives the cookie back: a controller keeps few of them for each connection. An answer that the
//! controller cuts short by its own limits is an error, not an answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use ldap3::LdapResult;
use ldap3::SearchOptions;
use ldap3::controls::Control;
use ldap3::controls::ControlType;
use ldap3::controls::MakeCritical;
use ldap3::controls::PagedResults;

use super::ber;
use super::entry::Entry;
use super::error::Error;
use super::error::ResultCode;
use super::operation::Found;
use super::operation::Search;
use super::operation::Session;
use super::pool::Directory;
use crate::model::names::HostName;

/// How often one search begins again.
const MOST_RESTARTS: u32 = 3;
/// A little longer before each.
const PAUSE: Duration = Duration::from_millis(250);
/// Pages without an entry in a row; controllers send some when a page took them too long.
const MOST_EMPTY: u32 = 1000;

/// How a paged search is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// Most entries of one page; 0 = [`super::Settings::page_size`].
    pub page_size: u32,
    /// Time for the whole search, all pages and the caller's own work between them; absent = no limit.
    pub within: Option<Duration>,
    /// This controller and no other: what was written there is seen.
    pub server: Option<HostName>,
}

/// What a paged search brings next.
#[derive(Clone, Debug)]
pub enum Turn {
    /// The next entries; `more` on the last of them when there are more than [`Search::limit`].
    Page(Found),
    /// The connection was lost for this reason: everything given so far is void, it comes again.
    Restarted(Error),
}

/// A paged search under way.
#[derive(Debug)]
pub struct Pages {
    directory: Directory,
    search: Arc<Search>,
    paging: Paging,
    begun: Instant,
    at: At,
    /// Where else to ask, by referrals.
    elsewhere: VecDeque<(HostName, Arc<Search>, u8)>,
    given: u32,
    empty: u32,
    restarts: u32,
}

#[derive(Debug)]
enum At {
    Start,
    /// Between two pages: the connection, what is searched there, the cookie.
    Between(Place, Vec<u8>),
    /// This server is done.
    Next,
    End,
}

#[derive(Clone, Debug)]
struct Place {
    session: Session,
    search: Arc<Search>,
    hops: u8,
}

impl Directory {
    /// Begins a paged search; nothing is asked before the first [`Pages::next`].
    #[must_use]
    pub fn pages(&self, search: Search, paging: Paging) -> Pages {
        Pages {
            directory: self.clone(),
            search: Arc::new(search),
            paging,
            begun: Instant::now(),
            at: At::Start,
            elsewhere: VecDeque::new(),
            given: 0,
            empty: 0,
            restarts: 0,
        }
    }
}

impl Pages {
    /// The next page; `None` at the end. A base that does not exist is an error here: "nobody" is an answer
    /// with consequences.
    ///
    /// # Errors
    /// No controller answers any more, one refuses, its own limits cut the answer, or `within` has passed.
    pub async fn next(&mut self) -> Result<Option<Turn>, Error> {
        loop {
            let page = match self.paging.within {
                None => self.page().await,
                Some(within) => {
                    let left = within.saturating_sub(self.begun.elapsed());
                    let page = tokio::time::timeout(left, self.page()).await;
                    page.unwrap_or_else(|_| Err(self.out_of_time(within)))
                }
            };
            match page {
                Ok(Some(found)) => {
                    return Ok(Some(Turn::Page(found)));
                }
                Ok(None) => return Ok(None),
                Err(error) if self.may_restart(&error) => {
                    let told = self.given > 0;
                    self.restart(&error).await;
                    if told {
                        return Ok(Some(Turn::Restarted(error)));
                    }
                }
                Err(error) => {
                    if let At::Between(place, cookie) = std::mem::replace(&mut self.at, At::End)
                        && !error.is_connection()
                    {
                        release(place, cookie).await;
                    }
                    return Err(error);
                }
            }
        }
    }

    fn out_of_time(&self, within: Duration) -> Error {
        Error::Setup {
            what: self.search.to_string(),
            reason: format!("not read to its end within {within:?}"),
        }
    }

    fn may_restart(&self, error: &Error) -> bool {
        // A cookie that the controller no longer has: it keeps only so many, and none over its own restart.
        let forgotten = matches!(self.at, At::Between(..))
            && matches!(
                error.code(),
                Some(ResultCode::UNWILLING | ResultCode::NO_EXTENSION)
            );
        self.restarts < MOST_RESTARTS && (error.is_connection() || forgotten)
    }

    async fn restart(&mut self, error: &Error) {
        self.restarts += 1;
        tracing::warn!(%error, search = %self.search, "a paged search begins again");
        self.at = At::Start;
        self.elsewhere.clear();
        (self.given, self.empty) = (0, 0);
        tokio::time::sleep(PAUSE * self.restarts).await;
    }

    async fn page(&mut self) -> Result<Option<Found>, Error> {
        loop {
            let (place, cookie) = match std::mem::replace(&mut self.at, At::End) {
                At::End => return Ok(None),
                At::Start => (self.first_place().await?, Vec::new()),
                At::Next => match self.elsewhere.pop_front() {
                    None => return Ok(None),
                    Some((server, search, hops)) => {
                        let session = self.directory.session_on(&server).await?;
                        let place = Place {
                            session,
                            search,
                            hops,
                        };
                        (place, Vec::new())
                    }
                },
                At::Between(place, cookie) => (place, cookie),
            };
            // Until the answer is there: whoever stops now gives this cookie back.
            self.at = At::Between(place.clone(), cookie.clone());
            let (entries, cookie) = self.ask(&place, cookie).await?;
            let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
            self.given = self.given.saturating_add(count);
            self.empty = if count == 0 { self.empty + 1 } else { 0 };
            if self.empty > MOST_EMPTY {
                return Err(self.broken(&place, "one page without an entry after the other"));
            }
            let full = self.search.limit > 0 && self.given >= self.search.limit;
            let more = full && (!cookie.is_empty() || !self.elsewhere.is_empty());
            let server = place.session.server().clone();
            self.at = match (full, cookie.is_empty()) {
                (false, false) => At::Between(place, cookie),
                (false, true) => At::Next,
                (true, true) => At::End,
                (true, false) => {
                    release(place, cookie).await;
                    At::End
                }
            };
            if count > 0 {
                return Ok(Some(Found {
                    entries,
                    more,
                    server,
                }));
            }
        }
    }

    async fn first_place(&self) -> Result<Place, Error> {
        let session = match &self.paging.server {
            Some(server) => self.directory.session_on(server).await?,
            None => self.directory.session().await?,
        };
        Ok(Place {
            session,
            search: Arc::clone(&self.search),
            hops: 0,
        })
    }

    async fn ask(
        &mut self,
        place: &Place,
        cookie: Vec<u8>,
    ) -> Result<(Vec<Entry>, Vec<u8>), Error> {
        let what = place.search.to_string();
        let settings = self.directory.settings();
        let mut size = match self.paging.page_size {
            0 => settings.page_size,
            size => size,
        };
        if self.search.limit > 0 {
            size = size
                .min(self.search.limit.saturating_sub(self.given))
                .max(1);
        }
        let seconds = i32::try_from(settings.operation.as_secs()).unwrap_or(i32::MAX);
        let options = SearchOptions::new().timelimit(seconds.max(1));
        let control = control(size, cookie);
        let (entries, result) = place
            .session
            .ask(&what, &place.search, options, vec![control])
            .await?;
        let ways = place
            .session
            .ways(&what, &place.search, &result.refs, place.hops)?;
        let elsewhere = ways
            .into_iter()
            .map(|(server, search)| (server, search, place.hops + 1));
        self.elsewhere.extend(elsewhere);
        let cookie = next_cookie(&result);
        let cookie = if result.rc == ResultCode::REFERRAL.0 {
            Vec::new()
        } else {
            place.session.success(&what, result)?;
            let why = "the answer does not say whether there is more";
            cookie.ok_or_else(|| self.broken(place, why))?
        };
        let entries = place.session.entries(&what, entries)?;
        // RFC 2696 3: the size is the client's, a server that ignores it would fill our memory.
        if entries.len() > usize::try_from(size).unwrap_or(usize::MAX) {
            return Err(self.broken(place, "more entries than a page was to have"));
        }
        Ok((entries, cookie))
    }

    fn broken(&self, place: &Place, why: &str) -> Error {
        Error::Refused {
            server: place.session.server().clone(),
            operation: self.search.to_string(),
            refusal: super::Refusal {
                code: ResultCode::NO_EXTENSION,
                diagnostic: why.to_owned(),
            },
        }
    }

    /// Ends the search now and gives the cookie back.
    pub async fn close(mut self) {
        if let At::Between(place, cookie) = std::mem::replace(&mut self.at, At::End) {
            release(place, cookie).await;
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let At::Between(place, cookie) = std::mem::replace(&mut self.at, At::End) else {
            return;
        };
        // Outside a runtime the connection ends anyway, and the cookie with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(release(place, cookie));
        }
    }
}

fn control(size: u32, cookie: Vec<u8>) -> ldap3::controls::RawControl {
    let size = i32::try_from(size).unwrap_or(i32::MAX);
    PagedResults { size, cookie }.critical().into()
}

/// RFC 2696 3: size zero and the last cookie mean "no more". What the server says to it changes nothing.
async fn release(place: Place, cookie: Vec<u8>) {
    if cookie.is_empty() {
        return;
    }
    let what = place.search.to_string();
    let options = SearchOptions::new();
    let asked = place
        .session
        .ask(&what, &place.search, options, vec![control(0, cookie)]);
    if let Err(error) = asked.await {
        tracing::debug!(%error, "a paging cookie could not be given back");
    }
}

/// The cookie of an answer, empty at the end. `None` when the server sent no sound control (RFC 2696 2):
/// whether there is more cannot be told then.
fn next_cookie(result: &LdapResult) -> Option<Vec<u8>> {
    let Control(_, paged) = result
        .ctrls
        .iter()
        .find(|Control(kind, _)| matches!(kind, Some(ControlType::PagedResults)))?;
    // Not ldap3's own reader: it panics on what is malformed.
    ber::paging_cookie(paged.val.as_deref()?)
}
