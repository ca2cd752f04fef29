//! The configuration of a gateway in front of the lab's world, for the demo and for tests alike.
//!
//! In: what the lab is. Out: `kerbgate.toml`, one file an application, and the client secret, in a
//! folder of the gateway's own.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::facts::Facts;

/// The published applications of the demo: file, name, sign-on.
pub const APPS: [(&str, &str, &str); 3] = [
    ("intranet", "Intranet", "kerberos"),
    ("timesheet", "Timesheet", "kerberos-rbcd"),
    ("wiki", "Wiki", "headers"),
];

pub const TENANT: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
pub const CLIENT: &str = "cccccccc-0000-4000-8000-00000000000c";
pub const CLIENT_SECRET: &str = "lab-client-secret-not-for-production";

/// What a gateway is placed between.
pub struct World<'a> {
    pub facts: &'a Facts,
    /// Where the gateway listens; its port is in every published URL.
    pub listen: SocketAddr,
    /// Where the Entra emulator is on `entra.localhost`.
    pub entra_port: u16,
}

impl World<'_> {
    pub fn sign_in_url(&self) -> String {
        format!("https://login.localhost:{}/", self.listen.port())
    }

    pub fn app_url(&self, id: &str) -> String {
        format!("https://{id}.localhost:{}/", self.listen.port())
    }
}

/// The emulator's v2 issuer.
pub fn issuer(entra_port: u16) -> String {
    format!("https://entra.localhost:{entra_port}/{TENANT}/v2.0")
}

/// Writes everything a gateway needs below `root`; `root/kerbgate.toml` is the boot file.
pub fn write(root: &Path, world: &World<'_>) -> io::Result<()> {
    fs::create_dir_all(root.join("apps"))?;
    fs::create_dir_all(root.join("state"))?;
    // Kerbgate refuses to keep keys, or to read a secret, where others may look.
    fs::set_permissions(root.join("state"), fs::Permissions::from_mode(0o700))?;
    fs::write(root.join("client-secret"), CLIENT_SECRET)?;
    fs::set_permissions(
        root.join("client-secret"),
        fs::Permissions::from_mode(0o600),
    )?;
    fs::write(root.join("kerbgate.toml"), boot_file(world))?;
    for (id, _, _) in APPS {
        fs::write(
            root.join("apps").join(format!("{id}.toml")),
            application(id, world),
        )?;
    }
    Ok(())
}

/// The boot file.
pub fn boot_file(world: &World<'_>) -> String {
    let facts = world.facts;
    let base = &facts.base_dn;
    let entra = world.entra_port;
    let filled = BOOT_FILE
        .replace("@SIGN_IN@", &world.sign_in_url())
        .replace("@LISTEN@", &world.listen.to_string())
        .replace("@CHAIN@", &facts.gateway_certificate.to_string_lossy())
        .replace("@KEY@", &facts.gateway_key.to_string_lossy())
        .replace("@TENANT@", TENANT)
        .replace("@CLIENT@", CLIENT)
        .replace("@ENTRA@", &format!("https://entra.localhost:{entra}"))
        .replace("@CA@", &facts.ca.to_string_lossy());
    filled
        .replace("@REALM@", &facts.realm)
        .replace("@BASE@", base)
        .replace("@DC@", &facts.dc)
        .replace("@KEYTAB@", &facts.keytabs.gateway.to_string_lossy())
        .replace("@ADDRESS@", &facts.address.to_string())
}

/// One application's file. `refusing` and `undelegated` exist for tests.
pub fn application(id: &str, world: &World<'_>) -> String {
    let backends = &world.facts.backends;
    let backend = match id {
        "intranet" => backends.intranet,
        "timesheet" => backends.timesheet,
        "refusing" => backends.refusing,
        "undelegated" => backends.undelegated,
        _ => backends.wiki,
    };
    let kerberos = format!("[sso.kerberos]\nspn = \"HTTP/{id}.contoso.test\"\n");
    let sso = match id {
        "wiki" => HEADERS.to_owned(),
        // Its backend takes the person from the connection. Without a token in each request, a
        // connection used for two people shows at once.
        "timesheet" => format!("{kerberos}send = \"on-challenge\"\n"),
        _ => kerberos,
    };
    let role = match id {
        "timesheet" => "Timesheet.User",
        "wiki" => "Wiki.User",
        _ => "Intranet.User",
    };
    let (first, rest) = id.split_at(1);
    let url = world.app_url(id);
    let port = backend.port();
    format!(
        r#"name = "{}{rest}"
published_url = "{url}"
backend_urls = ["http://{id}.contoso.test:{port}/"]

[access]
guests = "provision"
allow = [
    {{ role = "{role}" }},
    {{ group = "99999999-0000-4000-8000-000000000001" }},
    {{ kind = "employee" }},
]

{sso}"#,
        first.to_uppercase()
    )
}

const BOOT_FILE: &str = r#"# Written by the lab; config/kerbgate.toml explains every key.
[gateway]
sign_in_url = "@SIGN_IN@"
applications = "apps"
state_dir = "state"

[listener]
https = ["@LISTEN@"]
ops = "127.0.0.1:0"

[[listener.certificates]]
chain = "@CHAIN@"
key = "@KEY@"

[issuer]
tenant = "@TENANT@"
client_id = "@CLIENT@"
client_secret_file = "client-secret"
authority = "@ENTRA@/@TENANT@"
issuer = "@ENTRA@/@TENANT@/v2.0"
issuer_v1 = "@ENTRA@/sts/@TENANT@/"
graph = "@ENTRA@/graph/v1.0"
ca_file = "@CA@"

[directory]
realm = "@REALM@"
base_dn = "@BASE@"
servers = ["@DC@"]
ca_file = "@CA@"
bind = "kerberos"

[mapping]
account_bases = ["OU=Guests,@BASE@", "OU=Staff,@BASE@", "OU=Partners,@BASE@"]
guests_ou = "OU=Guests,@BASE@"
disabled_ou = "OU=Disabled Guests,@BASE@"
groups_ou = "OU=Guest Groups,@BASE@"

[[mapping.groups]]
role = "Intranet.User"
ad_group = "CN=Intranet Users,OU=Guest Groups,@BASE@"

[[mapping.groups]]
role = "Timesheet.User"
ad_group = "CN=Timesheet Users,OU=Guest Groups,@BASE@"

[sync.partners]
bases = ["OU=Partners,@BASE@"]
groups = ["99999999-0000-4000-8000-000000000002"]
[[sync.partners.assign]]
application = "@CLIENT@"
role = "Intranet.User"

[kerberos]
principal = "svc-gateway@@REALM@"
keytab = "@KEYTAB@"
kdcs = ["@DC@"]

[hosts]
"@DC@" = "@ADDRESS@"
"intranet.contoso.test" = "@ADDRESS@"
"timesheet.contoso.test" = "@ADDRESS@"
"refusing.contoso.test" = "@ADDRESS@"
"undelegated.contoso.test" = "@ADDRESS@"
"wiki.contoso.test" = "@ADDRESS@"
"entra.localhost" = "127.0.0.1"

[pages]
organization = "Contoso"
support = "helpdesk@contoso.example"
"#;

const HEADERS: &str = r#"[sso.headers]

[sso.headers.set]
X-Remote-User = "sam"
X-Remote-Name = "display-name"
X-Remote-Email = "email"
X-Remote-Roles = "roles"
"#;
