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
use crate::lab::kerbgate;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::order;

const PARTNERS: &str = "OU=Partner Companies,DC=contoso,DC=test";
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
        stage.replace(
            boot,
            "\"OU=Partners,DC=contoso,DC=test\"]\nguests_ou",
            &format!("\"{PARTNERS}\"]\nguests_ou"),
        );
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

#[tokio::test]
async fn nobody_is_linked_by_an_address_alone() {
    let company = Company::new("").await;
    let known = company.partner("known", &[("employeeID", "4711")]).await;
    // A guest of the same address has been in the cloud all along.
    let more = json!({"login": known.mail, "like": "jane@fabrikam.example"});
    let oid = order(&company.entra, "/people", more).await["oid"].clone();
    let oid = oid.as_str().unwrap();
    company
        .wants_a_decision("nothing else says that it is the same person")
        .await;
    assert_eq!(company.anchor(&known).await, None);
    // The same employee id is a second fact; another one is none.
    let number = |number: &str| json!({"properties": {"employeeId": number}});
    company.change(&known.mail, number("4712")).await;
    company.wants_a_decision("nothing else says").await;
    company.change(&known.mail, number("4711")).await;
    assert_eq!(company.planned().await[0], "link same-employee");
    company.sync(&["apply", "--yes"], 0).await;
    let person = company.linked(&known).await;
    assert_eq!(person["oid"], oid);
    assert_eq!(company.invitations(&known.mail).await, 0);
    assert_eq!(company.planned().await, [""; 0]);

    // What Entra Connect once recorded is one, too.
    let before = company.partner("before", &[]).await;
    let immutable = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        before.guid.to_bytes_le(),
    );
    let more = json!({
        "login": before.mail, "like": "jane@fabrikam.example",
        "properties": {"onPremisesImmutableId": immutable},
    });
    order(&company.entra, "/people", more).await;
    assert_eq!(company.planned().await[0], "link same-object");
    company.sync(&["apply", "--yes"], 0).await;
    company.linked(&before).await;

    // Somebody has decided: the anchor says so beside the address.
    let chosen = company.partner("chosen", &[]).await;
    let more = json!({"login": chosen.mail, "like": "jane@fabrikam.example"});
    let oid = order(&company.entra, "/people", more).await["oid"].clone();
    let word = format!("User_{}", oid.as_str().unwrap());
    company
        .wants_a_decision(&format!("write {word} into {ANCHOR}"))
        .await;
    company.write(&chosen.dn, ANCHOR, &word).await;
    assert_eq!(company.planned().await[0], "link unfinished");
    company.sync(&["apply", "--yes"], 0).await;
    company.linked(&chosen).await;

    // Two accounts of one address, and a person who has a shadow account here.
    let twin = company.partner("twin", &[]).await;
    let other = company.partner("other", &[("mail", &twin.mail)]).await;
    company
        .wants_a_decision("several accounts in scope have the address")
        .await;
    assert_eq!(company.count(&twin).await, 0);
    company.write(&other.dn, "mail", "").await;
    company
        .write(&other.dn, "userAccountControl", "66050")
        .await;
    company
        .follows(&["invite new", "join not-member", "assign not-assigned"])
        .await;
    company.linked(&twin).await;
    company
        .write(&other.dn, ANCHOR, &company.anchor(&twin).await.unwrap())
        .await;
    company
        .wants_a_decision("two accounts are anchored to this person")
        .await;
}

