//! The sections of the boot file: one small struct each, with the reason of every default.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::num::NonZero;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;
use uuid::Uuid;

use crate::config::client_credential::client_credential;
use crate::config::limits;
use crate::config::reader::Hosts;
use crate::config::reader::Section;
use crate::model::addresses::Networks;
use crate::model::addresses::Syntax;
use crate::model::addresses::Trusted;
use crate::model::names::HostName;
use crate::model::names::Principal;
use crate::model::names::Realm;
use crate::model::secret::Secret;
use crate::telemetry::Format;
use crate::telemetry::traces::Collector;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86400);

/// Where the gateway itself lives.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The central sign-in host's address; the issuer redirects back to it.
    pub sign_in_url: Url,
    /// Its host.
    pub sign_in_host: HostName,
    /// The folder of applications' files.
    pub applications: PathBuf,
    /// Where the store, and keys that the gateway makes itself, are kept.
    pub state_dir: PathBuf,
    /// Where files that need not survive a restart are written (the generated `krb5.conf`).
    pub runtime_dir: PathBuf,
    /// Threads that serve clients.
    pub workers: usize,
}

/// Sockets, certificates and limits towards clients.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where TLS clients connect.
    pub https: Vec<SocketAddr>,
    /// Where plain clients are sent to `https`; empty = nowhere.
    pub http: Vec<SocketAddr>,
    /// Health and readiness, on their own listener; never reachable through the published hosts.
    pub ops: Option<SocketAddr>,
    /// Certificate chains with their keys, chosen by SNI.
    pub certificates: Vec<Certificate>,
    /// Peers that have to say with the PROXY protocol for whom they come.
    pub proxy_protocol_from: Networks,
    /// Peers whose word about the client, in one header, counts.
    pub forwarded: Trusted,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Most connections of one address at a time; absent = no limit.
    pub max_connections_per_address: Option<NonZeroU32>,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for a request's headers.
    pub headers: Duration,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// How long a client may take nothing, or next to nothing, of an answer.
    pub write: Duration,
    /// Largest request head in bytes.
    pub max_head: usize,
    /// How long requests may finish after a stop was asked for.
    pub drain: Duration,
    /// How long new connections are still taken after a stop was asked for, while `/readyz` says no.
    pub linger: Duration,
}

/// One certificate chain and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain, leaf first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The identity provider.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The tenant: every token's `tid`.
    pub tenant: Uuid,
    /// Further tenants whose tokens are accepted; empty = single tenant.
    pub allowed_tenants: Vec<Uuid>,
    /// Our client id at the issuer.
    pub client_id: String,
    /// How we prove who we are at the token endpoint.
    pub credential: ClientCredential,
    /// `https://login.microsoftonline.com/{tenant}` unless another provider stands in.
    pub authority: Url,
    /// The exact `iss` of v2 tokens.
    pub issuer: String,
    /// The exact `iss` of v1 access tokens, if any are accepted.
    pub issuer_v1: Option<String>,
    /// Where metadata is read; derived from the authority unless another provider stands in.
    pub metadata: Url,
    /// Metadata of v1 tokens.
    pub metadata_v1: Option<Url>,
    /// A private authority that signed the issuer's certificate.
    pub ca_file: Option<PathBuf>,
    /// Scopes asked for at sign-in.
    pub scopes: Vec<String>,
    /// Name of the claim that holds the tenant.
    pub tenant_claim: String,
    /// Name of the claim that holds the person's object id.
    pub person_claim: String,
    /// Base of Microsoft Graph; absent = a group overage is refused.
    pub graph: Option<Url>,
    /// Scope of the application token for Graph.
    pub graph_scope: String,
    /// Resource units a second that this gateway may spend at Graph.
    pub graph_units_per_second: u32,
    /// Most seconds that clocks may differ (RFC 7519 4.1.4: "a few minutes").
    pub skew: Duration,
    /// How often, at most, an unknown key id makes the gateway fetch the issuer's keys.
    pub unknown_key_every: Duration,
    /// Addresses without DNS.
    pub hosts: Hosts,
}

/// How the gateway proves who it is at the token endpoint.
#[derive(Clone, Debug)]
pub enum ClientCredential {
    /// A shared secret.
    Secret(Secret<String>),
    /// A certificate (`private_key_jwt`): preferred, nothing secret is ever sent.
    Certificate(Certificate),
}

