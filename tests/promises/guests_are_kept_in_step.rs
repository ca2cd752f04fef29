//! Guests of the cloud are accounts in the directory: `kerbgate sync guests` shows what it would do, does that and nothing else,
//! ends in the same state however it was interrupted, and does not believe what looks like a catastrophe.

use std::process::Output;
use std::time::Duration;

use http::Method;
use kerbgate::ldap::Bind;
use kerbgate::ldap::Change;
use kerbgate::ldap::Directory;
use kerbgate::ldap::Dn;
use kerbgate::ldap::Entry;
use kerbgate::ldap::Filter;
use kerbgate::ldap::Scope;
use kerbgate::ldap::Search;
use kerbgate::mapping::names;
use kerbgate::model::names::PersonId;
use kerbgate::model::secret::Secret;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::directory::GUESTS;
use crate::directory::add_user;
use crate::directory::dn;
use crate::directory::ldap_settings;
use crate::directory::unique;
use crate::guest_opens_kerberos_app::accounts_of;
use crate::lab::Entra;
use crate::lab::Running;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::lab::gateway::TENANT;
use crate::lab::kerbgate;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::order;
use crate::what_happens_can_be_counted::scraped;
use crate::what_happens_can_be_counted::value;

/// The group that is assigned to the application.
const INTRANET_GUESTS: &str = "99999999-0000-4000-8000-000000000001";
const RESTING: &str = "OU=Disabled Guests,DC=contoso,DC=test";

/// A company of its own: two units, a group whose members are its guests.
pub struct Company {
    pub stage: Stage,
    pub entra: Entra,
    pub ad: Directory,
    pub guests: Dn,
    pub rest: Dn,
    pub group: Uuid,
}

pub struct Guest {
    pub login: String,
    pub oid: Uuid,
    pub sam: String,
}

impl Company {
    pub async fn new() -> Self {
        let stage = Stage::new().await;
        let mut settings = ldap_settings(stage.lab);
        settings.bind = Bind::Simple {
            name: String::from("Administrator@contoso.test"),
            password: Secret::new(String::from("Admin.Pass.2026")),
        };
        let ad = Directory::new(settings);
        let unit = unique("sync-");
        let (guests, rest) = (
            dn(GUESTS).child("OU", &unit),
            dn(RESTING).child("OU", &unit),
        );
        let session = ad.session().await.unwrap();
        for unit in [&guests, &rest] {
            let class = (
                "objectClass".parse().unwrap(),
                vec![b"organizationalUnit".to_vec()],
            );
            session.add(unit, vec![class]).await.unwrap();
        }
        let group = Uuid::new_v4();
        let boot = "kerbgate.toml";
        for key in ["account_bases = [\"OU=Guests", "guests_ou = \"OU=Guests"] {
            let ours = key.replace("OU=Guests", &format!("OU={unit},OU=Guests"));
            stage.replace(boot, key, &ours);
        }
        let ours = format!("disabled_ou = \"OU={unit},OU=Disabled");
        stage.replace(boot, "disabled_ou = \"OU=Disabled", &ours);
        let scope = format!("[sync.guests]\nscope = \"groups\"\ngroups = [\"{group}\"]\n");
        stage.append(boot, &format!("{scope}[log]\nfile = \"audit.log\"\n"));
        let entra = stage.entra(&[]).await;
        order(&entra, &format!("/groups/{group}"), json!({"name": unit})).await;
        Self {
            stage,
            entra,
            ad,
            guests,
            rest,
            group,
        }
    }

    /// A guest in the group; `more` as the control API takes it.
    pub async fn guest(&self, name: &str, more: Value) -> Guest {
        let login = format!("{}@fabrikam.example", unique(&format!("{name}-")));
        let mut body = json!({
            "login": login, "like": "jane@fabrikam.example", "name": format!("{name} Guest"),
            "roles": ["Intranet.User"], "groups": [self.group],
        });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let made = order(&self.entra, "/people", body).await;
        let oid: Uuid = made["oid"].as_str().unwrap().parse().unwrap();
        let tid = TENANT.parse().unwrap();
        let sam = names::sam("kg-", PersonId { tid, oid });
        Guest { login, oid, sam }
    }

    async fn crowd(&self, count: usize) -> Vec<Guest> {
        let mut all = Vec::new();
        for n in 0..count {
            all.push(self.guest(&format!("crowd{n}"), json!({})).await);
        }
        all
    }

