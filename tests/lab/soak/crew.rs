//! The people of a soak: signed in as a browser would, and each with the name that every
//! application has to show for them, found without the gateway.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::people;
use crate::people::Person;
use crate::soak::connections::Protocol;
use crate::stage::App;
use crate::stage::Failure;
use crate::stage::Stage;
use crate::truth;
use crate::truth::Account;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

/// The header by which every application of the lab says who arrived.
pub const WHO: &str = "X-Remote-User";

/// One signed-in person.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who they are in the cloud.
    pub login: String,
    /// Which protocol their browser speaks.
    pub protocol: Protocol,
    /// The `Cookie` header for each application, in the order of `demo.json`.
    pub cookies: Vec<String>,
    /// What each application has to show for them.
    pub expected: Vec<String>,
}

/// People for load number `first` and the `count - 1` after.
pub fn people_for_load(first: usize, count: usize) -> Vec<Person> {
    let everybody = people::everybody().into_iter().filter(|person| person.load);
    everybody.skip(first).take(count).collect()
}

/// Signs `people` in to every application, at most `at_once` at the same time.
pub async fn assemble(
    stage: &Stage,
    people: Vec<Person>,
    at_once: usize,
) -> Result<Vec<Member>, Failure> {
    let turns = Arc::new(Semaphore::new(at_once));
    let mut walks = JoinSet::new();
    for (number, person) in people.into_iter().enumerate() {
        let protocol = if number % 2 == 0 {
            Protocol::Http1
        } else {
            Protocol::Http2
        };
        let (turns, stage) = (Arc::clone(&turns), stage.clone());
        walks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let arrived = sign_in(&stage, &person.login, protocol).await;
            (number, person, protocol, arrived)
        });
    }
    let mut arrivals = BTreeMap::new();
    let mut refused = Vec::new();
    while let Some(walk) = walks.join_next().await {
        let (number, person, protocol, arrived) = walk?;
        match arrived {
            Ok(arrived) => drop(arrivals.insert(number, (person, protocol, arrived))),
            Err(error) => refused.push(format!("{}: {error}", person.login)),
        }
    }
    if !refused.is_empty() {
        let count = refused.len();
        refused.sort();
        refused.truncate(10);
        return Err(format!("{count} could not sign in:\n  {}", refused.join("\n  ")).into());
    }
    let accounts = truth::accounts(&stage.lab).await?;
    let mut members = Vec::new();
    for (person, protocol, arrived) in arrivals.into_values() {
        members.push(member(stage, &accounts, &person, protocol, arrived)?);
    }
    all_different(stage, &members)?;
    Ok(members)
}

/// A cookie header and the name shown, for each application.
type Arrived = Vec<(String, String)>;

async fn sign_in(stage: &Stage, login: &str, protocol: Protocol) -> Result<Arrived, Failure> {
    let speaks = match protocol {
        Protocol::Http1 => Speaks::Http1,
        Protocol::Http2 => Speaks::Http2,
    };
    let mut visitor = Visitor::new(&stage.demo.ca, speaks);
    let mut arrived = Vec::new();
    for app in &stage.demo.apps {
        let url = app.url.join("whoami")?;
        let page = visitor.open_as(login, url.as_str()).await?;
        let at_app = page.url.host_str() == app.url.host_str();
        if !at_app || !page.status.is_success() {
            let why = page.header("kerbgate-reason");
            let place = format!("{} ended at {} with {}", app.name, page.url, page.status);
            return Err(format!("{place} {why}").into());
        }
        let cookies = visitor.cookie_header(&url).unwrap_or_default();
        arrived.push((cookies, page.remote_user().to_owned()));
    }
    Ok(arrived)
}

fn member(
    stage: &Stage,
    accounts: &BTreeMap<String, Account>,
    person: &Person,
    protocol: Protocol,
    arrived: Arrived,
) -> Result<Member, Failure> {
    let account = accounts.get(&person.oid).ok_or_else(|| {
        format!(
            "{} was let in, but the directory has no account for them",
            person.login
        )
    })?;
    let mut expected = Vec::new();
    let mut cookies = Vec::new();
    for (app, (cookie, shown)) in stage.demo.apps.iter().zip(arrived) {
        let wanted = wanted(stage, app, person, account)?;
        if shown != wanted {
            let login = &person.login;
            return Err(format!(
                "MIXED at sign-in: {login} at {} is {shown:?}, not {wanted:?}",
                app.name
            )
            .into());
        }
        expected.push(wanted);
        cookies.push(cookie);
    }
    Ok(Member {
        login: person.login.clone(),
        protocol,
        cookies,
        expected,
    })
}

/// What `app` has to show for `person`, whose account is `account`.
pub fn wanted(
    stage: &Stage,
    app: &App,
    person: &Person,
    account: &Account,
) -> Result<String, Failure> {
    if app.is_kerberos() {
        return Ok(format!("{}@{}", account.sam, stage.lab.realm));
    }
    let source = stage.header_source(app, WHO)?;
    match source.as_str() {
        "sam" => Ok(account.sam.clone()),
        "account-upn" => Ok(account.upn.clone()),
        "object-id" => Ok(person.oid.clone()),
        "email" => Ok(person.mail.clone()),
        other => Err(format!("{}: {WHO} from {other:?} cannot be checked here", app.name).into()),
    }
}

// Two people of one name would make the whole soak blind.
fn all_different(stage: &Stage, members: &[Member]) -> Result<(), Failure> {
    for (number, app) in stage.demo.apps.iter().enumerate() {
        let names: HashSet<_> = members
            .iter()
            .filter_map(|member| member.expected.get(number))
            .collect();
        if names.len() != members.len() {
            return Err(format!(
                "{}: {} people, but {} names",
                app.name,
                members.len(),
                names.len()
            )
            .into());
        }
    }
    Ok(())
}