#[tokio::test]
async fn who_leaves_here_is_out_there_and_returns_as_the_same() {
    let company = Company::new("").await;
    let pia = company.partner("pia", &[]).await;
    let stays = company.partner("stays", &[]).await;
    company.sync(&["apply", "--yes"], 0).await;
    let first = company.linked(&pia).await;
    let oid = first["oid"].as_str().unwrap();
    let out = async |why: &str| {
        company.follows(&[&format!("disable {why}")]).await;
        let person = company.cloud(oid).await.unwrap();
        assert_eq!(person["enabled"], false);
        assert!(record_of(&person).contains(why), "{person}");
    };
    let back = async || {
        company.follows(&["enable back"]).await;
        let person = company.linked(&pia).await;
        assert_eq!(
            (&person["oid"], &person["enabled"]),
            (&json!(oid), &json!(true))
        );
    };
    company.write(&pia.dn, "userAccountControl", "66050").await;
    out("disabled-on-premises").await;
    company.write(&pia.dn, "userAccountControl", "66048").await;
    back().await;
    company
        .write(&pia.dn, "accountExpires", "132000000000000000")
        .await;
    out("disabled-on-premises").await;
    company.write(&pia.dn, "accountExpires", "0").await;
    back().await;
    // Out of the chosen units, and at last away.
    let session = company.ad.session().await.unwrap();
    session.move_below(&pia.dn, &dn(PARTNERS)).await.unwrap();
    out("left-scope").await;
    let lies = dn(PARTNERS).child("CN", &pia.sam);
    session.move_below(&lies, &company.unit).await.unwrap();
    back().await;

    // Disabled there by somebody: stays so, and is not deleted for it.
    company.change(oid, json!({"enabled": false})).await;
    assert_eq!(company.planned().await, [""; 0]);
    company.write(&pia.dn, "userAccountControl", "66050").await;
    assert_eq!(company.planned().await, [""; 0]);
    company.change(oid, json!({"enabled": true})).await;
    out("disabled-on-premises").await;

    // Rested for 30 days: into the recycle bin. A day less: not.
    let rests = |days: i64| {
        let then = time::OffsetDateTime::now_utc() - time::Duration::days(days);
        let format = time::format_description::well_known::Rfc3339;
        let record = format!(
            "{} disabled {} gone",
            Company::record(&pia),
            then.format(&format).unwrap()
        );
        json!({"properties": {"onPremisesExtensionAttributes": {"extensionAttribute14": record}}})
    };
    company.change(oid, rests(29)).await;
    assert_eq!(company.planned().await, [""; 0]);
    company.change(oid, rests(30)).await;
    company.follows(&["delete rest-over"]).await;
    assert!(company.cloud(oid).await.is_none());
    // And back from there, as the same.
    company.write(&pia.dn, "userAccountControl", "66048").await;
    // (What they were in came back with them: Graph says so, and that is no failure.)
    company
        .follows(&[
            "undelete back",
            "enable back",
            "join not-member",
            "assign not-assigned",
        ])
        .await;
    assert_eq!(company.linked(&pia).await["oid"], oid);

    session.delete(&pia.dn).await.unwrap();
    out("gone").await;
    let person = company.linked(&stays).await;
    assert_eq!(person["enabled"], true, "nobody else was touched");
}

#[tokio::test]
async fn an_account_that_another_controller_may_have_is_not_gone() {
    let company = Company::new("").await;
    let pia = company.partner("pia", &[]).await;
    company.sync(&["apply", "--yes"], 0).await;
    let session = company.ad.session().await.unwrap();
    session.delete(&pia.dn).await.unwrap();
    // A second controller, which nobody can ask: this one may not have heard of the account yet.
    let boot = "kerbgate.toml";
    let dc = company.stage.lab.facts.dc.clone();
    company.stage.replace(
        boot,
        &format!("servers = [\"{dc}\"]"),
        &format!("servers = [\"{dc}\", \"dc9.contoso.test\"]"),
    );
    company.stage.replace(
        boot,
        "[hosts]\n",
        "[hosts]\n\"dc9.contoso.test\" = \"127.53.9.9\"\n",
    );
    let plan = company.plan().await;
    assert_eq!(lines(&plan), [""; 0], "{plan}");
    let why = plan["left_alone"][0]["why"].as_str().unwrap();
    assert!(why.contains("dc9.contoso.test cannot be asked"), "{why}");
    // After a day it would have: then the account is gone.
    let old = json!({"properties": {"createdDateTime": "2026-01-01T00:00:00Z"}});
    company.change(&pia.mail, old).await;
    assert_eq!(company.planned().await, ["disable gone"]);
}

