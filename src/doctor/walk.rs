//! One person's way to one application, without a browser: each room's own decision, with its time and, where
//! it says no, its reason code. Makes nothing: where a first visit would make an account, the walk says so.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use http::HeaderMap;
use uuid::Uuid;

use crate::assembly;
use crate::authz;
use crate::config::Config;
use crate::forward::Forwarder;
use crate::kerberos;
use crate::kerberos::Delegator;
use crate::ldap::Directory;
use crate::mapping;
use crate::mapping::Mapping;
use crate::mapping::names;
use crate::mapping::rules;
use crate::model::account::Account;
use crate::model::application::Application;
use crate::model::application::Guests;
use crate::model::application::Sso;
use crate::model::claims::Claims;
use crate::model::claims::Groups;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;
use crate::sso;
use crate::store::sqlite::SqliteStore;

use super::Error;
use super::backend;
use super::backend::Arrival;
use super::backend::Refusal;
use super::claims;
use super::report::Step;
use super::report::Walk;
use super::world::PATIENCE;
use super::world::World;

/// Whose visit, where, and what is assumed about them.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    /// The object id, or the UPN in the tenant.
    pub person: String,
    /// The application.
    pub app: String,
    /// App roles that the token is assumed to have.
    pub roles: Vec<String>,
    /// Groups that the person is assumed to be in, beside what Graph knows.
    pub groups: Vec<Uuid>,
    /// The tenant that the person is assumed to sign in at.
    pub home_tenant: Option<Uuid>,
}

/// Walks the corridor.
///
/// # Errors
/// The application does not exist.
pub async fn explain(config: Config, visit: &Visit) -> Result<Walk, Error> {
    super::choose_provider();
    let world = World::new(config, Some(&visit.app), None)?;
    let mut walker = Walker {
        walk: Walk {
            person: visit.person.clone(),
            application: visit.app.clone(),
            ..Walk::default()
        },
    };
    if let Some(app) = world.applications.first() {
        // A step that said no has been noted; there is nothing more to tell.
        drop(walker.go(&world, app, visit).await);
    }
    Ok(walker.walk)
}

/// The end of the walk before its last step.
struct Ended;

struct Walker {
    walk: Walk,
}

impl Walker {
    fn passed(&mut self, room: &'static str, span: Duration, detail: impl Into<String>) {
        self.walk.steps.push(Step {
            room,
            passed: true,
            code: String::new(),
            detail: detail.into(),
            micros: micros(span),
        });
    }

    fn stopped(
        &mut self,
        room: &'static str,
        span: Duration,
        code: &str,
        detail: impl Into<String>,
    ) -> Ended {
        self.walk.steps.push(Step {
            room,
            passed: false,
            code: code.to_owned(),
            detail: detail.into(),
            micros: micros(span),
        });
        Ended
    }

    fn stop(&mut self, room: &'static str, span: Duration, stop: Stop) -> Ended {
        match stop {
            Stop::Deny(denial) => self.stopped(room, span, denial.code.as_str(), denial.detail),
            Stop::Fail(fault) => self.stopped(room, span, fault.code.as_str(), fault.detail),
            Stop::Later { denial, .. } => {
                self.stopped(room, span, denial.code.as_str(), denial.detail)
            }
            Stop::Reply(_) | Stop::Wait { .. } => self.stopped(
                room,
                span,
                Code::Internal.as_str(),
                "the room answered something unforeseen",
            ),
        }
    }

    /// One step in bounded time.
    async fn step<T>(
        &mut self,
        room: &'static str,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<(T, Duration), Ended> {
        let begun = Instant::now();
        let result = tokio::time::timeout(PATIENCE, work).await;
        let span = begun.elapsed();
        match result {
            Ok(Ok(value)) => Ok((value, span)),
            Ok(Err(stop)) => Err(self.stop(room, span, stop)),
            Err(_) => Err(self.stopped(
                room,
                span,
                "no-answer",
                format!("no answer within {} s", PATIENCE.as_secs()),
            )),
        }
    }

    async fn go(
        &mut self,
        world: &World,
        app: &Arc<Application>,
        visit: &Visit,
    ) -> Result<(), Ended> {
        self.passed(
            "route",
            Duration::ZERO,
            format!("{} -> {}", app.published_url, app.name),
        );
        let (tools, _) = self.step("tools", Tools::build(world)).await?;
        if app.public.pass_through {
            let detail = "pass_through = true: nobody signs in, the backend is shown nobody";
            self.passed("policy", Duration::ZERO, detail);
            return self.with_headers(&tools, app, &HeaderMap::new()).await;
        }
        let finding = claims::find(world, tools.directory.as_ref(), app, visit);
        let (known, span) = self.step("claims", finding).await?;
        self.passed("claims", span, known.source);
        let claims = known.claims;
        self.policy(app, &claims)?;
        let account = match app.needs_account() {
            true => self.mapping(&tools, app, &claims).await?,
            false => None,
        };
        if app.needs_account() && account.is_none() {
            return Ok(());
        }
        match &app.sso {
            Sso::Kerberos(_) => {
                let Some(account) = account else {
                    return Ok(());
                };
                self.kerberos(world, &tools, app, &account).await
            }
            Sso::Headers(headers) => {
                let begun = Instant::now();
                let set = sso::headers::identity(headers, &claims, account.as_ref());
                let names: Vec<_> = set.keys().map(ToString::to_string).collect();
                let assertion = if headers.assertion {
                    "; a visitor's request carries a signed assertion too"
                } else {
                    ""
                };
                self.passed(
                    "sso",
                    begun.elapsed(),
                    format!("headers {}{assertion}", names.join(", ")),
                );
                self.with_headers(&tools, app, &set).await
            }
            Sso::None => self.with_headers(&tools, app, &HeaderMap::new()).await,
        }
    }