    pub async fn change(&self, guest: &Guest, change: Value) {
        order(&self.entra, &format!("/people/{}", guest.login), change).await;
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = kerbgate();
        command
            .args(["sync", "guests"])
            .args(arguments.iter().map(|argument| {
                if argument.ends_with(".json") {
                    self.stage.path(argument).display().to_string()
                } else {
                    (*argument).to_owned()
                }
            }))
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

    /// What it wrote, answer and complaints; it must have ended with `code`.
    pub async fn sync(&self, arguments: &[&str], code: i32) -> String {
        let done = self.run(arguments).await;
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    pub async fn plan(&self) -> Value {
        let done = self.run(&["plan", "--json"]).await;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(0), "{said}");
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// `do why` of each step.
    pub async fn planned(&self) -> Vec<String> {
        lines(&self.plan().await)
    }

    /// Applies what is planned now; it must be `expected`, and nothing may be left to do.
    async fn follows(&self, expected: &[&str]) {
        assert_eq!(self.planned().await, expected);
        self.sync(&["apply", "--yes"], 0).await;
        assert_eq!(self.planned().await, [""; 0], "done once is done");
    }

    async fn entry(&self, guest: &Guest, unit: &Dn) -> Option<Entry> {
        let wanted = [
            "userAccountControl",
            "objectSid",
            "memberOf",
            "info",
            "displayName",
            "givenName",
            "sn",
            "mail",
            "userPrincipalName",
            "description",
            "adminDescription",
            "msDS-ExternalDirectoryObjectId",
            "whenChanged",
            "uSNChanged",
            "company",
            "sAMAccountName",
        ];
        let session = self.ad.session().await.unwrap();
        session
            .read(&unit.child("CN", &guest.sam), &wanted)
            .await
            .unwrap()
    }

    /// Everything in both units: name and change number.
    pub async fn state(&self) -> Vec<(String, String)> {
        let session = self.ad.session().await.unwrap();
        let mut all = Vec::new();
        for base in [&self.guests, &self.rest] {
            let search = Search {
                base: base.clone(),
                scope: Scope::Subtree,
                filter: Filter::present(&"objectClass".parse().unwrap()),
                attributes: vec![String::from("uSNChanged")],
                limit: 0,
            };
            let found = session.search(&search).await.unwrap();
            all.extend(found.entries.iter().map(|entry| {
                let number = entry.text("uSNChanged").unwrap_or_default();
                (entry.dn.to_string(), number.to_owned())
            }));
        }
        all.sort();
        all
    }

    pub async fn write(&self, who: &Dn, attribute: &str, value: &str) {
        let session = self.ad.session().await.unwrap();
        let change = Change::Replace(attribute.parse().unwrap(), vec![value.as_bytes().to_vec()]);
        session.modify(who, vec![change]).await.unwrap();
    }

    fn journal(&self) -> String {
        let path = self.stage.path("state/sync/journal.jsonl");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn begun(&self) -> usize {
        self.journal().matches("\"event\":\"before\"").count()
    }

    /// A run that is killed when `steps` steps have been begun.
    async fn killed_at(&self, arguments: &[&str], steps: usize) {
        let before = self.begun();
        let log = self.stage.path("killed.log");
        let mut run = Running::start("apply", &self.command(arguments), log);
        eventually("so many steps are begun", async || {
            self.begun() >= before + steps
        })
        .await;
        run.signal("KILL");
        run.ended(Duration::from_secs(10)).await;
    }
}

pub fn lines(plan: &Value) -> Vec<String> {
    let steps = plan["steps"].as_array().unwrap();
    let line = |step: &Value| {
        format!(
            "{} {}",
            step["do"].as_str().unwrap(),
            step["why"].as_str().unwrap()
        )
    };
    steps.iter().map(line).collect()
}

fn hostile() -> String {
    "Zoë \"q\" #1,+<b>;\\=*)(uid=*\u{202e}\u{1b}[2J\u{9b}\r\n${x} 田中 😀 Щедрый "
        .chars()
        .cycle()
        .take(300)
        .collect()
}

#[tokio::test]
async fn what_the_plan_shows_is_what_apply_makes_and_a_sign_in_uses() {
    let company = Company::new().await;
    let jane = company.guest("jane", json!({"name": "Jane Doe"})).await;
    let eve = company.guest("eve", json!({"name": hostile()})).await;
    let mia = company.guest("mia", json!({"guest": false})).await;
    let _pending = company.guest("petra", json!({"pending": true})).await;
    let _disabled = company.guest("dieter", json!({"enabled": false})).await;
    let _elsewhere = company.guest("otto", json!({"groups": []})).await;
    let own = json!({"origin": "own", "guest": false, "mail": "emma2@contoso.example"});
    let _employee = company.guest("emma", own).await;
    let empty = company.state().await;

    let plan = company.plan().await;
    assert_eq!(lines(&plan), ["create new"; 3]);
    assert_eq!(plan["tenant"], TENANT);
    assert_eq!(plan["removals"], 0);
    let table = company.sync(&["plan"], 0).await;
    for part in [
        "create",
        jane.sam.as_str(),
        "Jane Doe",
        "a guest in scope without an account",
        "create 3",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(
        !table.contains(|c: char| c.is_control() && c != '\n'),
        "{table:?}"
    );
    assert!(!table.contains('\u{202e}'), "{table:?}");
    assert_eq!(company.state().await, empty, "a plan writes nothing");
    company.sync(&["plan", "--save", "hostile.json"], 0).await;
    let kept = std::fs::read_to_string(company.stage.path("hostile.json")).unwrap();
    assert!(
        !kept.contains(|c: char| names::is_hidden(c) && c != '\n'),
        "{kept:?}"
    );
    // Nobody to ask, nobody who said yes.
    company.sync(&["apply"], 5).await;
    assert_eq!(company.state().await, empty);

    company.sync(&["apply", "--yes"], 0).await;
    let made = company.entry(&jane, &company.guests).await.expect("made");
    let anchor = format!("User_{}", jane.oid);
    for (name, value) in [
        ("displayName", "Jane Doe"),
        ("givenName", "Jane"),
        ("sn", "Doe"),
        ("mail", &jane.login),
        ("userAccountControl", "328192"),
        ("msDS-ExternalDirectoryObjectId", &anchor),
        ("adminDescription", &anchor),
    ] {
        assert_eq!(made.text(name), Some(value), "{name}");
    }
    let upn = format!(
        "{}#EXT#@contoso.onmicrosoft.com",
        jane.login.replace('@', "_")
    );
    assert_eq!(made.text("userPrincipalName"), Some(upn.as_str()));
    let hostile = company.entry(&eve, &company.guests).await.expect("made");
    let name = hostile.text("displayName").unwrap();
    assert!(
        name.starts_with("Zoë \"q\" #1,+<b>;\\=*)(uid=*[2J${x} 田中 😀"),
        "{name}"
    );
    assert!(name.encode_utf16().count() <= 256 && name.encode_utf16().count() > 240);
    assert!(
        company.entry(&mia, &company.guests).await.is_some(),
        "an external member"
    );
    assert_eq!(
        company.state().await.len(),
        empty.len() + 3,
        "and nobody else"
    );

    // Again: nothing, not even a write of what is there already.
    let whole = company.state().await;
    assert_eq!(company.planned().await, [""; 0]);
    let said = company.sync(&["apply", "--yes"], 0).await;
    assert!(said.contains("steps taken: 0"), "{said}");
    assert_eq!(company.state().await, whole);

    // What was made ahead is what the first visit finds.
    let gateway = company.stage.gateway().await;
    let url = gateway.url("intranet", "/echo");
    let mut visitor = Visitor::new(&company.stage.lab.facts.ca, Speaks::Http2);
    let page = visitor.open_as(&jane.login, &url).await.unwrap();
    assert_eq!(
        page.remote_user(),
        format!("{}@CONTOSO.TEST", jane.sam),
        "{}",
        page.body
    );
    assert_eq!(
        accounts_of(&company.stage, &jane.oid.to_string()),
        std::slice::from_ref(&jane.sam)
    );
    // And what a first visit makes is what the plan would have made.
    let fresh = company.guest("fresh", json!({})).await;
    let mut visitor = Visitor::new(&company.stage.lab.facts.ca, Speaks::Http2);
    let page = visitor.open_as(&fresh.login, &url).await.unwrap();
    assert_eq!(
        page.remote_user(),
        format!("{}@CONTOSO.TEST", fresh.sam),
        "{}",
        page.body
    );
    let plan = company.plan().await;
    let steps = plan["steps"].as_array().unwrap();
    let only_upn = |step: &Value| {
        let changes = step["changes"].as_array().unwrap();
        changes.iter().all(|edit| {
            ["userPrincipalName", "givenName", "sn"].contains(&edit["attribute"].as_str().unwrap())
        })
    };
    assert!(
        steps
            .iter()
            .all(|step| step["do"] == "update" && only_upn(step)),
        "{plan}"
    );
    company.sync(&["apply", "--yes"], 0).await;
    assert_eq!(company.planned().await, [""; 0]);

    // A change in the cloud writes what has changed.
    company.change(&jane, json!({"name": "Jane Roe"})).await;
    let plan = company.plan().await;
    assert_eq!(lines(&plan), ["update changed"]);
    let changes = json!([
        {"attribute": "displayName", "from": "Jane Doe", "to": "Jane Roe"},
        {"attribute": "sn", "from": "Doe", "to": "Roe"},
    ]);
    assert_eq!(plan["steps"][0]["changes"], changes);
    company.follows(&["update changed"]).await;
    let after = company.entry(&jane, &company.guests).await.unwrap();
    assert_eq!(after.text("displayName"), Some("Jane Roe"));
    assert_eq!(after.values("objectSid"), made.values("objectSid"));
}

#[tokio::test]
async fn who_leaves_is_laid_to_rest_and_who_returns_is_the_same() {
    let company = Company::new().await;
    let jane = company.guest("jane", json!({})).await;
    let _stays = company.guest("stays", json!({})).await;
    // Not ours: without an anchor, or privileged with one of somebody who is in no cloud.
    let mut others = Vec::new();
    for (number, more) in [(0, None), (1, Some(("adminCount", "1")))] {
        let who = company.guests.child("CN", &unique("alien-"));
        let sam = who.leaf().unwrap().to_owned();
        let anchor = format!("User_{}", Uuid::new_v4());
        let mut all = vec![
            ("sAMAccountName", sam.as_str()),
            ("userAccountControl", "544"),
        ];
        if let Some(more) = more {
            all.extend([more, ("msDS-ExternalDirectoryObjectId", &anchor)]);
        }
        add_user(&company.ad, &who, &all).await;
        let left = company.plan().await["left_alone"].as_array().unwrap().len();
        assert_eq!(left, number, "{who}");
        others.push(who);
    }
    company.follows(&["create new"; 2]).await;
    let untouched = |state: &[(String, String)]| -> Vec<(String, String)> {
        state
            .iter()
            .filter(|(name, _)| name.contains("alien-"))
            .cloned()
            .collect()
    };
    let aliens = untouched(&company.state().await);
    assert_eq!(aliens.len(), 2);
    let before = company.entry(&jane, &company.guests).await.unwrap();
    let person = format!("/people/{}", jane.login);
    let deleted = format!("/deleted/{}", jane.login);
    let out = async |why: &str| {
        company.follows(&[&format!("disable {why}")]).await;
        let resting = company.entry(&jane, &company.rest).await.expect("at rest");
        assert_eq!(resting.number("userAccountControl"), Some(328_194));
        assert_eq!(resting.values("objectSid"), before.values("objectSid"));
        let note = resting.text("info").unwrap();
        assert!(
            note.contains(why) && note.contains("kerbgate sync guests"),
            "{note}"
        );
    };
    let back = async || {
        company.follows(&["restore back"]).await;
        let again = company.entry(&jane, &company.guests).await.expect("back");
        assert_eq!(again.number("userAccountControl"), Some(328_192));
        assert_eq!(again.values("objectSid"), before.values("objectSid"));
        assert!(again.values("info").is_empty());
    };
    company.change(&jane, json!({"enabled": false})).await;
    out("disabled-in-cloud").await;
    company.change(&jane, json!({"enabled": true})).await;
    back().await;
    company.change(&jane, json!({"groups": []})).await;
    out("left-scope").await;
    company
        .change(&jane, json!({"groups": [company.group]}))
        .await;
    back().await;
    company
        .change(&jane, json!({"origin": "own", "guest": false}))
        .await;
    out("became-internal").await;
    company
        .change(&jane, json!({"origin": "entra-tenant", "guest": true}))
        .await;
    back().await;
    company
        .entra
        .control(Method::DELETE, &person, json!({}))
        .await;
    out("deleted-in-cloud").await;
    order(&company.entra, &deleted, json!({})).await;
    back().await;
    company
        .entra
        .control(Method::DELETE, &person, json!({}))
        .await;
    company
        .entra
        .control(Method::DELETE, &deleted, json!({}))
        .await;
    out("left-tenant").await;

    // At rest for 30 days: deleted. A day less: not.
    let resting = company.rest.child("CN", &jane.sam);
    let days_ago = |days: i64| {
        let then = time::OffsetDateTime::now_utc() - time::Duration::days(days);
        let then = then
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap();
        format!("kerbgate disabled {then} by kerbgate sync guests: left-tenant")
    };
    company.write(&resting, "info", &days_ago(29)).await;
    assert_eq!(company.planned().await, [""; 0]);
    company.write(&resting, "info", &days_ago(30)).await;
    company.follows(&["delete rest-over"]).await;
    assert!(company.entry(&jane, &company.rest).await.is_none());
    assert_eq!(
        untouched(&company.state().await),
        aliens,
        "nothing of others was written to"
    );
    let audit = std::fs::read_to_string(company.stage.path("audit.log")).unwrap_or_default();
    assert!(
        audit.is_empty() || audit.contains("account-deleted"),
        "{audit}"
    );
}

#[tokio::test]
async fn who_becomes_a_member_or_never_redeems_is_laid_to_rest() {
    let company = Company::new().await;
    let strict = "[sync.guests]\nexternal_members = false\n";
    company
        .stage
        .replace("kerbgate.toml", "[sync.guests]\n", strict);
    let jane = company.guest("jane", json!({})).await;
    let _stays = company.guest("stays", json!({})).await;
    company.follows(&["create new"; 2]).await;
    company.change(&jane, json!({"guest": false})).await;
    company.follows(&["disable became-member"]).await;
    company.change(&jane, json!({"guest": true})).await;
    company.follows(&["restore back"]).await;
    let invited = |days: i64| {
        let then = time::OffsetDateTime::now_utc() - time::Duration::days(days);
        let then = then
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap();
        json!({"pending": true, "properties": {"externalUserStateChangeDateTime": then}})
    };
    company.change(&jane, invited(29)).await;
    assert_eq!(company.planned().await, [""; 0], "there is a day left");
    company.change(&jane, invited(30)).await;
    company.follows(&["disable never-redeemed"]).await;
    company.change(&jane, json!({"pending": false})).await;
    company.follows(&["restore back"]).await;
}

#[tokio::test]
async fn what_an_administrator_disabled_stays_so() {
    let company = Company::new().await;
    let jane = company.guest("jane", json!({})).await;
    company.follows(&["create new"]).await;
    company
        .write(
            &company.guests.child("CN", &jane.sam),
            "userAccountControl",
            "328194",
        )
        .await;
    let plan = company.plan().await;
    assert_eq!(lines(&plan), [""; 0]);
    assert!(
        plan["left_alone"]
            .to_string()
            .contains("disabled by somebody"),
        "{plan}"
    );
    company.change(&jane, json!({"groups": []})).await;
    assert_eq!(company.planned().await, [""; 0]);
    // Moved out of its place, and enabled: it comes home.
    let wide = company.guest("wide", json!({})).await;
    company.follows(&["create new"]).await;
    let session = company.ad.session().await.unwrap();
    let lies = company.guests.child("CN", &wide.sam);
    session.move_below(&lies, &company.rest).await.unwrap();
    company.follows(&["move misplaced"]).await;
    assert!(company.entry(&wide, &company.guests).await.is_some());
}

#[tokio::test]
async fn a_catastrophe_is_not_believed() {
    let company = Company::new().await;
    let crowd = company.crowd(7).await;
    company.sync(&["apply", "--yes"], 0).await;
    let whole = company.state().await;
    let stopped = async |why: &str| {
        let said = company.sync(&["apply", "--yes"], 3).await;
        assert!(said.contains(why), "{said}");
        assert_eq!(company.state().await, whole, "{why}: nothing was written");
        said
    };
    // The tenant answers, and nobody is there.
    order(&company.entra, "/graph", json!({"empty": true})).await;
    stopped("graph told of nobody").await;
    // Half an answer.
    order(
        &company.entra,
        "/graph",
        json!({"page_size": 50, "links": "missing"}),
    )
    .await;
    let said = company.sync(&["apply", "--yes"], 1).await;
    assert!(said.contains("half a page"), "{said}");
    assert_eq!(company.state().await, whole);
    order(&company.entra, "/graph", json!({})).await;
    assert_eq!(company.planned().await, [""; 0]);
    // Another tenant than last time: not even new accounts are made.
    let journal = company.journal();
    let other = journal.replace(TENANT, "aaaaaaaa-0000-4000-8000-00000000000b");
    std::fs::write(company.stage.path("state/sync/journal.jsonl"), other).unwrap();
    stopped("another tenant").await;
    std::fs::write(company.stage.path("state/sync/journal.jsonl"), journal).unwrap();
    // Nobody is in the group any more.
    for guest in &crowd {
        company.change(guest, json!({"groups": []})).await;
    }
    stopped("nobody is in scope").await;
    company
        .change(&crowd[0], json!({"groups": [company.group]}))
        .await;
    let said = stopped("remove 6 of 7 accounts in use").await;
    assert!(said.contains("--accept-removals 6"), "{said}");
    for wrong in ["5", "7", "0"] {
        company
            .sync(&["apply", "--yes", "--accept-removals", wrong], 3)
            .await;
        assert_eq!(company.state().await, whole, "{wrong}");
    }
    let table = company.sync(&["plan"], 0).await;
    assert!(table.contains("the brake would stop this"), "{table}");
    company
        .sync(&["apply", "--yes", "--accept-removals", "6"], 0)
        .await;
    assert!(company.entry(&crowd[0], &company.guests).await.is_some());
    assert!(company.entry(&crowd[6], &company.rest).await.is_some());
    assert_eq!(company.planned().await, [""; 0]);
}

#[tokio::test]
async fn whoever_is_assigned_through_a_group_inside_a_group_is_not_assigned() {
    let company = Company::new().await;
    let boot = "kerbgate.toml";
    let scope = format!("scope = \"groups\"\ngroups = [\"{}\"]", company.group);
    company.stage.replace(boot, &scope, "scope = \"assigned\"");
    let inner = Uuid::new_v4();
    order(
        &company.entra,
        &format!("/groups/{inner}"),
        json!({"name": "inner"}),
    )
    .await;
    let assigned = format!("/groups/{INTRANET_GUESTS}");
    order(&company.entra, &assigned, json!({"groups": [inner]})).await;
    let group = |group: &str| json!({"roles": [], "groups": [group]});
    let direct = company.guest("direct", group(INTRANET_GUESTS)).await;
    let through = company.guest("through", group(&inner.to_string())).await;
    let alone = company.guest("alone", json!({})).await;
    let nobody = company.guest("nobody", json!({"roles": []})).await;
    let plan = company.plan().await;
    let steps = plan["steps"].as_array().unwrap();
    let planned = |guest: &Guest| {
        let oid = guest.oid.to_string();
        steps.iter().filter(|step| step["oid"] == oid).count()
    };
    let all = [&direct, &alone, &through, &nobody].map(planned);
    assert_eq!(all, [1, 1, 0, 0], "{plan}");
}

#[tokio::test]
async fn what_graph_tells_in_two_ways_is_asked_once_more() {
    let company = Company::new().await;
    let jane = company.guest("jane", json!({})).await;
    let _mia = company.guest("mia", json!({"guest": false})).await;
    // From before 2014: whether guest or member was never set, and a delta does not tell of it.
    let own = json!({
        "origin": "own", "guest": false, "mail": "old@contoso.example",
        "properties": {"userType": null},
    });
    let _old = company.guest("olga", own).await;
    company.follows(&["create new"; 2]).await;
    let whole = company.state().await;
    // Each is told of twice, and the outdated word comes last: disabled.
    order(&company.entra, "/graph", json!({"late": true})).await;
    assert_eq!(company.planned().await, [""; 0]);
    company.sync(&["apply", "--yes"], 0).await;
    assert_eq!(company.state().await, whole);
    // Enabled: whoever is disabled does not come back by it.
    company.change(&jane, json!({"enabled": false})).await;
    company.follows(&["disable disabled-in-cloud"]).await;
    assert!(company.entry(&jane, &company.rest).await.is_some());
    // A guest who became a member, in a tenant that never said what members are: still one of somewhere else.
    let unset = json!({"enabled": true, "properties": {"userType": null}});
    company.change(&jane, unset).await;
    company.follows(&["restore back"]).await;
}

#[tokio::test]
async fn a_run_that_is_killed_anywhere_is_finished_by_the_next() {
    killed_anywhere(Company::new().await).await;
}

#[tokio::test]
async fn so_is_one_that_takes_several_steps_at_once() {
    let company = Company::new().await;
    let section = "[sync.guests]\n";
    let several = format!("{section}connections = 4\n");
    company.stage.replace("kerbgate.toml", section, &several);
    killed_anywhere(company).await;
}

async fn killed_anywhere(company: Company) {
    let crowd = company.crowd(10).await;
    company.sync(&["plan", "--save", "plan.json"], 0).await;
    // An approved plan, cut off twice, is still that plan.
    company.killed_at(&["apply", "plan.json"], 3).await;
    company.killed_at(&["apply", "plan.json"], 2).await;
    let said = company.sync(&["plan"], 0).await;
    assert!(
        said.contains("the last run was cut off at: create")
            || company.journal().ends_with("\"done\"}\n"),
        "{said}"
    );
    company.sync(&["apply", "plan.json"], 0).await;
    for guest in &crowd {
        let one = company.entry(guest, &company.guests).await.expect("made");
        assert_eq!(one.number("userAccountControl"), Some(328_192));
        assert_eq!(
            accounts_of(&company.stage, &guest.oid.to_string()),
            std::slice::from_ref(&guest.sam)
        );
    }
    assert_eq!(company.planned().await, [""; 0]);
    company.sync(&["apply", "plan.json"], 0).await;
    // The same on the way out: two writes a step, and any of them may be the last.
    for guest in &crowd {
        company.change(guest, json!({"enabled": false})).await;
    }
    for steps in [1, 2, 3] {
        let left = company.plan().await["removals"].to_string();
        company
            .killed_at(&["apply", "--yes", "--accept-removals", &left], steps)
            .await;
    }
    let left = company.plan().await["removals"].to_string();
    company
        .sync(&["apply", "--yes", "--accept-removals", &left], 0)
        .await;
    for guest in &crowd {
        let one = company.entry(guest, &company.rest).await.expect("at rest");
        assert_eq!(one.number("userAccountControl"), Some(328_194));
        assert!(one.text("info").unwrap().contains("disabled-in-cloud"));
    }
    assert_eq!(company.planned().await, [""; 0]);
}

#[tokio::test]
async fn a_plan_for_another_world_is_refused_with_the_difference() {
    let company = Company::new().await;
    let jane = company.guest("jane", json!({})).await;
    let said = company.sync(&["plan", "--save", "plan.json"], 0).await;
    assert!(said.contains("kept in "), "{said}");
    company.sync(&["plan", "--save", "plan.json"], 1).await;
    let mode =
        std::os::unix::fs::MetadataExt::mode(&company.stage.path("plan.json").metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600, "it names people");
    let late = company.guest("late", json!({})).await;
    let empty = company.state().await;
    let said = company.sync(&["apply", "plan.json"], 4).await;
    assert!(
        said.contains(&format!("not in the plan, needed now: create {}", late.sam)),
        "{said}"
    );
    company.change(&late, json!({"groups": []})).await;
    company.change(&jane, json!({"enabled": false})).await;
    let said = company.sync(&["apply", "plan.json"], 4).await;
    assert!(
        said.contains(&format!("in the plan, not needed now: create {}", jane.sam)),
        "{said}"
    );
    company
        .change(&jane, json!({"enabled": true, "name": "Jane Renamed"}))
        .await;
    company.sync(&["apply", "plan.json"], 4).await;
    company.change(&jane, json!({"name": "jane Guest"})).await;
    // Whoever writes to the file orders nothing.
    let plan = std::fs::read_to_string(company.stage.path("plan.json")).unwrap();
    for (old, new, code) in [
        (jane.oid.to_string(), Uuid::new_v4().to_string(), 4),
        (String::from("jane Guest"), String::from("Jane Evil"), 4),
        (TENANT.to_owned(), Uuid::new_v4().to_string(), 4),
        (
            String::from("\"version\": 1"),
            String::from("\"version\": 2"),
            1,
        ),
        (String::from("\"create\""), String::from("\"format\""), 1),
        (
            String::from("\"removals\": 0"),
            String::from("\"removals\": 1"),
            1,
        ),
    ] {
        assert!(plan.contains(&old), "{old}: {plan}");
        std::fs::write(company.stage.path("bent.json"), plan.replace(&old, &new)).unwrap();
        company.sync(&["apply", "bent.json"], code).await;
        assert_eq!(company.state().await, empty, "{new}");
    }
    company.sync(&["apply", "plan.json"], 0).await;
    assert!(company.entry(&jane, &company.guests).await.is_some());
}

#[tokio::test]
async fn what_somebody_confirmed_is_what_is_done() {
    let company = Company::new().await;
    let jane = company.guest("jane", json!({})).await;
    let empty = company.state().await;
    // On a terminal of its own, as `script` gives one.
    let command = company.command(&["apply"]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let at_terminal = async |meanwhile: Value, code: i32| {
        let mut child = tokio::process::Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command"])
            .arg(words.join(" "))
            .arg("/dev/null")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains("Do this? [y/N]") {
            let mut some = [0; 4096];
            let n = screen.read(&mut some).await.unwrap();
            assert_ne!(n, 0, "{}", String::from_utf8_lossy(&said));
            said.extend(&some[..n]);
        }
        company.change(&jane, meanwhile).await;
        keys.write_all(b"y\n").await.unwrap();
        screen.read_to_end(&mut said).await.unwrap();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(child.wait().await.unwrap().code(), Some(code), "{said}");
        said
    };
    let said = at_terminal(json!({"enabled": false}), 4).await;
    let gone = format!("in the plan, not needed now: create {}", jane.sam);
    assert!(said.contains(&gone), "{said}");
    assert_eq!(company.state().await, empty);
    company.change(&jane, json!({"enabled": true})).await;
    let said = at_terminal(json!({}), 0).await;
    assert!(said.contains("steps taken: 1"), "{said}");
    assert!(company.entry(&jane, &company.guests).await.is_some());
}

#[tokio::test]
async fn two_runs_do_not_meet() {
    let company = Company::new().await;
    let crowd = company.crowd(4).await;
    let log = company.stage.path("first.log");
    let mut first = Running::start("apply", &company.command(&["apply", "--yes"]), log);
    eventually("the first is at work", async || company.begun() >= 1).await;
    first.signal("STOP");
    let written = company.journal();
    let said = company.sync(&["apply", "--yes"], 6).await;
    assert!(said.contains("another run is under way"), "{said}");
    assert_eq!(company.journal(), written);
    // Looking is free.
    company.sync(&["plan"], 0).await;
    first.signal("CONT");
    assert!(first.ended(Duration::from_secs(60)).await.success());
    for guest in &crowd {
        assert!(company.entry(guest, &company.guests).await.is_some());
    }
    company.sync(&["apply", "--yes"], 0).await;
}

#[tokio::test]
async fn the_gateway_keeps_them_by_itself_and_cuts_off_who_left() {
    let company = Company::new().await;
    let every = "[sync.guests]\nevery = \"10s\"";
    company
        .stage
        .replace("kerbgate.toml", "[sync.guests]", every);
    let jane = company.guest("jane", json!({})).await;
    let crowd = company.crowd(7).await;
    let gateway = company.stage.gateway().await;
    eventually("made without a visit", async || {
        company.entry(&crowd[6], &company.guests).await.is_some()
    })
    .await;
    let url = gateway.url("intranet", "/echo");
    let mut browser = Visitor::new(&company.stage.lab.facts.ca, Speaks::Http2);
    let page = browser.open_as(&jane.login, &url).await.unwrap();
    assert_eq!(
        page.remote_user(),
        format!("{}@CONTOSO.TEST", jane.sam),
        "{}",
        page.body
    );
    let open = async || browser.clone().open(&url).await.unwrap().status;
    assert_eq!(open().await, 200);
    // The issuer would be asked about a running session in four minutes, not before.
    company.change(&jane, json!({"enabled": false})).await;
    eventually("cut off", async || open().await != 200).await;
    let resting = company.entry(&jane, &company.rest).await.expect("at rest");
    assert!(resting.text("info").unwrap().contains("disabled-in-cloud"));
    // Nobody is there to accept anything.
    for guest in &crowd {
        company.change(guest, json!({"enabled": false})).await;
    }
    let audit = || std::fs::read_to_string(company.stage.path("audit.log")).unwrap();
    eventually("stopped by the brake", async || {
        audit().contains("sync-stopped")
    })
    .await;
    for guest in &crowd {
        assert!(company.entry(guest, &company.guests).await.is_some());
    }
    let audit = audit();
    for part in [
        "sync-done",
        "account-made",
        "account-disabled",
        "\"via\":\"sync\"",
        "remove 7 of 7",
    ] {
        assert!(audit.contains(part), "{part}: {audit}");
    }
    let counted = scraped(&gateway).await;
    for (series, least) in [
        ("rounds_total{what=\"guests\",kind=\"stopped\"}", 1.0),
        ("rounds_total{what=\"guests\",kind=\"done\"}", 1.0),
        ("steps_total{what=\"guests\",kind=\"done\"}", 9.0),
        ("success_timestamp{what=\"guests\"}", 1.7e9),
        ("taken_total{what=\"guests\",kind=\"create\"}", 8.0),
        ("taken_total{what=\"guests\",kind=\"disable\"}", 1.0),
        ("planned{what=\"guests\"}", 7.0),
        ("removals{what=\"guests\"}", 7.0),
        ("braked{what=\"guests\"}", 1.0),
    ] {
        let told = value(&counted, &format!("kerbgate_sync_{series}"));
        assert!(told >= least, "{series}: {told}");
    }
    drop(gateway);
    let said = company
        .sync(&["apply", "--yes", "--accept-removals", "7"], 0)
        .await;
    assert!(said.contains("steps taken: 7"), "{said}");
}

/// With no setting at all, in the tenant of the demo. Looked at only: the directory is shared with other tests.
#[tokio::test]
async fn the_demos_tenant_has_guests_to_synchronize() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    let mut command = kerbgate();
    command
        .args(["sync", "guests", "plan", "--json", "--config"])
        .arg(stage.path("kerbgate.toml"));
    let done = tokio::process::Command::from(command)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let plan: Value = serde_json::from_slice(&done.stdout).unwrap();
    let made = |oid: &str| {
        let steps = plan["steps"].as_array().unwrap();
        let mut steps = steps.iter();
        steps.any(|step| step["do"] == "create" && step["oid"] == oid)
    };
    let load = |n: u32| made(&format!("22222222-0000-4000-8000-{n:012}"));
    assert!((1..=200).any(load), "{plan}");
    for (nobody, why) in [
        (7, "disabled"),
        (9, "an employee"),
        (17, "not redeemed"),
        (19, "deleted"),
    ] {
        assert!(
            !made(&format!("11111111-0000-4000-8000-{nobody:012}")),
            "{why}"
        );
    }
}