/// Lifetimes of sessions.
#[derive(Clone, Debug)]
pub struct Session {
    /// Ends after so long without a request.
    pub idle: Duration,
    /// Ends after so long in any case.
    pub absolute: Duration,
    /// How often the issuer is asked whether the person may still sign in.
    pub recheck: Duration,
    /// How long sessions go on while the issuer cannot be asked.
    pub issuer_grace: Duration,
    /// Time to finish a sign-in once begun.
    pub sign_in: Duration,
    /// Key that seals refresh tokens; made and kept in `state_dir` when absent.
    pub seal_key: Option<Secret<String>>,
    /// The key before it, still accepted.
    pub previous_seal_key: Option<Secret<String>>,
}

/// The on-premises directory.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The Kerberos realm of the domain.
    pub realm: Realm,
    /// The domain's base DN.
    pub base_dn: String,
    /// Domain controllers in order of preference; empty = DNS SRV.
    pub servers: Vec<HostName>,
    /// Port of LDAPS.
    pub port: u16,
    /// Active Directory site for DNS SRV.
    pub site: Option<String>,
    /// A private authority that signed the controllers' certificates.
    pub ca_file: Option<PathBuf>,
    /// How the gateway binds.
    pub bind: Bind,
    /// Time to connect and bind.
    pub connect: Duration,
    /// Time for one operation.
    pub operation: Duration,
    /// Most entries of one page of a long answer.
    pub page_size: u32,
    /// Hosts to which referrals are followed; empty = they are refused.
    pub follow_referrals: Vec<HostName>,
    /// Addresses without DNS.
    pub hosts: Hosts,
}

/// How the gateway binds to the directory.
#[derive(Clone, Debug)]
pub enum Bind {
    /// With its own Kerberos credential and channel binding.
    Kerberos,
    /// With name and password, over LDAPS only: for sites without a keytab.
    Simple {
        /// The bind name.
        name: String,
        /// Its password.
        password: Secret<String>,
    },
}

/// How people become accounts.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Only accounts under these are ever acted for: the fence.
    pub account_bases: Vec<String>,
    /// Where shadow accounts are made.
    pub guests_ou: Option<String>,
    /// Where shadow accounts rest after their person has left: searched, never acted for.
    pub disabled_ou: Option<String>,
    /// Where managed groups live.
    pub groups_ou: Option<String>,
    /// Attribute that holds `User_<oid>`.
    pub anchor_attribute: String,
    /// First characters of every shadow account's `sAMAccountName`.
    pub sam_prefix: String,
    /// Suffix of shadow accounts' UPN; absent = the cloud UPN.
    pub upn_suffix: Option<String>,
    /// Whether accounts that MIM or Microsoft's script made are taken over.
    pub adopt: bool,
    /// App roles and groups that become AD groups.
    pub groups: Vec<GroupMapping>,
    /// How long a mapping is believed before the directory is asked again.
    pub cache: Duration,
    /// How long a visitor waits on the line before the waiting page is shown.
    pub patience: Duration,
}

/// One app role or Entra group that becomes membership of an AD group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMapping {
    /// An app role's value.
    pub role: Option<String>,
    /// A group's object id.
    pub group: Option<Uuid>,
    /// The AD group's distinguished name, under `groups_ou`.
    pub ad_group: String,
    /// Whether a synchronization makes the AD group where it is missing.
    pub create: bool,
    /// Most guests that a synchronization believes to be behind it.
    pub max_members: usize,
}

/// The gateway's own Kerberos credential.
#[derive(Clone, Debug)]
pub struct Kerberos {
    /// The gateway's account.
    pub principal: Principal,
    /// Its keytab.
    pub keytab: PathBuf,
    /// KDCs in order of preference, `host[:port]`; empty = DNS SRV.
    pub kdcs: Vec<String>,
    /// Threads for blocking Kerberos calls.
    pub threads: usize,
    /// Calls that may wait for a thread.
    pub queue: usize,
    /// Longest time for a ticket.
    pub deadline: Duration,
    /// Whether RC4 is allowed: a weak cipher, for domains that cannot do without yet (RFC 8429).
    pub allow_rc4: bool,
    /// Addresses without DNS.
    pub hosts: Hosts,
}

