//! `kerbgate accounts`: who there is, and an administrator's steps on one account.
//!
//! Exit codes beside those of every command: 3 = no such account, or several; 4 = not an account that Kerbgate acts on;
//! 5 = not confirmed.

use std::io::BufRead as _;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use clap::Subcommand;
use rustls::crypto::aws_lc_rs;
use serde_json::json;

use super::shown::cell;
use super::shown::json as safe_json;
use super::shown::shown;
use crate::assembly;
use crate::config::Config;
use crate::config::sections::Bind;
use crate::kerberos::Delegator;
use crate::ldap::Directory;
use crate::lifecycle;
use crate::lifecycle::Asked;
use crate::lifecycle::Done;
use crate::lifecycle::Lifecycle;
use crate::lifecycle::Order;
use crate::lifecycle::Shadow;
use crate::lifecycle::Tools;
use crate::lifecycle::history;
use crate::lifecycle::history::Event;
use crate::model::clock::Clock;
use crate::store::Store;
use crate::store::records::EndReason;
use crate::store::sqlite::SqliteStore;

const NO_ACCOUNT: u8 = 3;
const REFUSED: u8 = 4;
const NOT_CONFIRMED: u8 = 5;
/// Events shown of a person.
const EVENTS: usize = 50;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// Every shadow account.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One account, with its groups and what the audit file tells of its person.
    Show {
        /// `tid/oid`, the object id, the anchor, the UPN or the sAMAccountName.
        account: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Disable an account, move it to `disabled_ou`, end its person's sign-ins. SID and groups stay.
    Disable(Step),
    /// Bring a disabled account back, with the SID and the groups it had.
    Restore(Step),
    /// Forget which account is a person's, in the gateway's store, and end their sign-ins. The account stays.
    Forget(Step),
}

/// A step on one account.
#[derive(Debug, Args)]
pub(super) struct Step {
    /// `tid/oid`, the object id, the anchor, the UPN or the sAMAccountName.
    account: String,
    /// Why; written into the audit event and, on disabling, into the account's notes.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl What {
    /// Whether something is written, and so audited.
    pub(super) const fn writes(&self) -> bool {
        match self {
            Self::List { .. } | Self::Show { .. } => false,
            Self::Disable(_) | Self::Restore(_) | Self::Forget(_) => true,
        }
    }
}

