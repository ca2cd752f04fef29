//! What the promises about accounts share: the lab's directory seen through our own rooms, people nobody has
//! seen before, and a line to the domain controller that can be cut or held.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kerbgate::ldap::Attribute;
use kerbgate::ldap::Bind;
use kerbgate::ldap::Directory;
use kerbgate::ldap::Dn;
use kerbgate::ldap::Entry;
use kerbgate::ldap::Servers;
use kerbgate::ldap::client_config;
use kerbgate::mapping::Mapping;
use kerbgate::mapping::Tools;
use kerbgate::mapping::names;
use kerbgate::mapping::settings::Settings;
use kerbgate::mapping::settings::UpnRule;
use kerbgate::model::account::Account;
use kerbgate::model::claims::Claims;
use kerbgate::model::claims::Groups;
use kerbgate::model::claims::Home;
use kerbgate::model::clock::Clock;
use kerbgate::model::names::PersonId;
use kerbgate::model::secret::Secret;
use kerbgate::model::stop::Stop;
use kerbgate::store::sqlite::SqliteStore;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use uuid::Uuid;

use crate::lab::Lab;

pub const GUESTS: &str = "OU=Guests,DC=contoso,DC=test";

pub fn dn(text: &str) -> Dn {
    text.parse().unwrap()
}

/// How the gateway sees the lab's directory; changed by tests before it is opened.
pub fn ldap_settings(lab: &Lab) -> kerbgate::ldap::Settings {
    let facts = &lab.facts;
    let authority = std::fs::read(&facts.ca).unwrap();
    let bind = Bind::Simple {
        name: String::from("svc-gateway@contoso.test"),
        password: Secret::new(facts.accounts.passwords["svc-gateway"].clone()),
    };
    let servers = Servers::Listed(vec![facts.dc.parse().unwrap()]);
    let mut settings =
        kerbgate::ldap::Settings::new(servers, client_config(Some(&authority)).unwrap(), bind);
    settings
        .hosts
        .insert(facts.dc.clone(), facts.address.into());
    settings.port = facts.ldaps.port();
    settings
}

/// The directory as the gateway's account.
pub fn directory(lab: &Lab) -> Directory {
    Directory::new(ldap_settings(lab))
}

pub fn settings() -> Settings {
    Settings {
        realm: "CONTOSO.TEST".parse().unwrap(),
        account_bases: vec![dn(GUESTS), dn("OU=Staff,DC=contoso,DC=test")],
        guests_ou: Some(dn(GUESTS)),
        disabled_ou: Some(dn("OU=Disabled Guests,DC=contoso,DC=test")),
        groups_ou: Some(dn("OU=Guest Groups,DC=contoso,DC=test")),
        anchor: "msDS-ExternalDirectoryObjectId".parse().unwrap(),
        sam_prefix: String::from("kg-"),
        upn: UpnRule::CloudUpn,
        adopt: false,
        groups: Vec::new(),
        cache: Duration::from_secs(60),
        patience: Duration::from_secs(30),
    }
}

/// A gateway's mapping with a store and connections of its own.
pub async fn mapping(settings: Settings, directory: Directory) -> Mapping {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db"))
        .await
        .unwrap();
    // The file lives as long as the process: a test process lives for one test.
    let _kept = folder.keep();
    let tools = Tools {
        directory,
        store: Arc::new(store),
        delegator: None,
        clock: Clock::System,
    };
    Mapping::new(settings, tools).unwrap()
}

/// A guest whom no directory has seen.
pub fn guest() -> Claims {
    Claims {
        person: PersonId {
            tid: Uuid::parse_str("aaaaaaaa-0000-4000-8000-00000000000a").unwrap(),
            oid: Uuid::new_v4(),
        },
        home: Home::Tenant(Uuid::parse_str("bbbbbbbb-0000-4000-8000-00000000000b").unwrap()),
        guest: Some(true),
        display_name: Some(String::from("Jane Guest")),
        given_name: Some(String::from("Jane")),
        family_name: Some(String::from("Guest")),
        email: Some(String::from("jane@fabrikam.example")),
        upn: None,
        preferred_username: None,
        roles: Vec::new(),
        groups: Groups::Listed(Vec::new()),
        onprem_sid: None,
        session_id: None,
        login_hint: None,
    }
}

/// An employee of the lab, as their token says it.
pub fn employee(lab: &Lab, account: &str) -> Claims {
    let mut claims = guest();
    claims.home = Home::Own;
    claims.guest = Some(false);
    claims.onprem_sid = Some(lab.facts.accounts.sids[account].parse().unwrap());
    claims
}