/// What our own pages say and look like.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The organization's name.
    pub organization: String,
    /// Whom a visitor can ask.
    pub support: Option<String>,
    /// Accent color, `#rrggbb`.
    pub accent: Option<String>,
    /// An SVG or PNG file.
    pub logo: Option<PathBuf>,
}

/// What is logged, and where to.
#[derive(Clone, Debug)]
pub struct Log {
    /// Filter of diagnostic messages, such as `info` or `kerbgate=debug`.
    pub filter: String,
    /// File of access and audit lines; absent = standard output, with everything else.
    pub file: Option<PathBuf>,
    /// How access lines look.
    pub access: Format,
    /// Where spans are sent; absent = nowhere.
    pub traces: Option<Collector>,
}

pub(super) fn hosts(section: &Section<'_>) -> Hosts {
    section
        .entries("an IP address under the name of a host", |name, ip| {
            Some((
                name.parse::<HostName>().ok()?.to_string(),
                ip.parse::<IpAddr>().ok()?,
            ))
        })
        .into_iter()
        .collect()
}

pub(super) fn gateway(section: &Section<'_>) -> Option<Gateway> {
    const WANTED: &str = "an address such as \"https://login.example.com/\"";
    let url: Option<Url> =
        section.required("sign_in_url", WANTED, section.parsed("sign_in_url", WANTED));
    let applications = section.path("applications");
    let state_dir = section.required("state_dir", "a folder", section.path("state_dir"));
    let runtime_dir = section.path("runtime_dir");
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let workers = section.number("workers", 1..=1024, u64::try_from(processors).unwrap_or(1));
    section.finish();
    let url = url?;
    let host = url
        .host_str()
        .and_then(|host| host.parse::<HostName>().ok());
    let bare = url.scheme() == "https" && url.path() == "/" && url.query().is_none();
    let Some(sign_in_host) = host.filter(|_| bare) else {
        section.mistake("sign_in_url", &format!("\"{url}\" is not {WANTED}"));
        return None;
    };
    let state_dir = state_dir?;
    Some(Gateway {
        sign_in_url: url,
        sign_in_host,
        applications: applications.unwrap_or_else(|| section.resolve("apps")),
        runtime_dir: runtime_dir.unwrap_or_else(|| state_dir.join("run")),
        workers: count(workers),
        state_dir,
    })
}

fn forwarded(section: &Section<'_>) -> Trusted {
    let from = limits::networks(section, "forwarded_from");
    let syntax = section.choice(
        "forwarded",
        &[
            ("forwarded", Syntax::Forwarded),
            ("x-forwarded-for", Syntax::XForwardedFor),
        ],
    );
    // SECURITY: a proxy writes one of the two and passes the other one on as the client sent it.
    if !from.is_empty() && syntax.is_none() {
        section.mistake(
            "forwarded",
            "is missing; say which header the proxies in forwarded_from write: \"forwarded\" or \"x-forwarded-for\"",
        );
    }
    Trusted {
        from,
        syntax: syntax.unwrap_or_default(),
    }
}

/// `acme`: without files, certificates are ordered.
pub(super) fn listener(section: &Section<'_>, acme: bool) -> Option<Listener> {
    const WANTED: &str = "an address with port such as \"0.0.0.0:443\" or \"[::]:443\"";
    let https = section.list("https", WANTED);
    if https.is_empty() {
        section.required::<()>(
            "https",
            "a list of addresses such as [\"0.0.0.0:443\"]",
            None,
        );
    }
    let certificates: Vec<_> = section
        .sections("certificates")
        .iter()
        .filter_map(|one| {
            let chain = one.required("chain", "a PEM file, leaf first", one.path("chain"));
            let key = one.required("key", "a PEM file", one.path("key"));
            one.finish();
            Some(Certificate {
                chain: chain?,
                key: key?,
            })
        })
        .collect();
    if certificates.is_empty() && !acme {
        section.required::<()>(
            "certificates",
            "at least one [[listener.certificates]], or [acme]",
            None,
        );
    }
    let listener = Listener {
        https,
        http: section.list("http", WANTED),
        ops: section.parsed("ops", WANTED),
        certificates,
        proxy_protocol_from: limits::networks(section, "proxy_protocol_from"),
        forwarded: forwarded(section),
        max_connections: count(section.number("max_connections", 1..=1_000_000, 20_000)),
        // Absent: a whole office, or a proxy in front, may be one address.
        max_connections_per_address: limits::at_once(section, "max_connections_per_address"),
        handshake: section.span("handshake", Duration::from_secs(10)),
        headers: section.span("headers", Duration::from_secs(15)),
        idle: section.span("idle", Duration::from_secs(120)),
        write: section.span("write", Duration::from_secs(60)),
        max_head: count(section.number("max_head", 4096..=1_048_576, 65_536)),
        drain: section.span("drain", Duration::from_secs(20)),
        linger: section.span("linger", Duration::ZERO),
    };
    section.finish();
    let shown = acme || !listener.certificates.is_empty();
    (!listener.https.is_empty() && shown).then_some(listener)
}