#[tokio::test]
async fn whom_somebody_else_shuts_out_meanwhile_stays_out() {
    let company = Company::new("").await;
    let mut both = company.crowd(2).await;
    company.sync(&["apply", "--yes"], 0).await;
    // In the order in which a run takes them.
    both.sort_by_key(|partner| partner.guid);
    let (first, second) = (&both[0], &both[1]);
    for partner in &both {
        company
            .write(&partner.dn, "userAccountControl", "66050")
            .await;
    }
    let patch = "PATCH /graph/v1.0/users/";
    let slow = json!({"endpoint": "graph", "kind": "slow", "only": patch, "ms": 3000});
    order(&company.entra, "/faults", slow).await;
    let before = company.journal().matches("\"event\":\"before\"").count();
    let log = company.stage.path("slow.log");
    let mut run = Running::start(
        "apply",
        &company.command(&["partners", "apply", "--yes"]),
        log,
    );
    eventually("the first is under way", async || {
        company.journal().matches("\"event\":\"before\"").count() > before
    })
    .await;
    company
        .change(&second.mail, json!({"enabled": false}))
        .await;
    run.ended(Duration::from_secs(60)).await;
    let person = company.cloud(&first.mail).await.unwrap();
    assert!(record_of(&person).contains("disabled"), "{person}");
    let person = company.cloud(&second.mail).await.unwrap();
    assert_eq!(
        record_of(&person),
        Company::record(second),
        "not by our word"
    );
    for partner in &both {
        company
            .write(&partner.dn, "userAccountControl", "66048")
            .await;
    }
    company.follows(&["enable back"]).await;
    let person = company.cloud(&second.mail).await.unwrap();
    assert_eq!(person["enabled"], false, "{person}");
}

#[tokio::test]
async fn a_run_that_is_killed_anywhere_is_finished_by_the_next() {
    let company = Company::new("").await;
    let users = "PATCH /graph/v1.0/users/";
    let writes = [
        "POST /graph/v1.0/invitations",
        users,
        "POST /graph/v1.0/groups/",
        "POST /graph/v1.0/servicePrincipals/",
    ];
    let cut_off = async |arguments: &[&str], only: &str, kind: &str| {
        let fault = json!({"endpoint": "graph", "kind": kind, "only": only});
        order(&company.entra, "/faults", fault).await;
        let log = company.stage.path("killed.log");
        let all: Vec<&str> = ["partners"].iter().chain(arguments).copied().collect();
        let mut run = Running::start("apply", &company.command(&all), log);
        eventually("the request is there", async || {
            company
                .entra
                .control(Method::GET, "/faults", json!({}))
                .await["left"]
                == 0
        })
        .await;
        // Not before it is done, where it is to be done.
        company.everybody().await;
        run.signal("KILL");
        run.ended(Duration::from_secs(10)).await;
    };
    let mut everybody = Vec::new();
    for only in writes {
        // Before it is done, and after it is done and before anybody has heard of it.
        for kind in ["hang", "mute"] {
            let one = company.partner("cut", &[]).await;
            cut_off(&["apply", "--yes"], only, kind).await;
            let said = company.sync(&["plan"], 0).await;
            assert!(
                said.contains("the last run was cut off at: "),
                "{only} {kind}: {said}"
            );
            company.sync(&["apply", "--yes"], 0).await;
            assert_eq!(company.planned().await, [""; 0], "{only} {kind}");
            let person = company.linked(&one).await;
            assert_eq!(company.invitations(&one.mail).await, 1, "{only} {kind}");
            assert_eq!(person["groups"], json!([company.group]));
            assert_eq!(person["roles"], json!(["Intranet.User"]));
            everybody.push(one);
        }
    }
    // An approved plan that was cut off is still that plan.
    let one = company.partner("approved", &[]).await;
    company.sync(&["plan", "--save", "plan.json"], 0).await;
    for (only, kind) in [
        (writes[0], "mute"),
        (users, "hang"),
        (users, "mute"),
        (writes[2], "mute"),
    ] {
        cut_off(&["apply", "plan.json"], only, kind).await;
    }
    company.sync(&["apply", "plan.json"], 0).await;
    company.linked(&one).await;
    assert_eq!(company.invitations(&one.mail).await, 1);
    assert_eq!(company.planned().await, [""; 0]);
    // On the way out and back.
    let oid = company.linked(&one).await["oid"].clone();
    for (control, enabled) in [("66050", false), ("66048", true)] {
        for kind in ["hang", "mute"] {
            company.write(&one.dn, "userAccountControl", control).await;
            cut_off(&["apply", "--yes"], users, kind).await;
            company.sync(&["apply", "--yes"], 0).await;
            let person = company.cloud(oid.as_str().unwrap()).await.unwrap();
            assert_eq!(person["enabled"], enabled, "{kind}");
            assert_eq!(company.planned().await, [""; 0]);
            // For the second kind: the other way round first.
            if kind == "hang" {
                let other = if enabled { "66050" } else { "66048" };
                company.write(&one.dn, "userAccountControl", other).await;
                company.sync(&["apply", "--yes"], 0).await;
            }
        }
    }
    let ended = company.journal();
    assert!(ended.contains("\"event\":\"made\""), "{ended}");
}

