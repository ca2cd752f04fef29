//! Partners who have an account on premises become guests of the cloud and stay who they are here: `kerbgate sync partners`
//! invites, records, follows and disables them, links nobody by an address alone, and ends in the same state however it was
//! interrupted.

use std::process::Command;
use std::process::Output;
use std::time::Duration;

use http::Method;
use kerbgate::ldap::Attribute;
use kerbgate::ldap::Bind;
use kerbgate::ldap::Change;
use kerbgate::ldap::Directory;
use kerbgate::ldap::Dn;
use kerbgate::ldap::Entry;
use kerbgate::model::secret::Secret;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use crate::directory::dn;
use crate::directory::ldap_settings;
use crate::directory::unique;
use crate::guest_opens_kerberos_app::accounts_of;
use crate::lab::Entra;
use crate::lab::Running;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::lab::gateway::CLIENT;
use crate::lab::kerbgate;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::order;

const PARTNERS: &str = "OU=Partners,DC=contoso,DC=test";
const PASSWORD: &str = "Their.Own.Pass.2026";
const ANCHOR: &str = "msDS-ExternalDirectoryObjectId";

/// A company with a unit of partners of its own.
struct Company {
    stage: Stage,
    entra: Entra,
    ad: Directory,
    unit: Dn,
    group: Uuid,
}

/// A partner's account.
struct Partner {
    sam: String,
    mail: String,
    dn: Dn,
    guid: Uuid,
}

impl Company {
    async fn new(more: &str) -> Self {
        let stage = Stage::new().await;
        let mut settings = ldap_settings(stage.lab);
        settings.bind = Bind::Simple {
            name: String::from("Administrator@contoso.test"),
            password: Secret::new(String::from("Admin.Pass.2026")),
        };
        let ad = Directory::new(settings);
        let unit = dn(PARTNERS).child("OU", &unique("partners-"));
        let class = (
            "objectClass".parse().unwrap(),
            vec![b"organizationalUnit".to_vec()],
        );
        let session = ad.session().await.unwrap();
        session.add(&unit, vec![class]).await.unwrap();
        let group = Uuid::new_v4();
        let boot = "kerbgate.toml";
        let old = "bases = [\"OU=Partners,DC=contoso,DC=test\"]\ngroups = [\"99999999-0000-4000-8000-000000000002\"]";
        stage.replace(
            boot,
            old,
            &format!("bases = [\"{unit}\"]\ngroups = [\"{group}\"]\n{more}"),
        );
        stage.append(boot, "[log]\nfile = \"audit.log\"\n");
        let entra = stage.entra(&[]).await;
        order(
            &entra,
            &format!("/groups/{group}"),
            json!({"name": "Partners here"}),
        )
        .await;
        Self {
            stage,
            entra,
            ad,
            unit,
            group,
        }
    }

    /// An account with a password of its own.
    async fn partner(&self, name: &str, more: &[(&str, &str)]) -> Partner {
        let sam = unique(&format!("{name}-"));
        let sam: String = sam.chars().take(20).collect();
        let mail = format!("{sam}@fabrikam.example");
        let dn = self.unit.child("CN", &sam);
        let secret: Vec<u8> = format!("\"{PASSWORD}\"")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let upn = format!("{sam}@contoso.test");
        let display = format!("{name} Partner");
        let mut all = vec![
            ("objectClass", b"user".to_vec()),
            ("sAMAccountName", sam.clone().into_bytes()),
            ("userPrincipalName", upn.into_bytes()),
            ("userAccountControl", b"66048".to_vec()),
            ("unicodePwd", secret),
        ];
        let usual = [
            ("displayName", display.as_str()),
            ("givenName", name),
            ("sn", "Partner"),
            ("company", "Fabrikam"),
            ("mail", mail.as_str()),
        ];
        let told = |key: &str| more.iter().any(|(name, _)| *name == key);
        let usual = usual.into_iter().filter(|(key, _)| !told(key));
        let more = more.iter().copied().filter(|(_, value)| !value.is_empty());
        for (key, value) in usual.chain(more) {
            all.push((key, value.as_bytes().to_vec()));
        }
        let attributes: Vec<(Attribute, Vec<Vec<u8>>)> = all
            .into_iter()
            .map(|(key, value)| (key.parse().unwrap(), vec![value]))
            .collect();
        let session = self.ad.session().await.unwrap();
        session.add(&dn, attributes).await.unwrap();
        let made = session.read(&dn, &["objectGUID"]).await.unwrap().unwrap();
        Partner {
            guid: made.guid("objectGUID").unwrap(),
            sam,
            mail,
            dn,
        }
    }