pub(super) fn issuer(section: &Section<'_>, hosts: &Hosts) -> Option<Issuer> {
    const HTTPS: &str = "an https address";
    let tenant: Option<Uuid> = section.required(
        "tenant",
        "the tenant's id (GUID)",
        section.parsed("tenant", "a GUID"),
    );
    let client_id = section.required(
        "client_id",
        "the app registration's client id",
        section.text("client_id"),
    );
    let credential = client_credential(section);
    let allowed_tenants = section.list("allowed_tenants", "a tenant id (GUID)");
    let authority: Option<Url> = section.parsed("authority", HTTPS);
    let issuer = section.text("issuer");
    let issuer_v1 = section.text("issuer_v1");
    let metadata: Option<Url> = section.parsed("metadata", HTTPS);
    let metadata_v1: Option<Url> = section.parsed("metadata_v1", HTTPS);
    let ca_file = section.path("ca_file");
    let scopes = section.list("scopes", "a scope");
    let tenant_claim = section.text("tenant_claim");
    let person_claim = section.text("person_claim");
    let graph: Option<Url> = section.parsed("graph", HTTPS);
    let graph_scope = section.text("graph_scope");
    let graph_units = section.number("graph_units_per_second", 1..=10_000, 150);
    let skew = section.span("skew", 2 * MINUTE);
    let unknown_key_every = section.span("unknown_key_every", 5 * MINUTE);
    // SECURITY: security requirement 9: never more than five minutes.
    if skew > 5 * MINUTE {
        section.mistake("skew", "is above five minutes; wanted: at most \"5m\"");
    }
    for (key, url) in [
        ("authority", &authority),
        ("metadata", &metadata),
        ("graph", &graph),
    ] {
        if url.as_ref().is_some_and(|url| url.scheme() != "https") {
            section.mistake(
                key,
                &format!("is not {HTTPS}: tokens and keys never travel in the clear"),
            );
        }
    }
    section.finish();
    let tenant = tenant?;
    let entra = authority.is_none() && issuer.is_none();
    let authority = authority
        .or_else(|| Url::parse(&format!("https://login.microsoftonline.com/{tenant}")).ok())?;
    let base = authority.as_str().trim_end_matches('/').to_owned();
    let derived = |tail: &str| Url::parse(&format!("{base}{tail}")).ok();
    Some(Issuer {
        issuer: issuer.unwrap_or_else(|| format!("{base}/v2.0")),
        issuer_v1: issuer_v1
            .or_else(|| entra.then(|| format!("https://sts.windows.net/{tenant}/"))),
        metadata: metadata.or_else(|| derived("/v2.0/.well-known/openid-configuration"))?,
        metadata_v1: metadata_v1.or_else(|| derived("/.well-known/openid-configuration")),
        tenant,
        allowed_tenants,
        client_id: client_id?,
        credential: credential?,
        authority,
        ca_file,
        scopes: if scopes.is_empty() {
            ["openid", "profile", "email", "offline_access"]
                .map(String::from)
                .to_vec()
        } else {
            scopes
        },
        tenant_claim: tenant_claim.unwrap_or_else(|| String::from("tid")),
        person_claim: person_claim.unwrap_or_else(|| String::from("oid")),
        graph: graph.or_else(|| microsoft_graph(entra)),
        graph_scope: graph_scope
            .unwrap_or_else(|| String::from("https://graph.microsoft.com/.default")),
        graph_units_per_second: u32::try_from(graph_units).unwrap_or(u32::MAX),
        skew,
        unknown_key_every,
        hosts: hosts.clone(),
    })
}