/// Why there is no answer, and the exit code that says so.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{}", shown(&.0.to_string()))]
    Lifecycle(#[from] lifecycle::Error),
    #[error(transparent)]
    Setup(#[from] assembly::Error),
    #[error("{0}")]
    Start(String),
    #[error("not confirmed, nothing was changed{0}")]
    NotConfirmed(&'static str),
    #[error("the answer cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// The exit code.
    pub(super) const fn code(&self) -> u8 {
        match self {
            Self::Lifecycle(
                lifecycle::Error::NotFound { .. } | lifecycle::Error::Ambiguous { .. },
            ) => NO_ACCOUNT,
            Self::Lifecycle(lifecycle::Error::Refused { .. }) => REFUSED,
            Self::NotConfirmed(_) => NOT_CONFIRMED,
            Self::Lifecycle(
                lifecycle::Error::Setup(_)
                | lifecycle::Error::Directory(_)
                | lifecycle::Error::Store(_),
            )
            | Self::Start(_)
            | Self::Output(_) => 1,
            Self::Setup(_) => super::MISTAKES,
        }
    }
}

/// Does what was asked.
pub(super) async fn run(config: Config, what: What) -> Result<ExitCode, Error> {
    drop(aws_lc_rs::default_provider().install_default());
    let audit = config.log.file.clone();
    let room = open(&config).await?;
    match what {
        What::List { json } => list(&room, json).await?,
        What::Show { account, json } => show(&room, &asked(&account), json, audit).await?,
        What::Disable(step) => {
            let asked = sure(&room, &step, "Disable").await?;
            let done = room.disable(&asked, &step.order()).await?;
            tell(&done, "disabled", step.json)?;
        }
        What::Restore(step) => {
            let asked = sure(&room, &step, "Restore").await?;
            let done = room.restore(&asked, &step.order()).await?;
            tell(&done, "restored", step.json)?;
        }
        What::Forget(step) => forget(&room, &step).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(config: &Config) -> Result<Lifecycle, Error> {
    let missing = || {
        Error::Start(String::from(
            "there is no [directory] or no [mapping] section",
        ))
    };
    let settings = assembly::mapping_settings(config)?.ok_or_else(missing)?;
    let delegator = delegator(config)?;
    let ldap = assembly::ldap_settings(config, delegator.as_ref())?.ok_or_else(missing)?;
    let issuer = &config.issuer;
    let mut tenants = vec![issuer.tenant];
    tenants.extend(&issuer.allowed_tenants);
    let tools = Tools {
        directory: Directory::new(ldap),
        store: store(&config.gateway.state_dir).await?,
        tenants,
        clock: Clock::System,
    };
    Ok(Lifecycle::new(settings, tools)?)
}

/// Who the gateway is to the directory, if it binds by Kerberos.
pub(super) fn delegator(config: &Config) -> Result<Option<Delegator>, Error> {
    let kerberos = config
        .directory
        .as_ref()
        .is_some_and(|section| matches!(section.bind, Bind::Kerberos));
    match assembly::kerberos_settings(config)? {
        Some(settings) if kerberos => {
            let started = Delegator::start(settings);
            started
                .map(Some)
                .map_err(|error| Error::Start(error.to_string()))
        }
        Some(_) | None => Ok(None),
    }
}

/// The gateway's store, if a gateway has made one: this command does not.
pub(super) async fn store(state_dir: &Path) -> Result<Option<Arc<dyn Store>>, Error> {
    let database = state_dir.join("kerbgate.db");
    if !database.exists() {
        return Ok(None);
    }
    let store = SqliteStore::open(&database)
        .await
        .map_err(|error| Error::Start(error.to_string()))?;
    Ok(Some(Arc::new(store)))
}

fn asked(text: &str) -> Asked {
    match text.parse() {
        Ok(asked) => asked,
        Err(never) => match never {},
    }
}

impl Step {
    fn order(&self) -> Order {
        Order {
            by: operator(),
            why: self.reason.clone(),
            via: "accounts",
            ends: EndReason::Administrator,
        }
    }
}

/// Who sits at the terminal, as far as the system knows.
pub(super) fn operator() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
    named.unwrap_or_else(|| {
        use std::os::unix::fs::MetadataExt as _;
        let uid = std::fs::metadata("/proc/self").map(|meta| meta.uid());
        uid.map_or_else(|_| String::from("unknown"), |uid| format!("uid {uid}"))
    })
}

/// Asks whether this account is meant; what is then acted on is this account, by its own name.
async fn sure(room: &Lifecycle, step: &Step, verb: &str) -> Result<Asked, Error> {
    let account = room.find(&asked(&step.account)).await?;
    let question = format!(
        "{verb} {} ({}, {}), {}?",
        shown(&account.sam),
        shown(&account.name),
        shown(&account.upn),
        shown(&account.dn)
    );
    confirm(step, &question)?;
    Ok(Asked::Sam(account.sam))
}

fn confirm(step: &Step, question: &str) -> Result<(), Error> {
    if step.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::NotConfirmed(": nobody can be asked here, say --yes"));
    }
    let mut err = std::io::stderr();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::NotConfirmed("")),
    }
}

async fn list(room: &Lifecycle, json: bool) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let mut list = room.list();
    let mut first = true;
    if json {
        write!(out, "{{\"accounts\":[")?;
    } else {
        writeln!(
            out,
            "{:<20}  {:<8}  {:<36}  {:<20}  {:<24}  UPN",
            "ACCOUNT", "STATE", "PERSON (OID)", "LAST USED", "NAME"
        )?;
    }
    let mut count = 0_u64;
    while let Some(page) = list.next().await? {
        for one in page {
            count += 1;
            if json {
                let comma = if std::mem::take(&mut first) { "" } else { "," };
                let text = serde_json::to_string(&one).map_err(std::io::Error::from)?;
                write!(out, "{comma}\n{}", safe_json(&text))?;
            } else {
                writeln!(out, "{}", row(&one))?;
            }
        }
    }
    if json {
        writeln!(out, "\n]}}")?;
    } else {
        writeln!(out, "{count} accounts")?;
    }
    Ok(())
}

