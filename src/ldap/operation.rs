//! Operations on one domain controller, each with a time limit and an error that says what was asked.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use ldap3::Ldap;
use ldap3::LdapError;
use ldap3::LdapResult;
use ldap3::Mod;
use ldap3::SearchOptions;
use ldap3::controls::RawControl;

use super::connection::Connection;
use super::dn::Dn;
use super::entry::Entry;
use super::error::Error;
use super::error::Refusal;
use super::error::ResultCode;
use super::filter::Attribute;
use super::filter::Filter;
use super::pool::Directory;
use super::pool::Pool;
use super::referral::MOST_HOPS;
use super::referral::Way;
use super::referral::judge;
use crate::model::names::HostName;
use crate::telemetry::metrics::metrics;

/// Bound connection to one controller: what is written here can be read here.
#[derive(Clone, Debug)]
pub struct Session {
    server: HostName,
    connection: Arc<Connection>,
    pool: Arc<Pool>,
    fresh: bool,
}

/// One search.
#[derive(Clone, Debug)]
pub struct Search {
    /// Where it begins.
    pub base: Dn,
    /// How deep it goes.
    pub scope: Scope,
    /// What fits.
    pub filter: Filter,
    /// Which attributes are wanted.
    pub attributes: Vec<String>,
    /// Most entries wanted; 0 = as many as the server gives.
    pub limit: u32,
}

/// Where else to ask, and what.
pub(super) type Ways = Vec<(HostName, Arc<Search>)>;

/// How deep a search goes (RFC 4511 4.5.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The base itself.
    Base,
    /// What lies directly below it.
    OneLevel,
    /// The base and everything below it.
    Subtree,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether there are more than the limit.
    pub more: bool,
    /// Who answered.
    pub server: HostName,
}

/// One change of an entry.
#[derive(Clone, Debug)]
pub enum Change {
    /// Add a value.
    Add(Attribute, Vec<u8>),
    /// Delete a value.
    Delete(Attribute, Vec<u8>),
    /// Add several values at once.
    AddAll(Attribute, Vec<Vec<u8>>),
    /// Delete several values at once.
    DeleteAll(Attribute, Vec<Vec<u8>>),
    /// Replace all values; an empty list removes the attribute.
    Replace(Attribute, Vec<Vec<u8>>),
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (filter, base) = (&self.filter, self.base.to_string());
        write!(f, "search {filter} under {base:?}")
    }
}

impl Session {
    pub(super) fn new(
        pool: &Arc<Pool>,
        server: &HostName,
        connection: &Arc<Connection>,
        fresh: bool,
    ) -> Self {
        Self {
            server: server.clone(),
            connection: Arc::clone(connection),
            pool: Arc::clone(pool),
            fresh,
        }
    }

    /// The controller.
    #[must_use]
    pub const fn server(&self) -> &HostName {
        &self.server
    }

    /// Whether the connection was opened for this session.
    pub(super) const fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Finds entries. A base that does not exist holds none.
    ///
    /// # Errors
    /// No answer, a refusal, or a referral that is not followed.
    pub async fn search(&self, search: &Search) -> Result<Found, Error> {
        self.search_on(search, 0).await
    }