/// Entra has a Graph beside it; another provider has none.
fn microsoft_graph(entra: bool) -> Option<Url> {
    let url = Url::parse("https://graph.microsoft.com/v1.0").ok();
    url.filter(|_| entra)
}

pub(super) fn session(section: &Section<'_>) -> Session {
    let session = Session {
        idle: section.span("idle", 8 * HOUR),
        absolute: section.span("absolute", DAY),
        recheck: section.span("recheck", 5 * MINUTE),
        issuer_grace: section.span("issuer_grace", HOUR),
        sign_in: section.span("sign_in", 15 * MINUTE),
        seal_key: section.secret([
            "seal_key",
            "seal_key_file",
            "seal_key_env",
            "seal_key_credential",
        ]),
        previous_seal_key: section.secret([
            "previous_seal_key",
            "previous_seal_key_file",
            "previous_seal_key_env",
            "previous_seal_key_credential",
        ]),
    };
    if session.idle > session.absolute {
        section.mistake("idle", "is longer than `absolute`");
    }
    section.finish();
    session
}

/// The outer `None` is a mistake, the inner one a section that is not there.
pub(super) fn directory(section: &Section<'_>, hosts: &Hosts) -> Option<Option<Directory>> {
    if !section.exists() {
        return Some(None);
    }
    const REALM: &str = "the domain's Kerberos realm such as \"CORP.EXAMPLE.COM\"";
    let realm: Option<Realm> = section.required("realm", REALM, section.parsed("realm", REALM));
    let base_dn = section.text("base_dn");
    let servers = section.list("servers", "a domain controller's DNS name");
    let port = section.number("port", 1..=65535, 636);
    let site = section.text("site");
    let ca_file = section.path("ca_file");
    let kerberos_or_simple = section.choice("bind", &[("kerberos", true), ("simple", false)]);
    let bind_name = section.text("bind_name");
    let password = section.secret([
        "bind_password",
        "bind_password_file",
        "bind_password_env",
        "bind_password_credential",
    ]);
    let connect = section.span("connect", Duration::from_secs(3));
    let operation = section.span("operation", Duration::from_secs(10));
    let page_size = section.number("page_size", 1..=5000, 500);
    let follow_referrals = section.list("follow_referrals", "a directory server's DNS name");
    let bind = match (kerberos_or_simple.unwrap_or(true), bind_name, password) {
        (true, None, None) => Some(Bind::Kerberos),
        (false, Some(name), Some(password)) => Some(Bind::Simple { name, password }),
        (true, _, _) => {
            section.mistake(
                "bind_name",
                "belongs to bind = \"simple\"; leave it and the password out",
            );
            None
        }
        (false, _, _) => {
            section.mistake("bind", "\"simple\" wants bind_name and bind_password_file");
            None
        }
    };
    section.finish();
    let realm = realm?;
    let base_dn = base_dn.unwrap_or_else(|| {
        let labels: Vec<_> = realm
            .as_str()
            .split('.')
            .map(|l| format!("DC={}", l.to_lowercase()))
            .collect();
        labels.join(",")
    });
    Some(Some(Directory {
        realm,
        base_dn,
        servers,
        port: u16::try_from(port).unwrap_or(636),
        site,
        ca_file,
        bind: bind?,
        connect,
        operation,
        page_size: u32::try_from(page_size).unwrap_or(500),
        follow_referrals,
        hosts: hosts.clone(),
    }))
}

/// What Entra Cloud Sync allows a group that it writes to a directory.
const MOST_MEMBERS: u64 = 50_000;
/// More than that is a tenant's "all users" more often than the people of one application.
const USUAL_MEMBERS: u64 = 5_000;

