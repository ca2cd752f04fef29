//! For an administrator: AD groups that the configuration maps hold just those guests whom the cloud has in the group or the app role;
//! nobody else's membership is touched, no mistake of the cloud empties a group, and who returns has what was taken when they left.

use std::collections::BTreeSet;
use std::process::Output;
use std::time::Duration;

use kerbgate::ldap::Bind;
use kerbgate::ldap::Change;
use kerbgate::ldap::Directory;
use kerbgate::ldap::Dn;
use kerbgate::ldap::Entry;
use kerbgate::mapping::names;
use kerbgate::model::names::PersonId;
use kerbgate::model::secret::Secret;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use crate::directory::GUESTS;
use crate::directory::add_user;
use crate::directory::dn;
use crate::directory::ldap_settings;
use crate::directory::unique;
use crate::lab::Entra;
use crate::lab::Running;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::lab::gateway::TENANT;
use crate::lab::kerbgate;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::order;

const RESTING: &str = "OU=Disabled Guests,DC=contoso,DC=test";
const GROUPS: &str = "OU=Guest Groups,DC=contoso,DC=test";
const STAFF: &str = "OU=Staff,DC=contoso,DC=test";
const ROLE: &str = "Intranet.User";

/// A company with units of its own and two mapped groups: one of an app role, to be made, and one of an Entra group.
struct Company {
    stage: Stage,
    entra: Entra,
    ad: Directory,
    guests: Dn,
    rest: Dn,
    /// Of everybody.
    scope: Uuid,
    /// Of the team, with another one inside.
    team: Uuid,
    inner: Uuid,
    role_group: Dn,
    team_group: Dn,
    /// Not mapped.
    by_hand: Dn,
}

struct Guest {
    login: String,
    oid: Uuid,
    sam: String,
}