    async fn search_on(&self, search: &Search, hops: u8) -> Result<Found, Error> {
        let limit = i32::try_from(search.limit).unwrap_or(i32::MAX);
        let what = search.to_string();
        let options = SearchOptions::new().sizelimit(limit);
        let (entries, result) = self.ask(&what, search, options, Vec::new()).await?;
        let mut more = result.rc == ResultCode::SIZE_LIMIT.0;
        let mut entries = if result.rc == ResultCode::NO_SUCH_OBJECT.0 {
            Vec::new()
        } else {
            if !more && result.rc != ResultCode::REFERRAL.0 {
                self.success(&what, result.clone())?;
            }
            self.entries(&what, entries)?
        };
        for (server, search) in self.ways(&what, search, &result.refs, hops)? {
            let there = Directory::of(&self.pool).session_on(&server).await?;
            // Boxed: a search that follows a referral is made of searches.
            let found = Box::pin(there.search_on(&search, hops + 1)).await?;
            more |= found.more;
            entries.extend(found.entries);
        }
        // Samba takes no notice of the size limit.
        let wanted = match usize::try_from(search.limit) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(limit) => limit,
        };
        more |= entries.len() > wanted;
        entries.truncate(wanted);
        Ok(Found {
            entries,
            more,
            server: self.server.clone(),
        })
    }

    /// One search as it goes over the wire: the entries, and how it ended with every reference of the answer.
    pub(super) async fn ask(
        &self,
        what: &str,
        search: &Search,
        options: SearchOptions,
        mut controls: Vec<RawControl>,
    ) -> Result<(Vec<ldap3::ResultEntry>, LdapResult), Error> {
        if self.pool.settings.follow_referrals.is_empty() {
            // MS-ADTS 3.1.1.3.4.1.10, LDAP_SERVER_DOMAIN_SCOPE: this domain's own objects are meant, so no references.
            controls.push(RawControl {
                ctype: String::from("1.2.840.113556.1.4.1339"),
                crit: false,
                val: None,
            });
        }
        let asked = search.clone();
        self.run(what, move |mut ldap| async move {
            let scope = match asked.scope {
                Scope::Base => ldap3::Scope::Base,
                Scope::OneLevel => ldap3::Scope::OneLevel,
                Scope::Subtree => ldap3::Scope::Subtree,
            };
            let base = asked.base.to_string();
            ldap.with_search_options(options)
                .with_controls(controls)
                .search(&base, scope, asked.filter.as_str(), asked.attributes)
                .await
                .map(|ldap3::SearchResult(entries, result)| (entries, result))
        })
        .await
    }

    /// Whom to ask besides, of those that the answer refers to.
    pub(super) fn ways(
        &self,
        what: &str,
        search: &Search,
        urls: &[String],
        hops: u8,
    ) -> Result<Ways, Error> {
        let mut ways = Vec::new();
        for url in urls {
            let reason = match judge(url, search, &self.pool.settings.follow_referrals) {
                Way::Pass => continue,
                Way::Follow(server, search) if hops < MOST_HOPS => {
                    ways.push((server, search));
                    continue;
                }
                Way::Follow(..) => String::from("one referral leads to the next"),
                Way::Refuse(reason) => reason,
            };
            return Err(self.refers(what, url, reason));
        }
        Ok(ways)
    }

    fn refers(&self, what: &str, url: &str, reason: String) -> Error {
        Error::Referral {
            server: self.server.clone(),
            operation: what.to_owned(),
            url: url.chars().take(300).collect(),
            reason,
        }
    }

    /// The entries of an answer, all of them readable.
    pub(super) fn entries(
        &self,
        what: &str,
        entries: Vec<ldap3::ResultEntry>,
    ) -> Result<Vec<Entry>, Error> {
        let read: Option<Vec<Entry>> = entries.into_iter().map(Entry::read).collect();
        read.ok_or_else(|| Error::Protocol {
            server: self.server.clone(),
            operation: what.to_owned(),
            reason: String::from("an entry of the answer cannot be read"),
        })
    }

    /// Reads one entry, if it exists.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn read(&self, dn: &Dn, attributes: &[&str]) -> Result<Option<Entry>, Error> {
        let search = Search {
            base: dn.clone(),
            scope: Scope::Base,
            filter: Filter::present(&"objectClass".parse()?),
            attributes: attributes.iter().map(ToString::to_string).collect(),
            limit: 1,
        };
        Ok(self.search(&search).await?.entries.into_iter().next())
    }

    /// Reads the controller's root entry (RFC 4512 5.1).
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn root(&self) -> Result<Entry, Error> {
        const WANTED: [&str; 5] = [
            "defaultNamingContext",
            "dnsHostName",
            "currentTime",
            "schemaNamingContext",
            "supportedSASLMechanisms",
        ];
        let entry = self.read(&Dn::root(), &WANTED).await?;
        entry.ok_or_else(|| Error::Protocol {
            server: self.server.clone(),
            operation: String::from("read of the root entry"),
            reason: String::from("there is none"),
        })
    }

    /// As whom the controller sees the gateway (RFC 4532), such as `u:CONTOSO\svc-gateway`.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn who_am_i(&self) -> Result<String, Error> {
        let what = String::from("who am I");
        let (said, result) = self
            .run(&what, |mut ldap| async move {
                ldap.extended(ldap3::exop::WhoAmI)
                    .await
                    .map(|answer| (answer.0, answer.1))
            })
            .await?;
        self.success(&what, result)?;
        Ok(String::from_utf8_lossy(&said.val.unwrap_or_default()).into_owned())
    }

    /// Makes an entry, whole or not at all.
    ///
    /// # Errors
    /// No answer (the entry may exist or not), or a refusal.
    pub async fn add(
        &self,
        dn: &Dn,
        attributes: Vec<(Attribute, Vec<Vec<u8>>)>,
    ) -> Result<(), Error> {
        let what = format!("add {:?}", dn.to_string());
        let name = dn.to_string();
        let attributes = attributes
            .into_iter()
            .map(|(attribute, values)| {
                (
                    attribute.as_str().as_bytes().to_vec(),
                    values.into_iter().collect::<HashSet<_>>(),
                )
            })
            .collect();
        let result = self
            .run(&what, move |mut ldap| async move {
                ldap.add(&name, attributes).await
            })
            .await?;
        self.success(&what, result)
    }

    /// Changes an entry, all of it or nothing.
    ///
    /// # Errors
    /// No answer (the entry may be changed or not), or a refusal.
    pub async fn modify(&self, dn: &Dn, changes: Vec<Change>) -> Result<(), Error> {
        let what = format!("modify {:?}", dn.to_string());
        let name = dn.to_string();
        let bytes = |attribute: Attribute| attribute.as_str().as_bytes().to_vec();
        let mods = changes
            .into_iter()
            .map(|change| match change {
                Change::Add(attribute, value) => Mod::Add(bytes(attribute), HashSet::from([value])),
                Change::Delete(attribute, value) => {
                    Mod::Delete(bytes(attribute), HashSet::from([value]))
                }
                Change::AddAll(attribute, values) => {
                    Mod::Add(bytes(attribute), values.into_iter().collect())
                }
                Change::DeleteAll(attribute, values) => {
                    Mod::Delete(bytes(attribute), values.into_iter().collect())
                }
                Change::Replace(attribute, values) => {
                    Mod::Replace(bytes(attribute), values.into_iter().collect())
                }
            })
            .collect();
        let result = self
            .run(&what, move |mut ldap| async move {
                ldap.modify(&name, mods).await
            })
            .await?;
        self.success(&what, result)
    }

    /// Moves an entry below `parent`, keeping its first component.
    ///
    /// # Errors
    /// No answer (it may be moved or not), or a refusal.
    pub async fn move_below(&self, dn: &Dn, parent: &Dn) -> Result<(), Error> {
        let what = format!("move {:?} below {:?}", dn.to_string(), parent.to_string());
        let (name, rdn, parent) = (
            dn.to_string(),
            dn.rdn().unwrap_or_default(),
            parent.to_string(),
        );
        let result = self
            .run(&what, move |mut ldap| async move {
                ldap.modifydn(&name, &rdn, true, Some(&parent)).await
            })
            .await?;
        self.success(&what, result)
    }

    /// Deletes an entry.
    ///
    /// # Errors
    /// No answer (it may be deleted or not), or a refusal.
    pub async fn delete(&self, dn: &Dn) -> Result<(), Error> {
        let what = format!("delete {:?}", dn.to_string());
        let name = dn.to_string();
        let result = self
            .run(
                &what,
                move |mut ldap| async move { ldap.delete(&name).await },
            )
            .await?;
        self.success(&what, result)
    }

    pub(super) fn success(&self, what: &str, result: LdapResult) -> Result<(), Error> {
        if result.rc == ResultCode::SUCCESS.0 {
            return Ok(());
        }
        if result.rc == ResultCode::REFERRAL.0 {
            let url = result.refs.first().map_or("", String::as_str);
            // SECURITY: a write is never taken elsewhere, whoever sends it there.
            let reason = "the object is not in this domain; check the distinguished name";
            return Err(self.refers(what, url, String::from(reason)));
        }
        Err(Error::Refused {
            server: self.server.clone(),
            operation: what.to_owned(),
            refusal: Refusal {
                code: ResultCode(result.rc),
                diagnostic: result.text,
            },
        })
    }

    /// Runs one operation with the time limit.
    ///
    /// In a task of its own: a visitor who goes away leaves no half-finished entry in ldap3's tables, and
    /// an answer that makes ldap3 panic ends that task and not the visitor's.
    async fn run<T, F, W>(&self, what: &str, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LdapError>> + Send + 'static,
        W: FnOnce(Ldap) -> F,
    {
        let limit: Duration = self.pool.settings.operation;
        let began = Instant::now();
        let work = tokio::time::timeout(limit, work(self.connection.handle()));
        let done = tokio::spawn(work).await;
        let well = matches!(done, Ok(Ok(Ok(_))));
        metrics().ldap(step(what), began.elapsed(), well);
        let failed = match done {
            Ok(Ok(Ok(answer))) => return Ok(answer),
            Ok(Ok(Err(error))) => self.translate(what, &error),
            Ok(Err(_)) => Error::TimedOut {
                server: self.server.clone(),
                operation: what.to_owned(),
                after: limit,
            },
            Err(_) => Error::Protocol {
                server: self.server.clone(),
                operation: what.to_owned(),
                reason: String::from("the answer cannot be read"),
            },
        };
        self.connection.condemn();
        if matches!(failed, Error::TimedOut { .. }) {
            self.pool.no_answer(&self.server, &failed);
        }
        Err(failed)
    }

    fn translate(&self, what: &str, error: &LdapError) -> Error {
        let reason = error.to_string();
        if matches!(error, LdapError::AddNoValues | LdapError::FilterParsing) {
            return Error::Setup {
                what: what.to_owned(),
                reason,
            };
        }
        Error::Lost {
            server: self.server.clone(),
            operation: what.to_owned(),
        }
    }
}

/// The operation's kind: the first word of what is done.
fn step(what: &str) -> &'static str {
    const STEPS: [&str; 6] = ["search", "add", "modify", "move", "delete", "who"];
    let known = STEPS.into_iter().find(|step| what.starts_with(step));
    known.unwrap_or("other")
}