pub(super) fn mapping(section: &Section<'_>) -> Option<Option<Mapping>> {
    if !section.exists() {
        return Some(None);
    }
    const BASES: &str =
        "a list of distinguished names: only accounts under them are ever acted for";
    let account_bases: Vec<String> = section.list("account_bases", "a distinguished name");
    if account_bases.is_empty() {
        section.required::<()>("account_bases", BASES, None);
    }
    let groups: Vec<GroupMapping> = section
        .sections("groups")
        .iter()
        .filter_map(|one| {
            let role = one.text("role");
            let group = one.parsed("group", "a group's object id (GUID)");
            let ad_group = one.required("ad_group", "an AD group's DN", one.text("ad_group"));
            if role.is_some() == group.is_some() {
                one.mistake("role", "wanted: exactly one of role and group");
            }
            let create = one.flag("create", false);
            let max_members = one.number("max_members", 1..=MOST_MEMBERS, USUAL_MEMBERS);
            one.finish();
            Some(GroupMapping {
                role,
                group,
                ad_group: ad_group?,
                create,
                max_members: usize::try_from(max_members).unwrap_or_default(),
            })
        })
        .collect();
    let groups_ou = section.text("groups_ou");
    if !groups.is_empty() && groups_ou.is_none() {
        section.required::<()>(
            "groups_ou",
            "the OU of the groups named in [[mapping.groups]]",
            None,
        );
    }
    let sam_prefix = section
        .text("sam_prefix")
        .unwrap_or_else(|| String::from("kg-"));
    let sound = (1..=6).contains(&sam_prefix.len())
        && sam_prefix
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !sound {
        section.mistake(
            "sam_prefix",
            &format!("{sam_prefix:?} is not one to six lower-case letters, digits or \"-\""),
        );
    }
    let mapping = Mapping {
        account_bases,
        guests_ou: section.text("guests_ou"),
        disabled_ou: section.text("disabled_ou"),
        groups_ou,
        anchor_attribute: section
            .choice(
                "anchor_attribute",
                &[
                    (
                        "msDS-ExternalDirectoryObjectId",
                        "msDS-ExternalDirectoryObjectId",
                    ),
                    ("adminDescription", "adminDescription"),
                ],
            )
            .unwrap_or("msDS-ExternalDirectoryObjectId")
            .to_owned(),
        sam_prefix,
        upn_suffix: section.text("upn_suffix"),
        adopt: section.flag("adopt", false),
        groups,
        cache: section.span("cache", MINUTE),
        patience: section.span("patience", Duration::from_secs(1)),
    };
    section.finish();
    Some(Some(mapping))
}

pub(super) fn kerberos(section: &Section<'_>, hosts: &Hosts) -> Option<Option<Kerberos>> {
    if !section.exists() {
        return Some(None);
    }
    const PRINCIPAL: &str =
        "the gateway account's principal such as \"svc-gateway@CORP.EXAMPLE.COM\"";
    let principal: Option<Principal> = section.required(
        "principal",
        PRINCIPAL,
        section.parsed("principal", PRINCIPAL),
    );
    let keytab = section.required(
        "keytab",
        "the gateway account's keytab",
        section.path("keytab"),
    );
    let kdcs = section.list("kdcs", "a KDC's DNS name, with \":port\" if it is not 88");
    let threads = count(section.number("threads", 1..=64, 4));
    let queue = count(section.number("queue", 1..=100_000, 1_000));
    let deadline = section.span("deadline", Duration::from_secs(10));
    let allow_rc4 = section.flag("allow_rc4", false);
    section.finish();
    Some(Some(Kerberos {
        principal: principal?,
        keytab: keytab?,
        kdcs,
        threads,
        queue,
        deadline,
        allow_rc4,
        hosts: hosts.clone(),
    }))
}

pub(super) fn pages(section: &Section<'_>) -> Pages {
    let pages = Pages {
        organization: section
            .text("organization")
            .unwrap_or_else(|| String::from("Kerbgate")),
        support: section.text("support"),
        accent: section.text("accent"),
        logo: section.path("logo"),
    };
    section.finish();
    pages
}

pub(super) fn log(section: &Section<'_>) -> Log {
    let traces: Option<Url> = section.parsed(
        "traces",
        "an OTLP address such as \"http://127.0.0.1:4318/v1/traces\"",
    );
    let percent = section.number("traces_percent", 0..=100, 100);
    let log = Log {
        filter: section
            .text("filter")
            .unwrap_or_else(|| String::from("info")),
        file: section.path("file"),
        access: section
            .choice(
                "access",
                &[("json", Format::Json), ("combined", Format::Combined)],
            )
            .unwrap_or_default(),
        traces: traces.map(|endpoint| Collector {
            endpoint: endpoint.to_string(),
            percent: u8::try_from(percent).unwrap_or(100),
        }),
    };
    section.finish();
    log
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