#[tokio::test]
async fn what_graph_answers_to_a_write_is_taken_at_its_word() {
    let company = Company::new("").await;
    let pia = company.partner("pia", &[]).await;
    let fault = async |kind: &str, only: &str, more: Value| {
        let mut fault = json!({"endpoint": "graph", "kind": kind, "only": only});
        fault
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        order(&company.entra, "/faults", fault).await;
    };
    let roles = async |roles: &[&str]| {
        order(&company.entra, "/settings", json!({"graph_roles": roles})).await;
    };
    let reads = [
        "User.Read.All",
        "GroupMember.Read.All",
        "Application.Read.All",
    ];
    // Looking needs no right to write; writing names the one that is missing.
    roles(&reads).await;
    assert_eq!(company.planned().await.len(), 3);
    for (given, missing) in [
        (vec![], "User.Invite.All"),
        (vec!["User.Invite.All"], "User.ReadWrite.All"),
        (
            vec!["User.Invite.All", "User.ReadWrite.All"],
            "GroupMember.ReadWrite.All",
        ),
    ] {
        roles(&[reads.as_slice(), given.as_slice()].concat()).await;
        let said = company.sync(&["apply", "--yes"], 1).await;
        assert!(
            said.contains(&format!("application permission {missing}")),
            "{said}"
        );
    }
    let all = [
        "User.Invite.All",
        "User.ReadWrite.All",
        "GroupMember.ReadWrite.All",
        "AppRoleAssignment.ReadWrite.All",
    ];
    roles(&[reads.as_slice(), all.as_slice()].concat()).await;
    company.sync(&["apply", "--yes"], 0).await;
    company.linked(&pia).await;
    assert_eq!(company.invitations(&pia.mail).await, 1);

    // Throttled: waits for as long as it was told, and does it once.
    let next = company.partner("next", &[]).await;
    fault(
        "throttle",
        "POST /graph/v1.0/invitations",
        json!({"retry_after": 1, "count": 2}),
    )
    .await;
    fault("throttle", "PATCH ", json!({"retry_after": 1})).await;
    company.sync(&["apply", "--yes"], 0).await;
    company.linked(&next).await;
    assert_eq!(company.invitations(&next.mail).await, 1);
    // Not every part of Graph knows at once who was made a moment ago.
    let soon = company.partner("soon", &[("displayName", "")]).await;
    let missing = json!({"status": 404});
    for only in [
        "GET /graph/v1.0/users/",
        "PATCH ",
        "POST /graph/v1.0/groups/",
    ] {
        fault("status", only, missing.clone()).await;
    }
    company.sync(&["apply", "--yes"], 0).await;
    assert_eq!(company.linked(&soon).await["name"], soon.sam);
    assert_eq!(
        company.planned().await,
        [""; 0],
        "a name is kept where there is none here"
    );
    // No answer to an invitation: not sent again, whatever became of it. The next run knows.
    for kind in ["lost", "close"] {
        let one = company.partner(kind, &[]).await;
        fault(kind, "POST /graph/v1.0/invitations", json!({})).await;
        company.sync(&["apply", "--yes"], 1).await;
        let sent = usize::from(kind == "lost");
        assert_eq!(company.invitations(&one.mail).await, sent);
        company.sync(&["apply", "--yes"], 0).await;
        company.linked(&one).await;
        assert_eq!(company.invitations(&one.mail).await, 1);
    }
    // A change may be sent again.
    company.write(&pia.dn, "displayName", "Pia Renamed").await;
    fault("lost", "PATCH ", json!({})).await;
    company.follows(&["update changed"]).await;
    assert_eq!(company.linked(&pia).await["name"], "Pia Renamed");
    // Half a world is no world.
    company.partner("late", &[]).await;
    let before = company.everybody().await;
    for only in [
        "users",
        "directory/deletedItems",
        "groups",
        "servicePrincipals",
    ] {
        let only = format!("GET /graph/v1.0/{only}");
        fault("status", &only, json!({"status": 403})).await;
        company.sync(&["apply", "--yes"], 1).await;
        fault("garbage", &only, json!({})).await;
        company.sync(&["apply", "--yes"], 1).await;
        assert_eq!(company.everybody().await, before, "{only}");
    }
    company.sync(&["apply", "--yes"], 0).await;
}