    async fn crowd(&self, count: usize) -> Vec<Partner> {
        let mut all = Vec::new();
        for n in 0..count {
            all.push(self.partner(&format!("crowd{n}"), &[]).await);
        }
        all
    }

    async fn write(&self, who: &Dn, attribute: &str, value: &str) {
        let values = if value.is_empty() {
            Vec::new()
        } else {
            vec![value.as_bytes().to_vec()]
        };
        let change = Change::Replace(attribute.parse().unwrap(), values);
        let session = self.ad.session().await.unwrap();
        session.modify(who, vec![change]).await.unwrap();
    }

    async fn entry(&self, who: &Dn) -> Entry {
        let wanted = [
            ANCHOR,
            "userAccountControl",
            "uSNChanged",
            "objectSid",
            "displayName",
        ];
        let session = self.ad.session().await.unwrap();
        session.read(who, &wanted).await.unwrap().unwrap()
    }

    async fn anchor(&self, partner: &Partner) -> Option<String> {
        self.entry(&partner.dn)
            .await
            .text(ANCHOR)
            .map(str::to_owned)
    }

    /// Somebody in the cloud, by address or object id.
    async fn cloud(&self, name: &str) -> Option<Value> {
        let all = self.entra.control(Method::GET, "/people", json!({})).await;
        let is = |one: &&Value| one["login"] == name || one["oid"] == name;
        all.as_array().unwrap().iter().find(is).cloned()
    }

    /// How many in the cloud have the partner's address.
    async fn count(&self, partner: &Partner) -> usize {
        let all = self.entra.control(Method::GET, "/people", json!({})).await;
        let all = all.as_array().unwrap().iter();
        all.filter(|one| one["mail"] == partner.mail.as_str())
            .count()
    }

    async fn invitations(&self, address: &str) -> usize {
        let all = self
            .entra
            .control(Method::GET, "/invitations", json!({}))
            .await;
        let all = all.as_array().unwrap().iter();
        all.filter(|one| one["invitedUserEmailAddress"] == address)
            .count()
    }

    async fn change(&self, name: &str, change: Value) {
        order(&self.entra, &format!("/people/{name}"), change).await;
    }

    fn record(partner: &Partner) -> String {
        format!("kerbgate CONTOSO.TEST {}", partner.guid)
    }

    /// Both sides name each other.
    async fn linked(&self, partner: &Partner) -> Value {
        let person = self.cloud(&partner.mail).await.expect("in the cloud");
        let oid = person["oid"].as_str().unwrap();
        assert_eq!(self.anchor(partner).await, Some(format!("User_{oid}")));
        assert_eq!(record_of(&person), Self::record(partner));
        assert_eq!(self.count(partner).await, 1);
        person
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = kerbgate();
        let arguments = arguments.iter().map(|argument| {
            if argument.ends_with(".json") {
                self.stage.path(argument).display().to_string()
            } else {
                (*argument).to_owned()
            }
        });
        command
            .arg("sync")
            .args(arguments)
            .arg("--config")
            .arg(self.stage.path("kerbgate.toml"))
            .env("USER", "anna.admin")
            .env_remove("SUDO_USER")
            .stdin(std::process::Stdio::null());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let command = self.command(arguments);
        tokio::process::Command::from(command)
            .output()
            .await
            .unwrap()
    }