impl Company {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let mut settings = ldap_settings(stage.lab);
        settings.bind = Bind::Simple {
            name: String::from("Administrator@contoso.test"),
            password: Secret::new(String::from("Admin.Pass.2026")),
        };
        let unit = unique("grp-");
        let units = [GUESTS, RESTING, GROUPS].map(|above| dn(above).child("OU", &unit));
        let [guests, rest, groups] = units;
        let named = |name: &str| groups.child("CN", &format!("{name} {unit}"));
        let entra = stage.entra(&[]).await;
        let company = Self {
            ad: Directory::new(settings),
            scope: Uuid::new_v4(),
            team: Uuid::new_v4(),
            inner: Uuid::new_v4(),
            role_group: named("Role"),
            team_group: named("Team"),
            by_hand: named("Hand"),
            stage,
            entra,
            guests,
            rest,
        };
        for unit in [&company.guests, &company.rest, &groups] {
            company.add(unit, "organizationalUnit").await;
        }
        company.add(&company.team_group, "group").await;
        company.add(&company.by_hand, "group").await;
        company.configure(&unit);
        let name = |group: Uuid| format!("/groups/{group}");
        for group in [company.scope, company.team, company.inner] {
            order(&company.entra, &name(group), json!({"name": "a group"})).await;
        }
        let nested = json!({"groups": [company.inner]});
        order(&company.entra, &name(company.team), nested).await;
        company
    }

    fn configure(&self, unit: &str) {
        let path = self.stage.path("kerbgate.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let (scope, team) = (self.scope, self.team);
        let text = text
            .replace("OU=Guests,", &format!("OU={unit},OU=Guests,"))
            .replace("\"OU=Disabled", &format!("\"OU={unit},OU=Disabled"))
            .replace("OU=Guest Groups,", &format!("OU={unit},OU=Guest Groups,"))
            .replace(
                "ad_group = \"CN=Intranet Users",
                &format!("create = true\nad_group = \"CN=Role {unit}"),
            )
            .replace(
                "role = \"Timesheet.User\"\nad_group = \"CN=Timesheet Users",
                &format!("group = \"{team}\"\nad_group = \"CN=Team {unit}"),
            );
        let scope = format!(
            "[sync.guests]\nmemberships = true\nscope = \"groups\"\ngroups = [\"{scope}\"]\n"
        );
        std::fs::write(
            &path,
            format!("{text}\n{scope}[log]\nfile = \"audit.log\"\n"),
        )
        .unwrap();
    }

    async fn add(&self, dn: &Dn, class: &str) {
        let session = self.ad.session().await.unwrap();
        let mut all = vec![(
            "objectClass".parse().unwrap(),
            vec![class.as_bytes().to_vec()],
        )];
        if class == "group" {
            let name = dn.leaf().unwrap().as_bytes().to_vec();
            all.push(("sAMAccountName".parse().unwrap(), vec![name]));
        }
        session.add(dn, all).await.unwrap();
    }

    async fn guest(&self, name: &str, roles: &[&str], groups: &[Uuid]) -> Guest {
        let login = format!("{}@fabrikam.example", unique(&format!("{name}-")));
        let mut all = vec![self.scope];
        all.extend(groups);
        let body = json!({
            "login": login, "like": "jane@fabrikam.example", "name": format!("{name} Guest"),
            "roles": roles, "groups": all,
        });
        let made = order(&self.entra, "/people", body).await;
        let oid: Uuid = made["oid"].as_str().unwrap().parse().unwrap();
        let tid = TENANT.parse().unwrap();
        let sam = names::sam("kg-", PersonId { tid, oid });
        Guest { login, oid, sam }
    }

    async fn change(&self, guest: &Guest, change: Value) {
        order(&self.entra, &format!("/people/{}", guest.login), change).await;
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = kerbgate();
        command
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

    async fn says(&self, arguments: &[&str], code: i32) -> String {
        let done = self.run(arguments).await;
        let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    async fn sync(&self, arguments: &[&str], code: i32) -> String {
        self.says(&[&["sync", "guests"], arguments].concat(), code)
            .await
    }

    async fn plan(&self) -> Value {
        let done = self.run(&["sync", "guests", "plan", "--json"]).await;
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

    async fn read(&self, dn: &Dn, wanted: &[&str]) -> Entry {
        let session = self.ad.session().await.unwrap();
        let found = session.read(dn, wanted).await.unwrap();
        found.unwrap_or_else(|| panic!("no {dn}"))
    }

    async fn members(&self, group: &Dn) -> BTreeSet<String> {
        let entry = self.read(group, &["member"]).await;
        entry.texts("member").map(str::to_lowercase).collect()
    }

    /// The same for the accounts of these, in the guests' unit.
    fn are(&self, guests: &[&Guest]) -> BTreeSet<String> {
        let lies = |guest: &&Guest| self.lies(guest).to_string().to_lowercase();
        guests.iter().map(lies).collect()
    }

    fn lies(&self, guest: &Guest) -> Dn {
        self.guests.child("CN", &guest.sam)
    }

    async fn write(&self, who: &Dn, change: Change) {
        let session = self.ad.session().await.unwrap();
        session.modify(who, vec![change]).await.unwrap();
    }

    async fn put(&self, group: &Dn, who: &Dn) {
        let value = who.to_string().into_bytes();
        self.write(group, Change::Add("member".parse().unwrap(), value))
            .await;
    }

    fn begun(&self) -> usize {
        let path = self.stage.path("state/sync/journal.jsonl");
        let journal = std::fs::read_to_string(path).unwrap_or_default();
        journal.matches("\"event\":\"before\"").count()
    }

    /// A run that is killed when `steps` steps have been begun.
    async fn killed_at(&self, arguments: &[&str], steps: usize) {
        let before = self.begun();
        let all = [&["sync", "guests"], arguments].concat();
        let log = self.stage.path("killed.log");
        let mut run = Running::start("apply", &self.command(&all), log);
        eventually("so many steps are begun", async || {
            self.begun() >= before + steps
        })
        .await;
        run.signal("KILL");
        run.ended(Duration::from_secs(10)).await;
    }
}

fn lines(plan: &Value) -> Vec<String> {
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

#[tokio::test]
async fn a_group_is_made_filled_and_kept_and_nobody_elses_membership_is_touched() {
    let company = Company::new().await;
    let jane = company.guest("jane", &[ROLE], &[company.team]).await;
    let nora = company.guest("nora", &[], &[company.inner]).await;
    // Somebody of the house, put there by hand.
    let emma = dn(STAFF).child("CN", &unique("emma-"));
    add_user(&company.ad, &emma, &[]).await;
    company.put(&company.team_group, &emma).await;

    let table = company.sync(&["plan"], 0).await;
    for part in [
        "make-group",
        "a mapped group that is not there yet",
        "is in the cloud's group, or has its app role",
        &company.team_group.to_string(),
        "join 3, make-group 1",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    company
        .follows(&[
            "create new",
            "create new",
            "make-group group-missing",
            "join in-group",
            "join in-group",
            "join in-group",
        ])
        .await;
    assert_eq!(
        company.members(&company.role_group).await,
        company.are(&[&jane])
    );
    // Nested groups are flattened.
    let mut team = company.are(&[&jane, &nora]);
    team.insert(emma.to_string().to_lowercase());
    assert_eq!(company.members(&company.team_group).await, team);
    let wanted = ["groupType", "msDS-ExternalDirectoryObjectId"];
    let made = company.read(&company.role_group, &wanted).await;
    assert_eq!(
        made.text("groupType"),
        Some("-2147483646"),
        "global, for security"
    );
    let anchor = made.text("msDS-ExternalDirectoryObjectId").unwrap();
    assert!(
        anchor.starts_with("AppRole_") && anchor.ends_with(ROLE),
        "{anchor}"
    );

    // One comes, one goes; what was put by hand into a group that is not mapped stays.
    company.put(&company.by_hand, &company.lies(&jane)).await;
    company
        .change(&jane, json!({"groups": [company.scope]}))
        .await;
    company.change(&nora, json!({"roles": [ROLE]})).await;
    let plan = company.plan().await;
    assert_eq!(lines(&plan), ["leave not-in-group", "join in-group"]);
    assert_eq!(plan["removals"], 1, "who loses a group is counted: {plan}");
    assert_eq!(plan["steps"][0]["group"], company.team_group.to_string());
    company
        .follows(&["leave not-in-group", "join in-group"])
        .await;
    assert_eq!(
        company.members(&company.role_group).await,
        company.are(&[&jane, &nora])
    );
    let mut team = company.are(&[&nora]);
    team.insert(emma.to_string().to_lowercase());
    assert_eq!(company.members(&company.team_group).await, team);
    assert_eq!(
        company.members(&company.by_hand).await,
        company.are(&[&jane])
    );
    // What somebody took out by hand comes back, what somebody put in goes: the cloud decides about ours.
    let value = company.lies(&nora).to_string().into_bytes();
    let out = Change::Delete("member".parse().unwrap(), value);
    company.write(&company.team_group, out).await;
    company.put(&company.team_group, &company.lies(&jane)).await;
    company
        .follows(&["leave not-in-group", "join in-group"])
        .await;
    assert_eq!(company.members(&company.team_group).await, team);
}

#[tokio::test]
async fn what_must_not_be_written_to_or_believed_is_left_alone() {
    let company = Company::new().await;
    let jane = company.guest("jane", &[ROLE], &[company.team]).await;
    let nora = company.guest("nora", &[ROLE], &[company.team]).await;
    company.sync(&["apply", "--yes"], 0).await;
    let team = company.members(&company.team_group).await;
    assert_eq!(team, company.are(&[&jane, &nora]));
    let left = async |part: &str| {
        let plan = company.plan().await;
        let told = plan["left_alone"].to_string();
        assert!(told.contains(part), "{part}: {plan}");
        assert_eq!(lines(&plan), [""; 0], "{part}");
        company.sync(&["apply", "--yes"], 0).await;
        assert_eq!(company.members(&company.team_group).await, team, "{part}");
    };
    company
        .change(&jane, json!({"groups": [company.scope]}))
        .await;
    let text = |name: &str, value: &[&str]| {
        let values = value.iter().map(|one| one.as_bytes().to_vec()).collect();
        Change::Replace(name.parse().unwrap(), values)
    };
    // Privileged.
    company
        .write(&company.team_group, text("adminCount", &["1"]))
        .await;
    left("is privileged: adminCount is set").await;
    company
        .write(&company.team_group, text("adminCount", &[]))
        .await;
    // Privileged through another group.
    let admins = dn("CN=Account Operators,CN=Builtin,DC=contoso,DC=test");
    company.put(&admins, &company.team_group).await;
    left("it is a member of Account Operators").await;
    let member = company.team_group.to_string().into_bytes();
    company
        .write(&admins, Change::Delete("member".parse().unwrap(), member))
        .await;
    company
        .write(&company.team_group, text("adminCount", &[]))
        .await;
    // Unknown to Graph: no empty group.
    let boot = "kerbgate.toml";
    let (mapped, unknown) = (format!("group = \"{}\"", company.team), Uuid::new_v4());
    let other = format!("group = \"{unknown}\"");
    company.stage.replace(boot, &mapped, &other);
    left(&format!("graph knows no {unknown}")).await;
    // Too large.
    company
        .stage
        .replace(boot, &other, &format!("max_members = 1\n{mapped}"));
    company
        .change(&jane, json!({"groups": [company.scope, company.team]}))
        .await;
    left(&format!(
        "entra group {} holds 2 guests, max_members is 1",
        company.team
    ))
    .await;
    company.stage.replace(boot, "max_members = 1\n", "");
    // Nobody at all: whole, and odd. One person would be below every other limit.
    for guest in [&jane, &nora] {
        company
            .change(guest, json!({"groups": [company.scope]}))
            .await;
    }
    let said = company.sync(&["apply", "--yes"], 3).await;
    assert!(
        said.contains("graph told of no guest for") && said.contains("all 2"),
        "{said}"
    );
    assert_eq!(company.members(&company.team_group).await, team);
    company
        .sync(&["apply", "--yes", "--accept-removals", "1"], 3)
        .await;
    assert_eq!(company.members(&company.team_group).await, team);
    company
        .sync(&["apply", "--yes", "--accept-removals", "2"], 0)
        .await;
    assert_eq!(company.members(&company.team_group).await, BTreeSet::new());
    // Outside the unit: the configuration itself is refused.
    let (inside, outside) = (
        company.team_group.to_string(),
        "CN=Team,OU=Staff,DC=contoso,DC=test",
    );
    company.stage.replace(boot, &inside, outside);
    let said = company.sync(&["plan"], 64).await;
    assert!(said.contains("is not under groups_ou"), "{said}");
}

#[tokio::test]
async fn who_leaves_loses_managed_groups_and_who_returns_has_them_again() {
    let company = Company::new().await;
    let jane = company.guest("jane", &[ROLE], &[company.team]).await;
    let _stays = company.guest("stays", &[], &[company.team]).await;
    company.sync(&["apply", "--yes"], 0).await;
    company.put(&company.by_hand, &company.lies(&jane)).await;
    let at = async |unit: &Dn| {
        let wanted = ["memberOf", "userAccountControl", "objectSid", "seeAlso"];
        company.read(&unit.child("CN", &jane.sam), &wanted).await
    };
    let groups = |entry: &Entry, name: &str| -> BTreeSet<String> {
        entry.texts(name).map(str::to_lowercase).collect()
    };
    let set = |all: &[&Dn]| -> BTreeSet<String> {
        all.iter().map(|dn| dn.to_string().to_lowercase()).collect()
    };
    let all = set(&[&company.role_group, &company.team_group, &company.by_hand]);
    let before = at(&company.guests).await;
    assert_eq!(groups(&before, "memberOf"), all);
    let resting = async || {
        let entry = at(&company.rest).await;
        assert_eq!(
            groups(&entry, "memberOf"),
            set(&[&company.by_hand]),
            "by hand stays"
        );
        let managed = set(&[&company.role_group, &company.team_group]);
        assert_eq!(groups(&entry, "seeAlso"), managed);
        assert_eq!(entry.values("objectSid"), before.values("objectSid"));
    };
    let back = async |has: &BTreeSet<String>| {
        let entry = at(&company.guests).await;
        assert_eq!(&groups(&entry, "memberOf"), has);
        assert_eq!(groups(&entry, "seeAlso"), BTreeSet::new());
        assert_eq!(entry.text("userAccountControl"), Some("328192"));
        assert_eq!(entry.values("objectSid"), before.values("objectSid"));
    };
    // By the synchronization.
    company.change(&jane, json!({"enabled": false})).await;
    company.follows(&["disable disabled-in-cloud"]).await;
    resting().await;
    company.change(&jane, json!({"enabled": true})).await;
    company.follows(&["restore back"]).await;
    back(&all).await;
    // By an administrator, and what was planted on the account before is not given.
    let planted = company.by_hand.to_string().into_bytes();
    let plant = Change::Add("seeAlso".parse().unwrap(), planted.clone());
    let oid = jane.oid.to_string();
    company
        .says(&["accounts", "disable", &oid, "--yes"], 0)
        .await;
    resting().await;
    assert_eq!(company.planned().await, [""; 0], "somebody else's decision");
    company
        .write(&company.rest.child("CN", &jane.sam), plant)
        .await;
    // The cloud is not asked.
    order(&company.entra, "/graph", json!({"empty": true})).await;
    company
        .says(&["accounts", "restore", &oid, "--yes"], 0)
        .await;
    order(&company.entra, "/graph", json!({})).await;
    let entry = at(&company.guests).await;
    assert_eq!(groups(&entry, "memberOf"), all);
    assert_eq!(
        groups(&entry, "seeAlso"),
        set(&[&company.by_hand]),
        "somebody else's value"
    );
    let unplant = Change::Delete("seeAlso".parse().unwrap(), planted);
    company.write(&company.lies(&jane), unplant).await;
    // What the cloud took away meanwhile is not given back.
    company.change(&jane, json!({"enabled": false})).await;
    company.follows(&["disable disabled-in-cloud"]).await;
    company
        .change(&jane, json!({"enabled": true, "groups": [company.scope]}))
        .await;
    company
        .follows(&["leave not-in-group", "restore back"])
        .await;
    back(&set(&[&company.role_group, &company.by_hand])).await;
    // With memberships left to sign-ins, the account itself remembers.
    company.change(&jane, json!({"enabled": false})).await;
    company.follows(&["disable disabled-in-cloud"]).await;
    company
        .stage
        .replace("kerbgate.toml", "memberships = true", "memberships = false");
    company.change(&jane, json!({"enabled": true})).await;
    company.follows(&["restore back"]).await;
    back(&set(&[&company.role_group, &company.by_hand])).await;
}

#[tokio::test]
async fn a_run_that_is_killed_in_the_middle_is_finished_by_the_next() {
    let company = Company::new().await;
    let mut crowd = Vec::new();
    for n in 0..8 {
        let name = format!("crowd{n}");
        crowd.push(company.guest(&name, &[ROLE], &[company.team]).await);
    }
    let all: Vec<&Guest> = crowd.iter().collect();
    company.sync(&["plan", "--save", "plan.json"], 0).await;
    // In the middle of the accounts, at the group, and among the members.
    for steps in [4, 4, 2] {
        company.killed_at(&["apply", "plan.json"], steps).await;
    }
    company.sync(&["apply", "plan.json"], 0).await;
    for group in [&company.role_group, &company.team_group] {
        assert_eq!(company.members(group).await, company.are(&all), "{group}");
    }
    assert_eq!(company.planned().await, [""; 0]);
    // On the way out: an account disabled and not stripped yet is finished too.
    for guest in &crowd {
        company.change(guest, json!({"enabled": false})).await;
    }
    for steps in [1, 2, 1] {
        let left = company.plan().await["removals"].to_string();
        let accept = ["apply", "--yes", "--accept-removals", &left];
        company.killed_at(&accept, steps).await;
    }
    let left = company.plan().await["removals"].to_string();
    company
        .sync(&["apply", "--yes", "--accept-removals", &left], 0)
        .await;
    for group in [&company.role_group, &company.team_group] {
        assert_eq!(company.members(group).await, BTreeSet::new(), "{group}");
    }
    assert_eq!(company.planned().await, [""; 0]);
    for guest in &crowd {
        company.change(guest, json!({"enabled": true})).await;
    }
    for steps in [1, 3] {
        company.killed_at(&["apply", "--yes"], steps).await;
    }
    company.sync(&["apply", "--yes"], 0).await;
    for group in [&company.role_group, &company.team_group] {
        assert_eq!(company.members(group).await, company.are(&all), "{group}");
    }
    assert_eq!(company.planned().await, [""; 0]);
}

#[tokio::test]
async fn more_than_fit_into_one_write_all_come_in_and_all_go_out() {
    let company = Company::new().await;
    let boot = "kerbgate.toml";
    let section = "[sync.guests]\n";
    let quick = format!("{section}connections = 4\n");
    company.stage.replace(boot, section, &quick);
    let mut crowd = Vec::new();
    for n in 0..MANY {
        let name = format!("crowd{n}");
        crowd.push(company.guest(&name, &[], &[company.team]).await);
    }
    let all: Vec<&Guest> = crowd.iter().collect();
    company.sync(&["apply", "--yes"], 0).await;
    assert_eq!(
        company.members(&company.team_group).await,
        company.are(&all)
    );
    assert_eq!(company.planned().await, [""; 0]);
    let (stay, leave) = crowd.split_at(1);
    for guest in leave {
        company
            .change(guest, json!({"groups": [company.scope]}))
            .await;
    }
    let left = leave.len().to_string();
    company
        .sync(&["apply", "--yes", "--accept-removals", &left], 0)
        .await;
    let stay: Vec<&Guest> = stay.iter().collect();
    assert_eq!(
        company.members(&company.team_group).await,
        company.are(&stay)
    );
    assert_eq!(company.planned().await, [""; 0]);
}

#[tokio::test]
async fn a_sign_in_puts_nobody_into_a_privileged_group() {
    let company = Company::new().await;
    company.add(&company.role_group, "group").await;
    let marked = |value: &[u8]| {
        let values = if value.is_empty() {
            Vec::new()
        } else {
            vec![value.to_vec()]
        };
        Change::Replace("adminCount".parse().unwrap(), values)
    };
    company.write(&company.role_group, marked(b"1")).await;
    let jane = company.guest("jane", &[ROLE], &[]).await;
    let nora = company.guest("nora", &[ROLE], &[]).await;
    let gateway = company.stage.gateway().await;
    let url = gateway.url("intranet", "/echo");
    let enters = async |guest: &Guest| {
        let mut visitor = Visitor::new(&company.stage.lab.facts.ca, Speaks::Http2);
        let page = visitor.open_as(&guest.login, &url).await.unwrap();
        let name = format!("{}@CONTOSO.TEST", guest.sam);
        assert_eq!(page.remote_user(), name, "{}", page.body);
    };
    enters(&jane).await;
    assert_eq!(company.members(&company.role_group).await, BTreeSet::new());
    company.write(&company.role_group, marked(b"")).await;
    enters(&nora).await;
    assert_eq!(
        company.members(&company.role_group).await,
        company.are(&[&nora])
    );
}

/// One write holds a hundred.
const MANY: usize = 105;

#[tokio::test]
async fn two_sources_of_one_group_are_enough_each() {
    let company = Company::new().await;
    let boot = "kerbgate.toml";
    let second = format!(
        "[[mapping.groups]]\ngroup = \"{}\"\nad_group = \"{}\"\n[sync.guests]\n",
        company.inner, company.role_group
    );
    company.stage.replace(boot, "[sync.guests]\n", &second);
    let jane = company.guest("jane", &[ROLE], &[company.inner]).await;
    let nora = company.guest("nora", &[], &[company.inner]).await;
    let ria = company.guest("ria", &[ROLE], &[]).await;
    company.sync(&["apply", "--yes"], 0).await;
    let members = async || company.members(&company.role_group).await;
    assert_eq!(members().await, company.are(&[&jane, &nora, &ria]));
    // One of two is lost: still in. Both: out.
    company.change(&jane, json!({"roles": []})).await;
    company
        .change(&nora, json!({"groups": [company.scope]}))
        .await;
    company.sync(&["apply", "--yes"], 0).await;
    assert_eq!(members().await, company.are(&[&jane, &ria]));
    assert_eq!(company.planned().await, [""; 0]);
}