#[tokio::test]
async fn an_anchor_that_its_owner_wrote_makes_nobody_theirs() {
    let company = Company::new("internal = \"convert\"\n").await;
    let eve = company.partner("eve", &[]).await;
    company.sync(&["apply", "--yes"], 0).await;
    let mallory = company.partner("mallory", &[]).await;
    // The domain lets people write this attribute of their own account: it belongs to Personal-Information.
    let mut settings = ldap_settings(company.stage.lab);
    settings.bind = Bind::Simple {
        name: format!("{}@contoso.test", mallory.sam),
        password: Secret::new(PASSWORD.to_owned()),
    };
    let own = Directory::new(settings);
    let session = own.session().await.unwrap();
    let write = async |oid: &str| {
        let value = format!("User_{oid}").into_bytes();
        let change = Change::Replace(ANCHOR.parse().unwrap(), vec![value]);
        session.modify(&mallory.dn, vec![change]).await.unwrap();
    };
    // An internal account of the cloud, which a conversion would hand over; a guest; a partner who is linked.
    let boss = json!({"login": unique("boss-"), "like": "jane@fabrikam.example", "origin": "own", "guest": false});
    let boss = order(&company.entra, "/people", boss).await["oid"].clone();
    // Nobody whom another test gives an account.
    let jill = json!({"login": unique("jill-"), "like": "jane@fabrikam.example"});
    let jill = order(&company.entra, "/people", jill).await["oid"].clone();
    for victim in [&boss, &jill] {
        write(victim.as_str().unwrap()).await;
        company
            .wants_a_decision("who has another address and no record")
            .await;
    }
    let linked = company.linked(&eve).await["oid"].clone();
    write(linked.as_str().unwrap()).await;
    company
        .wants_a_decision("two accounts are anchored to this person")
        .await;
    assert_eq!(
        record_of(&company.cloud(&eve.mail).await.unwrap()),
        Company::record(&eve)
    );
}