/// Where a guest's shadow account is made.
pub fn shadow(claims: &Claims) -> Dn {
    dn(GUESTS).child("CN", &names::sam("kg-", claims.person))
}

/// The account, found or made.
pub async fn made(mapping: &Mapping, claims: &Claims) -> Result<Arc<Account>, Stop> {
    mapping.account(claims, &[], true).await.map(Option::unwrap)
}

/// The reason code of a refusal, `ok` or `wait`.
pub async fn outcome(mapping: &Mapping, claims: &Claims) -> &'static str {
    match made(mapping, claims).await {
        Ok(_) => "ok",
        Err(Stop::Deny(denial) | Stop::Later { denial, .. }) => denial.code.as_str(),
        Err(Stop::Fail(fault)) => fault.code.as_str(),
        Err(Stop::Wait { .. }) => "wait",
        Err(Stop::Reply(_)) => "reply",
    }
}

/// What the directory itself holds.
pub async fn entry(directory: &Directory, dn: &Dn, attributes: &[&str]) -> Option<Entry> {
    let session = directory.session().await.unwrap();
    session.read(dn, attributes).await.unwrap()
}

/// Adds a user by hand, as an administrator or another tool would.
pub async fn add_user(directory: &Directory, dn: &Dn, attributes: &[(&str, &str)]) {
    let mut all: Vec<(Attribute, Vec<Vec<u8>>)> =
        vec![("objectClass".parse().unwrap(), vec![b"user".to_vec()])];
    for (name, value) in attributes {
        all.push((name.parse().unwrap(), vec![value.as_bytes().to_vec()]));
    }
    let session = directory.session().await.unwrap();
    session.add(dn, all).await.unwrap();
}

pub async fn remove(directory: &Directory, dn: &Dn) {
    let session = directory.session().await.unwrap();
    session.delete(dn).await.unwrap();
}

/// A short name that no other test uses.
pub fn unique(prefix: &str) -> String {
    let id = Uuid::new_v4().simple().to_string();
    format!("{prefix}{}", &id[..10])
}

/// What happens to the first large message (a create, not a search) from the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// All is well.
    Off = 0,
    /// The connection is cut before the controller has the whole of it.
    CutBefore = 1,
    /// The controller has it; the connection is cut before the answer.
    CutAfter = 2,
    /// The controller never gets it, and the connection stays open.
    Hang = 3,
}

/// A line to the domain controller on a port of its own. Trouble strikes once.
#[derive(Clone, Debug)]
pub struct BadLine {
    pub address: SocketAddr,
    trouble: Arc<AtomicU8>,
}

/// Longer than a bind or a search inside TLS, shorter than the create of an account.
const LARGE: usize = 800;

impl BadLine {
    pub async fn to(lab: &Lab, trouble: Trouble) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Self {
            address: listener.local_addr().unwrap(),
            trouble: Arc::new(AtomicU8::new(trouble as u8)),
        };
        tokio::spawn(line.clone().serve(listener, lab.facts.ldaps));
        line
    }

    /// True once the trouble has struck.
    pub fn struck(&self) -> bool {
        self.trouble.load(Ordering::SeqCst) == Trouble::Off as u8
    }

    /// The directory over this line.
    pub fn directory(&self, lab: &Lab) -> Directory {
        let mut settings = ldap_settings(lab);
        settings
            .hosts
            .insert(lab.facts.dc.clone(), self.address.ip());
        settings.port = self.address.port();
        settings.operation = Duration::from_secs(1);
        Directory::new(settings)
    }

    async fn serve(self, listener: TcpListener, controller: SocketAddr) {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(controller).await.unwrap();
            tokio::spawn(self.clone().join(client, server));
        }
    }

    async fn join(self, client: TcpStream, server: TcpStream) {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let answers = tokio::spawn(copy(from_server, to_client));
        self.forward(from_client, to_server, &answers).await;
        answers.abort();
    }

    async fn forward(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        answers: &tokio::task::JoinHandle<()>,
    ) {
        let mut buffer = vec![0; 65_536];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let trouble = if n > LARGE {
                self.trouble.swap(Trouble::Off as u8, Ordering::SeqCst)
            } else {
                Trouble::Off as u8
            };
            if trouble == Trouble::CutBefore as u8 {
                drop(to.write_all(&buffer[..n / 2]).await);
                return;
            }
            if trouble == Trouble::CutAfter as u8 {
                answers.abort();
                drop(to.write_all(&buffer[..n]).await);
                return;
            }
            if trouble == Trouble::Hang as u8 {
                drop(from.read(&mut buffer).await);
                return;
            }
            if to.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    drop(tokio::io::copy(&mut from, &mut to).await);
}