    fn policy(&mut self, app: &Application, claims: &Claims) -> Result<(), Ended> {
        let groups = match &claims.groups {
            Groups::Listed(groups) => groups.as_slice(),
            Groups::Overage => &[],
        };
        let begun = Instant::now();
        let decision = authz::decide(claims, groups, &app.access);
        let span = begun.elapsed();
        match decision {
            Ok(()) if !authz::is_excepted(claims, groups, app) => {
                let detail = "the application is closed and no exception of [maintenance] fits";
                Err(self.stopped("policy", span, Code::Maintenance.as_str(), detail))
            }
            Ok(()) => {
                self.passed("policy", span, "an allow rule fits and no deny rule");
                Ok(())
            }
            Err(denial) => {
                let mut detail = denial.detail;
                if denial.code == Code::NotAllowed && claims.roles.is_empty() {
                    detail.push_str("; app roles are not known here: try --role <value>");
                }
                Err(self.stopped("policy", span, denial.code.as_str(), detail))
            }
        }
    }

    async fn mapping(
        &mut self,
        tools: &Tools,
        app: &Application,
        claims: &Claims,
    ) -> Result<Option<Account>, Ended> {
        let (found, span) = self.step("mapping", tools.mapping.find(claims)).await?;
        if let Some(account) = found {
            let detail = format!("{} ({}), inside the fence", account.principal, account.dn);
            self.passed("mapping", span, detail);
            return Ok(Some(account));
        }
        let anchor = rules::anchor_value(claims.person);
        if !rules::may_have_shadow(claims) {
            let detail = format!(
                "no account with {anchor} or the person's SID; shadow accounts are for guests and external people"
            );
            return Err(self.stopped("mapping", span, Code::AccountMissing.as_str(), detail));
        }
        if app.access.guests != Guests::Provision {
            let detail = format!(
                "no account with {anchor}, and {} does not have guests = \"provision\"",
                app.id
            );
            return Err(self.stopped("mapping", span, Code::ProvisioningDenied.as_str(), detail));
        }
        let (prefix, ou) = &tools.makes;
        let adopts = if tools.adopts {
            "takes over an account that MIM or Microsoft's script made, or "
        } else {
            ""
        };
        let would = format!(
            "the first visit {adopts}makes the account {} in {ou}",
            names::sam(prefix, claims.person)
        );
        self.passed(
            "mapping",
            span,
            format!("no account with {anchor} yet: {would}"),
        );
        self.walk.open = Some(would);
        Ok(None)
    }

    async fn kerberos(
        &mut self,
        world: &World,
        tools: &Tools,
        app: &Application,
        account: &Account,
    ) -> Result<(), Ended> {
        let Some(delegator) = &tools.delegator else {
            return Err(self.stopped(
                "s4u2self",
                Duration::ZERO,
                Code::KeytabUnusable.as_str(),
                "there is no [kerberos] section",
            ));
        };
        for index in 0..app.backends.len() {
            let Some(alone) = backend::alone(app, index) else {
                continue;
            };
            self.one_backend(world, tools, delegator, &alone, account)
                .await?;
        }
        Ok(())
    }

    async fn one_backend(
        &mut self,
        world: &World,
        tools: &Tools,
        delegator: &Delegator,
        app: &Application,
        account: &Account,
    ) -> Result<(), Ended> {
        let begun = Instant::now();
        let token = match backend::token(delegator, app, &account.principal).await {
            Ok(token) => token,
            Err(error) => return Err(self.refused(world, begun.elapsed(), &error)),
        };
        let timings = token.timings();
        let spn = token.spn().clone();
        let told = [
            (
                "gateway-ticket",
                timings.tgt,
                delegator.principal().to_string(),
            ),
            (
                "s4u2self",
                timings.s4u2self,
                format!("the gateway's ticket in the name of {}", account.principal),
            ),
            (
                "s4u2proxy",
                timings.s4u2proxy,
                format!("{}'s ticket for {spn}", account.principal),
            ),
            (
                "token",
                Some(timings.token),
                format!("a Negotiate token of {} characters", token.base64().len()),
            ),
        ];
        for (room, span, detail) in told {
            if let Some(span) = span {
                self.passed(room, span, detail);
            }
        }
        let begun = Instant::now();
        let arrived = backend::arrive(world, &tools.forwarder, app, token).await;
        self.conclude(app, begun.elapsed(), arrived)
    }