#[tokio::test]
async fn a_catastrophe_is_not_believed() {
    let company = Company::new("filter = \"(company=Fabrikam)\"\n").await;
    let crowd = company.crowd(7).await;
    company.sync(&["apply", "--yes"], 0).await;
    let whole = company.everybody().await;
    let stopped = async |why: &str| {
        let said = company.sync(&["apply", "--yes"], 3).await;
        assert!(said.contains(why), "{said}");
        assert_eq!(
            company.everybody().await,
            whole,
            "{why}: nothing was written"
        );
        said
    };
    // The directory answers, and nobody is there: a filter with a slip in it.
    let right = "filter = \"(company=Fabrikam)\"";
    company
        .stage
        .replace("kerbgate.toml", right, "filter = \"(company=Fabrikam2)\"");
    stopped("the directory told of no account in scope").await;
    company
        .stage
        .replace("kerbgate.toml", "filter = \"(company=Fabrikam2)\"", right);
    assert_eq!(company.planned().await, [""; 0]);
    for partner in &crowd[1..] {
        company
            .write(&partner.dn, "userAccountControl", "66050")
            .await;
    }
    let said = stopped("remove 6 of 7 accounts in use").await;
    assert!(said.contains("--accept-removals 6"), "{said}");
    for wrong in ["5", "7", "0"] {
        company
            .sync(&["apply", "--yes", "--accept-removals", wrong], 3)
            .await;
        assert_eq!(company.everybody().await, whole, "{wrong}");
    }
    // A plan for another world is refused with the difference.
    company.sync(&["plan", "--save", "plan.json"], 0).await;
    company
        .write(&crowd[1].dn, "userAccountControl", "66048")
        .await;
    let said = company
        .sync(&["apply", "plan.json", "--accept-removals", "6"], 4)
        .await;
    assert!(
        said.contains("in the plan, not needed now: disable crowd1"),
        "{said}"
    );
    company
        .write(&crowd[1].dn, "userAccountControl", "66050")
        .await;
    company
        .sync(&["apply", "plan.json", "--accept-removals", "6"], 0)
        .await;
    assert_eq!(company.linked(&crowd[0]).await["enabled"], true);
    assert_eq!(
        company.cloud(&crowd[6].mail).await.unwrap()["enabled"],
        false
    );
    // A plan of guests is none of partners.
    company
        .run(&["guests", "plan", "--save", "guests.json"])
        .await;
    let said = company.sync(&["apply", "guests.json"], 1).await;
    assert!(said.contains("guests.json"), "{said}");
}