fn row(one: &Shadow) -> String {
    let oid = one.anchor.get(5..).unwrap_or_default();
    let state = if one.untouchable.is_some() {
        "fenced"
    } else {
        one.state.as_str()
    };
    let used = one.last_used.as_ref().or(one.last_logon.as_ref());
    format!(
        "{}  {}  {}  {}  {}  {}",
        cell(&one.sam, 20),
        cell(state, 8),
        cell(oid, 36),
        cell(used.map_or("-", String::as_str), 20),
        cell(&one.name, 24),
        shown(&one.upn)
    )
}

async fn show(
    room: &Lifecycle,
    asked: &Asked,
    json: bool,
    audit: Option<PathBuf>,
) -> Result<(), Error> {
    let one = room.find(asked).await?;
    let events = match (&audit, &one.person) {
        (Some(path), Some(person)) => history::read(path, person, EVENTS),
        (Some(_) | None, _) => Ok(Vec::new()),
    };
    let unknown = match (&audit, &events) {
        (None, _) => Some(String::from(
            "log.file is not set, so the audit events are not here",
        )),
        (Some(path), Err(error)) => Some(format!("{}: {error}", path.display())),
        (Some(_), Ok(_)) => None,
    };
    let events = events.unwrap_or_default();
    let mut out = std::io::stdout().lock();
    if json {
        let text = json!({"account": one, "history": events, "history_unknown": unknown});
        writeln!(out, "{}", safe_json(&text.to_string()))?;
        return Ok(());
    }
    write!(out, "{}", portrait(&one))?;
    match unknown {
        Some(why) => writeln!(out, "history      not known: {}", shown(&why))?,
        None if events.is_empty() => writeln!(out, "history      no event in the audit file")?,
        None => {}
    }
    for (at, event) in events.iter().enumerate() {
        let head = if at == 0 { "history" } else { "" };
        writeln!(out, "{head:<12} {}", line(event))?;
    }
    Ok(())
}

fn line(event: &Event) -> String {
    let times = match event.times {
        0 | 1 => String::new(),
        times => format!("{times} times, last: "),
    };
    let (time, name) = (shown(&event.time), cell(&event.event, 20));
    format!("{time}  {name}  {times}{}", shown(&event.detail))
}

fn portrait(one: &Shadow) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<12} {}\n", shown(value)));
        }
    };
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| String::from("-"));
    line("account", &one.sam);
    line("name", &one.name);
    line("person", &or_dash(&one.person));
    line("anchor", &one.anchor);
    line("upn", &one.upn);
    line("mail", &one.mail);
    line("dn", &one.dn);
    line("sid", &one.sid);
    line("guid", &one.guid.map(|g| g.to_string()).unwrap_or_default());
    line("state", one.state.as_str());
    if let Some(mark) = &one.disabled {
        line(
            "disabled",
            &format!("{} by {}: {}", mark.since, mark.by, mark.why),
        );
    }
    line("fenced", one.untouchable.as_deref().unwrap_or_default());
    line("created", &or_dash(&one.created));
    line("last used", &or_dash(&one.last_used));
    line("last logon", &or_dash(&one.last_logon));
    line("sign-ins", &one.sign_ins.to_string());
    for (at, group) in one.groups.iter().enumerate() {
        line(if at == 0 { "groups" } else { "" }, group);
    }
    text
}

fn tell(done: &Done, verb: &str, json: bool) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    if json {
        let text = json!({
            "changed": done.changed, "ended": done.ended, "account": done.account,
        });
        writeln!(out, "{}", safe_json(&text.to_string()))?;
        return Ok(());
    }
    let so = if done.changed { "" } else { " already" };
    let (sam, dn) = (shown(&done.account.sam), shown(&done.account.dn));
    writeln!(
        out,
        "{sam} is {verb}{so}: {dn}; sign-ins ended: {}",
        done.ended
    )?;
    Ok(())
}

async fn forget(room: &Lifecycle, step: &Step) -> Result<(), Error> {
    let person = room.person(&asked(&step.account)).await?;
    confirm(
        step,
        &format!("Forget which account is {person}'s, and end their sign-ins?"),
    )?;
    let ended = room.forget(person, &step.order()).await?;
    let mut out = std::io::stdout().lock();
    if step.json {
        writeln!(
            out,
            "{}",
            json!({"person": person.to_string(), "ended": ended})
        )?;
    } else {
        writeln!(out, "{person} is forgotten; sign-ins ended: {ended}")?;
    }
    Ok(())
}