    /// What `sync partners` wrote, answer and complaints; it must have ended with `code`.
    async fn sync(&self, arguments: &[&str], code: i32) -> String {
        let all: Vec<&str> = ["partners"].iter().chain(arguments).copied().collect();
        let done = self.run(&all).await;
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    async fn plan(&self) -> Value {
        let done = self.run(&["partners", "plan", "--json"]).await;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(0), "{said}");
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// `do why` of each step.
    async fn planned(&self) -> Vec<String> {
        lines(&self.plan().await)
    }

    /// Applies what is planned now; it must be `expected`, and nothing may be left to do.
    async fn follows(&self, expected: &[&str]) {
        assert_eq!(self.planned().await, expected);
        self.sync(&["apply", "--yes"], 0).await;
        assert_eq!(self.planned().await, [""; 0], "done once is done");
    }

    /// Nothing is done for the partner, somebody has to decide, and `why` is told.
    async fn wants_a_decision(&self, why: &str) {
        let plan = self.plan().await;
        assert_eq!(lines(&plan), [""; 0], "{plan}");
        let left = plan["left_alone"].as_array().unwrap();
        let fits = |one: &&Value| {
            one["needs_decision"] == true && one["why"].as_str().unwrap().contains(why)
        };
        assert!(left.iter().any(|one| fits(&one)), "{why}: {plan}");
        let before = self.everybody().await;
        self.sync(&["apply", "--yes"], 0).await;
        assert_eq!(self.everybody().await, before);
    }

    async fn everybody(&self) -> Value {
        self.entra.control(Method::GET, "/people", json!({})).await
    }

    fn journal(&self) -> String {
        let path = self.stage.path("state/sync/partners/journal.jsonl");
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

fn record_of(person: &Value) -> &str {
    let all = &person["properties"]["onPremisesExtensionAttributes"];
    all["extensionAttribute14"].as_str().unwrap_or_default()
}

fn lines(plan: &Value) -> Vec<String> {
    let steps = plan["steps"].as_array().unwrap();
    let line = |step: &Value| {
        let text = |key: &str| step[key].as_str().unwrap().to_owned();
        format!("{} {}", text("do"), text("why"))
    };
    steps.iter().map(line).collect()
}

#[tokio::test]
async fn the_same_sign_in_for_both() {
    let company = Company::new("").await;
    let pia = company.partner("pia", &[("title", "Auditor")]).await;
    let before = company.everybody().await;

    let table = company.sync(&["plan"], 0).await;
    for part in [
        "invite",
        pia.sam.as_str(),
        pia.mail.as_str(),
        "a partner's account in scope, nobody in the cloud",
        "what Graph cannot do, and Entra Connect does",
        "passwords and their hashes do not go to the cloud",
        "invite 1, join 1",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert_eq!(
        company.planned().await,
        ["invite new", "join not-member", "assign not-assigned"]
    );
    company.sync(&["apply"], 5).await;
    assert_eq!(
        company.everybody().await,
        before,
        "neither a plan nor a question writes"
    );
    assert_eq!(company.anchor(&pia).await, None);

    company.sync(&["apply", "--yes"], 0).await;
    let person = company.linked(&pia).await;
    assert_eq!(company.planned().await, [""; 0], "done once is done");
    assert_eq!(person["guest"], true);
    assert_eq!(person["pending"], true);
    assert_eq!(person["name"], "pia Partner");
    assert_eq!(person["properties"]["jobTitle"], "Auditor");
    assert_eq!(person["properties"]["companyName"], "Fabrikam");
    assert_eq!(person["groups"], json!([company.group]));
    assert_eq!(person["roles"], json!(["Intranet.User"]));
    let sent = company
        .entra
        .control(Method::GET, "/invitations", json!({}))
        .await;
    assert_eq!(sent[0]["sendInvitationMessage"], false);
    assert_eq!(
        sent[0]["inviteRedirectUrl"],
        "https://myapplications.microsoft.com/"
    );

    // In the cloud: accepts the invitation, and the Kerberos application sees the very account.
    let gateway = company.stage.gateway().await;
    let url = gateway.url("intranet", "/echo");
    let mut visitor = Visitor::new(&company.stage.lab.facts.ca, Speaks::Http2);
    let page = visitor.open_as(&pia.mail, &url).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(page.remote_user(), format!("{}@CONTOSO.TEST", pia.sam));
    let oid = person["oid"].as_str().unwrap();
    assert_eq!(
        accounts_of(&company.stage, oid),
        std::slice::from_ref(&pia.sam),
        "no second account"
    );
    assert_eq!(company.cloud(oid).await.unwrap()["pending"], false);
    // On premises: the same account, with its own password.
    let cache = company.stage.path("pia.ccache");
    let mut kinit = company.stage.lab.mit_tool("kinit", &cache);
    kinit.arg(format!("{}@CONTOSO.TEST", pia.sam));
    kinit.stdin(std::process::Stdio::piped());
    kinit.stdout(std::process::Stdio::null());
    let mut kinit = kinit.spawn().unwrap();
    let mut stdin = kinit.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, format!("{PASSWORD}\n").as_bytes()).unwrap();
    drop(stdin);
    assert!(kinit.wait().unwrap().success());
    let audit = std::fs::read_to_string(company.stage.path("audit.log")).unwrap();
    assert!(!audit.contains("account-made"), "{audit}");

    // What guests' synchronization thinks of it: not its business.
    let guests = company.run(&["guests", "plan", "--json"]).await;
    let guests: Value = serde_json::from_slice(&guests.stdout).unwrap();
    let touches = |step: &Value| step["oid"] == oid || step["sam"] == pia.sam.as_str();
    assert!(
        !guests["steps"].as_array().unwrap().iter().any(touches),
        "{guests}"
    );
}