#[tokio::test]
async fn an_internal_account_becomes_an_invited_one_only_when_that_is_wanted() {
    let more = "sign_in = \"userPrincipalName\"\ninternal = \"leave\"\n\
                attributes = [\"displayName\", \"title\", \"employeeID\"]\n\
                [[sync.partners.user_types]]\nattribute = \"employeeType\"\nvalue = \"staff\"\nuser_type = \"member\"\n";
    let company = Company::new(more).await;
    let name = unique("ida-");
    let upn = format!("{name}@contoso.test");
    let hostile: String = "Zoë \"q\" #1,+<b>;\\=*)(uid=*\u{202e}\u{1b}[2J\r\n${x} 田中 😀 "
        .chars()
        .cycle()
        .take(250)
        .collect();
    let ida = company
        .partner(
            "ida",
            &[
                ("employeeID", "E-1"),
                ("employeeType", "Staff"),
                ("displayName", &hostile),
            ],
        )
        .await;
    company.write(&ida.dn, "userPrincipalName", &upn).await;
    let own = json!({
        "login": upn, "like": "jane@fabrikam.example", "origin": "own", "guest": false,
        "roles": [], "groups": [], "properties": {"employeeId": "E-1"},
    });
    let oid = order(&company.entra, "/people", own).await["oid"].clone();
    let oid = oid.as_str().unwrap();
    let steps = [
        "link same-employee",
        "update changed",
        "join not-member",
        "assign not-assigned",
    ];
    let table = company.sync(&["plan"], 0).await;
    assert!(
        !table.contains(|c: char| c.is_control() && c != '\n'),
        "{table:?}"
    );
    assert!(!table.contains('\u{202e}'), "{table:?}");
    company.follows(&steps).await;
    let person = company.cloud(oid).await.unwrap();
    assert_eq!(
        (&person["guest"], &person["pending"]),
        (&json!(false), &json!(false))
    );
    assert!(
        person["name"]
            .as_str()
            .unwrap()
            .starts_with("Zoë \"q\" #1,+<b>;\\=*)(uid=*[2J${x}")
    );
    // Wanted: the same person signs in elsewhere from now on.
    company.stage.replace(
        "kerbgate.toml",
        "internal = \"leave\"",
        "internal = \"convert\"",
    );
    company.follows(&["convert internal"]).await;
    let person = company.cloud(oid).await.unwrap();
    assert_eq!(
        (&person["pending"], &person["groups"]),
        (&json!(true), &json!([company.group]))
    );
    assert_eq!(record_of(&person), Company::record(&ida));
    company.write(&ida.dn, "employeeType", "Partner").await;
    company.follows(&["update changed"]).await;
    assert_eq!(company.cloud(oid).await.unwrap()["guest"], true);
    // Privileged accounts go nowhere.
    let admin = company.partner("admin", &[]).await;
    company.write(&admin.dn, "adminCount", "1").await;
    let plan = company.plan().await;
    assert_eq!(lines(&plan), [""; 0]);
    assert!(
        plan["left_alone"].to_string().contains("is privileged"),
        "{plan}"
    );
}

#[tokio::test]
async fn the_gateway_keeps_them_by_itself_and_cuts_off_who_left() {
    let company = Company::new("every = \"10s\"\n").await;
    // Both directions at once: one leaves the other's people alone. Units of its own: other tests have guests, too.
    let unit = unique("beside-");
    let session = company.ad.session().await.unwrap();
    for above in [
        "OU=Guests,DC=contoso,DC=test",
        "OU=Disabled Guests,DC=contoso,DC=test",
    ] {
        let class = (
            "objectClass".parse().unwrap(),
            vec![b"organizationalUnit".to_vec()],
        );
        let made = dn(above).child("OU", &unit);
        session.add(&made, vec![class]).await.unwrap();
    }
    for key in [
        "account_bases = [\"OU=Guests",
        "guests_ou = \"OU=Guests",
        "disabled_ou = \"OU=Disabled",
    ] {
        let ours = key.replace("\"OU=", &format!("\"OU={unit},OU="));
        company.stage.replace("kerbgate.toml", key, &ours);
    }
    let group = company.group;
    company.stage.append(
        "kerbgate.toml",
        &format!("[sync.guests]\nevery = \"10s\"\nscope = \"groups\"\ngroups = [\"{group}\"]\n"),
    );
    let pia = company.partner("pia", &[]).await;
    let gateway = company.stage.gateway().await;
    eventually("invited by itself", async || {
        company.anchor(&pia).await.is_some()
    })
    .await;
    eventually("assigned", async || {
        company
            .cloud(&pia.mail)
            .await
            .is_some_and(|one| one["roles"] == json!(["Intranet.User"]))
    })
    .await;
    let url = gateway.url("intranet", "/echo");
    let mut browser = Visitor::new(&company.stage.lab.facts.ca, Speaks::Http2);
    let page = browser.open_as(&pia.mail, &url).await.unwrap();
    assert_eq!(
        page.remote_user(),
        format!("{}@CONTOSO.TEST", pia.sam),
        "{}",
        page.body
    );
    // Now a guest in the scope of the other direction, redeemed: no second account, no word about the one there is.
    let audit = || std::fs::read_to_string(company.stage.path("audit.log")).unwrap();
    let rounds = audit().matches("sync-done").count();
    let guests = company.run(&["guests", "plan", "--json"]).await;
    let guests: Value = serde_json::from_slice(&guests.stdout).unwrap();
    assert_eq!(guests["steps"], json!([]), "{guests}");
    assert!(
        guests["left_alone"]
            .to_string()
            .contains("lies outside the guests' units"),
        "{guests}"
    );
    let before = company.entry(&pia.dn).await;
    let open = async || browser.clone().open(&url).await.unwrap().status;
    assert_eq!(open().await, 200);
    // Deleted in the cloud: guests' synchronization would disable a shadow account of theirs. This one is none.
    let person = company.cloud(&pia.mail).await.unwrap();
    let oid = person["oid"].as_str().unwrap();
    company
        .entra
        .control(Method::DELETE, &format!("/people/{oid}"), json!({}))
        .await;
    let guests = company.run(&["guests", "apply", "--yes", "--json"]).await;
    let said = String::from_utf8_lossy(&guests.stderr).into_owned();
    assert!(matches!(guests.status.code(), Some(0 | 6)), "{said}");
    let after = company.entry(&pia.dn).await;
    assert_eq!(
        after.values("uSNChanged"),
        before.values("uSNChanged"),
        "nothing was written to it"
    );
    order(&company.entra, &format!("/deleted/{oid}"), json!({})).await;
    // Disabled here: out there, and out of the running session.
    company.write(&pia.dn, "userAccountControl", "66050").await;
    eventually("disabled in the cloud", async || {
        company
            .cloud(oid)
            .await
            .is_some_and(|one| one["enabled"] == false)
    })
    .await;
    eventually("cut off", async || open().await != 200).await;
    eventually("told", async || {
        audit().matches("sync-done").count() > rounds
    })
    .await;
    for part in ["account-linked", "partner-changed", "\"what\":\"partners\""] {
        assert!(audit().contains(part), "{part}: {}", audit());
    }
    assert!(!audit().contains("account-made"), "{}", audit());
}