    fn refused(&mut self, world: &World, span: Duration, error: &kerberos::Error) -> Ended {
        let room = match error.step() {
            Some(kerberos::Step::AcquireTgt) => "gateway-ticket",
            Some(kerberos::Step::S4u2Self) => "s4u2self",
            Some(kerberos::Step::S4u2Proxy) => "s4u2proxy",
            Some(
                kerberos::Step::InitContext
                | kerberos::Step::MutualAuth
                | kerberos::Step::BackendRefused,
            )
            | None => "token",
        };
        let refusal = backend::kerberos_refusal(world, error);
        let code = match sso::fault(error) {
            Stop::Deny(denial) | Stop::Later { denial, .. } => denial.code.as_str(),
            Stop::Fail(fault) => fault.code.as_str(),
            Stop::Reply(_) | Stop::Wait { .. } => Code::Internal.as_str(),
        };
        let detail = format!(
            "{} [{}]; {}; fix: {}",
            refusal.proof,
            refusal.code,
            refusal.cause,
            one_line(&refusal.fix)
        );
        self.stopped(room, span, code, detail)
    }

    async fn with_headers(
        &mut self,
        tools: &Tools,
        app: &Application,
        identity: &HeaderMap,
    ) -> Result<(), Ended> {
        for index in 0..app.backends.len() {
            let Some(alone) = backend::alone(app, index) else {
                continue;
            };
            let begun = Instant::now();
            let arrived = backend::with_headers(&tools.forwarder, &alone, identity).await;
            self.conclude(&alone, begun.elapsed(), arrived)?;
        }
        Ok(())
    }

    fn conclude(
        &mut self,
        app: &Application,
        span: Duration,
        arrived: Result<Arrival, Refusal>,
    ) -> Result<(), Ended> {
        match arrived {
            Ok(arrival) => {
                let seen = arrival
                    .seen
                    .map_or_else(String::new, |seen| format!(", the backend saw {seen}"));
                let mutual = if arrival.mutual {
                    ", and proved who it is"
                } else {
                    ""
                };
                let status = arrival.status.as_u16();
                let detail = format!("{} answered {status}{seen}{mutual}", backend::subject(app));
                self.passed("backend", span, detail);
                Ok(())
            }
            Err(refusal) => {
                let fix = one_line(&refusal.fix);
                let detail = format!("{}; {}; fix: {fix}", refusal.proof, refusal.cause);
                Err(self.stopped("backend", span, &refusal.code, detail))
            }
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" | ")
}

/// The rooms' tools, as the gateway has them.
struct Tools {
    delegator: Option<Delegator>,
    directory: Option<Directory>,
    mapping: Mapping,
    /// Prefix of new accounts' names, and where they are made.
    makes: (String, String),
    /// Whether a predecessor's account is taken over before one is made.
    adopts: bool,
    forwarder: Forwarder,
}

impl Tools {
    async fn build(world: &World) -> Result<Self, Stop> {
        let config = &world.config;
        let wrong = |why: String| Stop::fail(Code::Internal, Side::Gateway, why);
        let settings =
            assembly::kerberos_settings(config).map_err(|error| wrong(error.to_string()))?;
        let started = settings
            .filter(|_| world.needs_tickets())
            .map(Delegator::start)
            .transpose();
        let delegator = started.map_err(|error| sso::fault(&error))?;
        let settings = match world.needs_accounts() {
            true => assembly::ldap_settings(config, delegator.as_ref())
                .map_err(|error| wrong(error.to_string()))?,
            false => None,
        };
        let directory = settings.map(Directory::new);
        let settings =
            assembly::mapping_settings(config).map_err(|error| wrong(error.to_string()))?;
        let mut makes = (String::new(), String::new());
        let mapping = match (settings, &directory) {
            (Some(settings), Some(directory)) => {
                let ou = settings.guests_ou.as_ref().map(ToString::to_string);
                makes = (settings.sam_prefix.clone(), ou.unwrap_or_default());
                // Not the gateway's store: nothing of this walk is to be remembered.
                let store = SqliteStore::in_memory()
                    .await
                    .map_err(|error| wrong(error.to_string()))?;
                let tools = mapping::Tools {
                    directory: directory.clone(),
                    store: Arc::new(store),
                    delegator: None,
                    clock: world.clock,
                };
                Mapping::new(settings, tools).map_err(|error| wrong(error.to_string()))?
            }
            _ => Mapping::without_accounts(),
        };
        let forwarder = backend::forwarder(world).map_err(wrong)?;
        Ok(Self {
            delegator,
            directory,
            mapping,
            makes,
            adopts: config.mapping.as_ref().is_some_and(|mapping| mapping.adopt),
            forwarder,
        })
    }
}
