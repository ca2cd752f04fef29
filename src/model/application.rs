//! A published application: where it is, who may enter, and how it learns who came.

pub mod backend_http;
pub mod backend_tls;
pub mod balance;
pub mod cors;
pub mod health;
pub mod links;
pub mod maintenance;
pub mod public;
pub mod websocket;

use std::time::Duration;

use url::Url;
use uuid::Uuid;

use super::addresses::Addresses;
use super::names::AppId;
use super::names::HostName;
use super::names::Spn;
use super::rates::Rates;
use cors::Cors;
use maintenance::Maintenance;
use public::Public;

/// One published application, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Short name: the configuration file's stem.
    pub id: AppId,
    /// Name shown to people.
    pub name: String,
    /// Who decides about access: an address that refused visitors are shown.
    pub owner: Option<String>,
    /// The host under which people reach it.
    pub host: HostName,
    /// The path prefix under which people reach it, `/` or `/…/`.
    pub prefix: String,
    /// `https://host[:port]/prefix`: what a browser's address bar shows.
    pub published_url: Url,
    /// With a wildcard host: the published URL as it is configured, `*.` and all. `host` is then what follows the `*.`,
    /// or in [`Self::at`] the whole host of one request.
    pub pattern: Option<Url>,
    /// Whether `%2F` in a path is taken for a part of a name and passed on; otherwise it is refused.
    pub keeps_encoded_slash: bool,
    /// The servers that answer; at least one.
    pub backends: Vec<Backend>,
    /// Which HTTP they are spoken to in.
    pub backend_http: backend_http::BackendHttp,
    /// What TLS with them differs in.
    pub backend_tls: backend_tls::BackendTls,
    /// How requests are spread over them.
    pub balance: balance::Balance,
    /// Whether the backend sees the published host (`Host`) or its own.
    pub keep_host: bool,
    /// Who may enter.
    pub access: Access,
    /// How the backend learns who came.
    pub sso: Sso,
    /// Limits in time and size.
    pub limits: Limits,
    /// From where people may come.
    pub addresses: Addresses,
    /// How much one of them may ask for.
    pub rates: Rates,
    /// Audiences of access tokens accepted from API clients; empty = no bearer tokens.
    pub bearer_audiences: Vec<String>,
    /// What it allows of WebSocket.
    pub websocket: websocket::WebSocket,
    /// What is open to people who did not sign in.
    pub public: Public,
    /// Other sites' scripts.
    pub cors: Option<Cors>,
    /// Bodies in which links are translated.
    pub links: links::Translation,
    /// Closed for a while.
    pub maintenance: Option<Maintenance>,
}

/// One server of an application.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    /// `http(s)://host[:port]/prefix/`.
    pub url: Url,
    /// Connect here instead of resolving the URL's host.
    pub address: Option<std::net::SocketAddr>,
}

/// Who may enter: deny first, then allow, otherwise no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// What happens to guests.
    pub guests: Guests,
    /// Any fitting rule lets in.
    pub allow: Vec<Rule>,
    /// Any fitting rule keeps out, whatever `allow` says.
    pub deny: Vec<Rule>,
    /// Home tenants external people may come from; empty = any.
    pub home_tenants: Vec<Uuid>,
}

/// What an application does with guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guests {
    /// No guest enters.
    #[default]
    Deny,
    /// Guests with an account enter.
    Existing,
    /// A guest without an account gets one on the first visit.
    Provision,
}

/// One condition on a person; all of its parts must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// An app role's value.
    pub role: Option<String>,
    /// A group's object id.
    pub group: Option<Uuid>,
    /// A home tenant.
    pub home_tenant: Option<Uuid>,
    /// A kind of person.
    pub kind: Option<Kind>,
    /// One single person's object id.
    pub person: Option<Uuid>,
}

/// Kinds of people: origin and user type are two separate facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everybody who could sign in.
    Anyone,
    /// Entra calls them a guest.
    Guest,
    /// Entra calls them a member.
    Member,
    /// They sign in at another tenant or provider.
    External,
    /// A member who signs in at our own tenant.
    Employee,
}

/// How the backend learns who came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sso {
    /// A Negotiate token in the person's name (Integrated Windows Authentication).
    Kerberos(KerberosSso),
    /// Identity headers.
    Headers(HeaderSso),
    /// Nothing: the backend signs people in by itself.
    None,
}

/// Settings of Kerberos sign-on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KerberosSso {
    /// The SPN, one for each backend in order (a template has been filled in).
    pub spns: Vec<Spn>,
    /// When the token is sent.
    pub send: SendToken,
    /// How the token is wrapped.
    pub wrap: Wrap,
    /// Whether an answer's token must prove the backend's identity.
    pub mutual: bool,
    /// Whether a token is bound to the TLS connection it is sent on (RFC 5929 4).
    pub channel_binding: bool,
}