#[tokio::test]
async fn two_runs_do_not_meet() {
    let company = Company::new("").await;
    let crowd = company.crowd(2).await;
    let fault = json!({"endpoint": "graph", "kind": "slow", "ms": 6000, "only": "POST /graph/v1.0/invitations"});
    order(&company.entra, "/faults", fault).await;
    let log = company.stage.path("first.log");
    let mut first = Running::start(
        "apply",
        &company.command(&["partners", "apply", "--yes"]),
        log,
    );
    eventually("the first is at work", async || {
        !company.journal().is_empty()
    })
    .await;
    let said = company.sync(&["apply", "--yes"], 6).await;
    assert!(said.contains("another run is under way"), "{said}");
    // Looking is free.
    company.sync(&["plan"], 0).await;
    assert!(first.ended(Duration::from_secs(60)).await.success());
    for partner in &crowd {
        company.linked(partner).await;
        assert_eq!(company.invitations(&partner.mail).await, 1);
    }
}

/// With no setting at all, in the demo's domain. Looked at only: the directory is shared with other tests.
#[tokio::test]
async fn the_demos_domain_has_partners_to_synchronize() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    let mut command = kerbgate();
    command
        .args(["sync", "partners", "plan", "--json", "--config"])
        .arg(stage.path("kerbgate.toml"));
    let done = tokio::process::Command::from(command)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let plan: Value = serde_json::from_slice(&done.stdout).unwrap();
    let invited = |sam: &str| {
        let mut steps = plan["steps"].as_array().unwrap().iter();
        steps.any(|step| step["do"] == "invite" && step["account"] == sam)
    };
    for sam in ["petra.partner", "paolo.partner", "pia.partner"] {
        assert!(invited(sam), "{plan}");
    }
    assert!(!invited("pascal.past"), "disabled: {plan}");
}
