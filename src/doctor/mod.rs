//! Named, numbered checks of everything around the gateway, and the walk without a browser.
//!
//! In: the configuration. Out: a [`Report`] or a [`Walk`], each finding with its cause, its proof and the
//! command that mends it. It uses the same rooms as the gateway itself, so what it examines is what runs.
//!
//! | File | What it is |
//! |---|---|
//! | `check.rs` | the checks' numbers and names |
//! | `local.rs` | keys, certificates, names |
//! | `issuer.rs` | the identity provider and Graph |
//! | `credential.rs` | KDCs, keytab, the gateway's own ticket |
//! | `directory.rs`, `rights.rs` | the directory, the gateway's account and rights there |
//! | `delegation.rs`, `acl.rs` | SPNs and who may delegate to them |
//! | `backend.rs`, `person.rs` | the backends, tried in a real account's name |
//! | `setup.rs` | the commands that make a directory ready |
//! | `walk.rs`, `claims.rs` | one person's way, step by step |
//!
//! # Why like this
//! A check that fails does not end the run; checks that need what it would have shown are skipped and say so.
//! Each has a limit in time. Nothing is changed, with one exception that the report names: to prove its rights
//! the doctor makes one disabled account in the guests' OU and deletes it again.

pub mod acl;
mod backend;
pub mod check;
mod claims;
mod credential;
mod delegation;
mod directory;
mod issuer;
mod local;
mod person;
pub mod report;
mod rights;
pub mod setup;
mod walk;
mod world;

use futures_util::future::join_all;
use rustls::crypto::aws_lc_rs;

use crate::config::Config;
use crate::kerberos::Delegator;
use crate::model::application::Sso;
use crate::model::names::Principal;

use self::directory::Held;
use self::report::Finding;
use self::report::Report;
use self::world::World;
use self::world::timed;

pub use self::report::Walk;
pub use self::walk::Visit;
pub use self::walk::explain;

/// Why there is no report at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An application that is not configured.
    #[error("there is no application {asked:?}; known: {known}")]
    NoApplication {
        /// What was asked for.
        asked: String,
        /// The configured ones.
        known: String,
    },
}

/// What an examination is asked for.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// Only what this application needs.
    pub app: Option<String>,
    /// In whose name backends are tried: a `sAMAccountName` under `account_bases`.
    pub act_as: Option<String>,
}

/// Runs every check.
///
/// # Errors
/// The application asked for does not exist.
pub async fn examine(config: Config, asked: Examination) -> Result<Report, Error> {
    choose_provider();
    let world = World::new(config, asked.app.as_deref(), asked.act_as)?;
    let (names, issuer, inside) = tokio::join!(
        local::names(&world),
        issuer::examine(&world),
        inside(&world)
    );
    let mut findings = local::configuration(&world);
    findings.extend(names);
    findings.extend(issuer);
    findings.extend(inside);
    // By number; within a number in the order of the configuration.
    findings.sort_by_key(|finding| finding.number);
    Ok(Report { findings })
}

/// Before any library asks for the process's default; if there is one already, it is this one.
fn choose_provider() {
    drop(aws_lc_rs::default_provider().install_default());
}

/// Everything behind the gateway: each step needs what the one before found.
async fn inside(world: &World) -> Vec<Finding> {
    let credential = credential::examine(world).await;
    let opened = directory::open(world, &credential).await;
    let held = opened.held.as_ref();
    let (rights, delegations, backends) = tokio::join!(
        rights::examine(world, held),
        join_all(
            world
                .applications
                .iter()
                .map(|app| delegation::examine(world, held, app))
        ),
        backends(world, held, credential.delegator.as_ref()),
    );
    let mut findings = credential.findings;
    findings.extend(opened.findings);
    findings.extend(rights);
    findings.extend(delegations.into_iter().flatten());
    findings.extend(backends);
    findings
}

async fn backends(
    world: &World,
    held: Option<&Held>,
    delegator: Option<&Delegator>,
) -> Vec<Finding> {
    let forwarder = match backend::forwarder(world) {
        Ok(forwarder) => forwarder,
        Err(error) => {
            let mend = check::mend("the forwarder cannot start", "correct backends.ca_file");
            return vec![check::BACKEND.fault("", error, mend)];
        }
    };
    let whom: Result<Principal, String> = match (held, delegator) {
        (Some(held), Some(_)) => person::choose(world, held).await,
        _ => Err(String::from(
            "there is no ticket of the gateway's own, or no directory (checks 11 and 12)",
        )),
    };
    let mut all = Vec::new();
    for app in &world.applications {
        for index in 0..app.backends.len() {
            all.extend(backend::alone(app, index));
        }
    }
    let (forwarder, whom) = (&forwarder, &whom);
    let found = all.iter().map(|app| async move {
        let begun = std::time::Instant::now();
        let mut findings: Vec<Finding> = backend::examine(forwarder, app).await;
        findings = findings
            .into_iter()
            .map(|finding| finding.took(begun.elapsed()))
            .collect();
        if !matches!(app.sso, Sso::Kerberos(_)) {
            return findings;
        }
        let subject = backend::subject(app);
        findings.push(match (whom, delegator) {
            (Ok(whom), Some(delegator)) => {
                let work = backend::accepted(world, forwarder, delegator, app, whom);
                timed(check::TOKEN, &subject, work).await
            }
            (Err(why), Some(_)) if world.act_as.is_some() => {
                let fix = "name another account with --as, or correct mapping.account_bases";
                check::TOKEN.fault(
                    &subject,
                    why,
                    check::mend("the gateway will not act for this account", fix),
                )
            }
            (Err(why), _) => check::TOKEN.skipped(&subject, why),
            (Ok(_), None) => check::TOKEN.skipped(
                &subject,
                "there is no ticket of the gateway's own (check 11)",
            ),
        });
        findings
    });
    join_all(found).await.into_iter().flatten().collect()
}