/// When a Negotiate token is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendToken {
    /// With each request, before the backend asks.
    EachRequest,
    /// With the first request on each connection, which from then on stands for the person.
    EachConnection,
    /// With each request, until the backend itself says that the connection stands for the person
    /// (`Persistent-Auth: true`).
    Learn,
    /// After the backend answered 401.
    OnChallenge,
}

/// How a Kerberos token is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// In SPNEGO (RFC 4178): what almost every backend expects.
    Spnego,
    /// The bare Kerberos token.
    Raw,
}

/// Settings of header sign-on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSso {
    /// Header name and where its value comes from.
    pub headers: Vec<(http::HeaderName, HeaderValueFrom)>,
    /// Whether a signed assertion is sent as well.
    pub assertion: bool,
    /// Whether an on-premises account is looked up (and made) for the person.
    pub account: bool,
}

/// Where an identity header's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderValueFrom {
    /// The object id.
    ObjectId,
    /// The tenant id.
    TenantId,
    /// The display name, UTF-8 percent-encoded where it is not visible ASCII.
    DisplayName,
    /// The e-mail claim: display only, possibly unverified.
    Email,
    /// The cloud UPN claim.
    Upn,
    /// App roles, separated by commas.
    Roles,
    /// Group object ids, separated by commas.
    Groups,
    /// The on-premises `sAMAccountName`.
    Sam,
    /// The on-premises UPN.
    AccountUpn,
    /// The on-premises SID.
    Sid,
}

impl HeaderValueFrom {
    /// True when the value is only known after the mapping.
    #[must_use]
    pub const fn needs_account(self) -> bool {
        matches!(self, Self::Sam | Self::AccountUpn | Self::Sid)
    }
}

/// Limits of one application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time to connect, TLS included.
    pub connect: Duration,
    /// Time from the sent request to the answer's first byte.
    pub first_byte: Duration,
    /// Longest silence within a body, either way.
    pub idle: Duration,
    /// Time for the whole exchange; absent = no limit.
    pub total: Option<Duration>,
    /// Fewest bytes a second of a request's body while we wait for it; 0 = no limit.
    pub min_rate: u64,
    /// Largest request body in bytes; 0 = no limit.
    pub max_body: u64,
    /// Largest form in bytes that is kept across a sign-in; 0 = none.
    pub keep_form: u64,
}

#[cfg(test)]
impl Application {
    /// A wiki at `https://wiki.example.com/` with every default: a test says what differs.
    #[must_use]
    pub fn sample() -> Self {
        let soon = Duration::from_secs(5);
        Self {
            id: "wiki".parse().unwrap(),
            name: String::from("Wiki"),
            owner: None,
            host: "wiki.example.com".parse().unwrap(),
            prefix: String::from("/"),
            published_url: Url::parse("https://wiki.example.com/").unwrap(),
            pattern: None,
            keeps_encoded_slash: false,
            backends: Vec::new(),
            backend_http: backend_http::BackendHttp::default(),
            backend_tls: backend_tls::BackendTls::default(),
            balance: balance::Balance::default(),
            keep_host: false,
            access: Access::default(),
            sso: Sso::None,
            limits: Limits {
                connect: soon,
                first_byte: soon,
                idle: soon,
                total: None,
                min_rate: 0,
                max_body: 0,
                keep_form: 1 << 20,
            },
            addresses: Addresses::default(),
            rates: Rates::default(),
            bearer_audiences: Vec::new(),
            websocket: websocket::WebSocket::default(),
            public: Public::default(),
            cors: None,
            links: links::Translation::default(),
            maintenance: None,
        }
    }
}

impl Application {
    /// True when it stands for all hosts of its pattern, and not for one of them.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.pattern.as_ref() == Some(&self.published_url)
    }

    /// The published URL as it is configured.
    #[must_use]
    pub fn configured_url(&self) -> &Url {
        self.pattern.as_ref().unwrap_or(&self.published_url)
    }

    /// The host as it is configured: `intranet.example.com`, `*.apps.example.com`.
    #[must_use]
    pub fn configured_host(&self) -> &str {
        self.configured_url().host_str().unwrap_or_default()
    }

    /// What a pattern is for one host: an application like any other.
    #[must_use]
    pub fn at(&self, host: HostName) -> Option<Self> {
        let mut published_url = self.published_url.clone();
        published_url.set_host(Some(host.as_str())).ok()?;
        Some(Self {
            host,
            published_url,
            ..self.clone()
        })
    }

    /// True when a request needs an on-premises account before it can go on.
    #[must_use]
    pub fn needs_account(&self) -> bool {
        match &self.sso {
            Sso::Kerberos(_) => true,
            Sso::Headers(headers) => {
                headers.account || headers.headers.iter().any(|(_, from)| from.needs_account())
            }
            Sso::None => false,
        }
    }
}
