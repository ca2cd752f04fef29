//! For whoever comes from MIM, Microsoft's PowerShell scripts or Cloud Sync: `kerbgate sync guests` takes over the accounts that they
//! have made, by plan, each for the person it was made for; and reports, without touching them, all others.

use kerbgate::ldap::Change;
use kerbgate::ldap::Dn;
use kerbgate::ldap::Entry;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use crate::directory::add_user;
use crate::directory::entry;
use crate::directory::unique;
use crate::guests_are_kept_in_step::Company;
use crate::guests_are_kept_in_step::Guest;
use crate::guests_are_kept_in_step::lines;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

const SCRIPT_2: &str = "Shadow account of Azure AD guest account";
const ANCHOR: &str = "msDS-ExternalDirectoryObjectId";

impl Company {
    /// An account as another tool leaves it; "no password needed" in place of a password.
    async fn made_elsewhere(&self, cn: &str, more: &[(&str, &str)]) -> Dn {
        let name = self.guests.child("CN", cn);
        let sam = unique("old-");
        let mut all = vec![("sAMAccountName", sam.as_str()), CONTROL];
        all.retain(|(name, _)| more.iter().all(|(given, _)| given != name));
        all.extend(more);
        add_user(&self.ad, &name, &all).await;
        name
    }

    async fn account(&self, name: &Dn) -> Entry {
        let wanted = [
            ANCHOR,
            "adminDescription",
            "userAccountControl",
            "objectSid",
            "displayName",
            "sAMAccountName",
        ];
        entry(&self.ad, name, &wanted).await.expect("is there")
    }

    fn adopt(&self) {
        let boot = "kerbgate.toml";
        self.stage
            .replace(boot, "[sync.guests]", "[sync.guests]\nadopt = true");
    }
}

/// Smart card required, as all of them have it, without "password never expires".
const CONTROL: (&str, &str) = ("userAccountControl", "262688");

fn upn(guest: &Guest) -> String {
    let name = guest.login.replace('@', "_");
    format!("{name}#EXT#@contoso.onmicrosoft.com")
}

/// `what account` of each finding.
fn findings(plan: &Value) -> Vec<(String, String)> {
    let all = plan["findings"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<_> = all
        .iter()
        .map(|one| {
            let dn = one["dn"].as_str().unwrap().to_owned();
            (dn, one["found"].as_str().unwrap().to_owned())
        })
        .collect();
    all.sort();
    all
}

fn found(what: &[(&Dn, &str)]) -> Vec<(String, String)> {
    let mut all: Vec<_> = what
        .iter()
        .map(|(dn, what)| (dn.to_string(), (*what).to_owned()))
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn each_tools_account_goes_to_its_person_with_the_sid_it_had() {
    let company = Company::new().await;
    let mia = company.guest("mia", json!({})).await;
    let olga = company.guest("olga", json!({})).await;
    let nora = company.guest("nora", json!({})).await;
    let carl = company.guest("carl", json!({})).await;
    let fresh = company.guest("fresh", json!({})).await;
    let (of_olga, of_nora) = (upn(&olga), upn(&nora));
    let by_mim = company
        .made_elsewhere(&mia.oid.to_string(), &[("userPrincipalName", &upn(&mia))])
        .await;
    let short: String = of_olga.chars().take(20).collect();
    let by_script_1 = company
        .made_elsewhere(
            &short,
            &[
                ("sAMAccountName", &short),
                ("userPrincipalName", &of_olga),
                ("description", &of_olga),
            ],
        )
        .await;
    let by_script_2 = company
        .made_elsewhere(
            of_nora.split('#').next().unwrap(),
            &[
                ("userPrincipalName", &of_nora),
                ("description", SCRIPT_2),
                ("displayName", "Old Name"),
            ],
        )
        .await;
    let anchor = format!("User_{}", carl.oid);
    let by_cloud_sync = company
        .made_elsewhere(
            &unique("carl-"),
            &[(ANCHOR, &anchor), ("userAccountControl", "328224")],
        )
        .await;
    let strangers = [&by_mim, &by_script_1, &by_script_2];
    let before = company.state().await;

    // Not without being told to; and no second account beside the first either.
    let plan = company.plan().await;
    let only_fresh = |plan: &Value| {
        let steps = plan["steps"].as_array().unwrap();
        steps.iter().all(|step| {
            let oid = step["oid"].as_str().unwrap();
            (step["do"] == "create" && oid == fresh.oid.to_string())
                || (step["do"] == "update" && oid == carl.oid.to_string())
        })
    };
    assert!(only_fresh(&plan), "{plan}");
    assert_eq!(
        findings(&plan),
        found(&strangers.map(|dn| (dn, "adoptable")))
    );
    assert_eq!(company.state().await, before, "a plan writes nothing");

    company.adopt();
    let plan = company.plan().await;
    assert_eq!(findings(&plan), found(&[]));
    let steps = plan["steps"].as_array().unwrap();
    let shape_of = |guest: &Guest| {
        let adopts = |step: &&Value| {
            step["do"] == "adopt" && step["oid"].as_str() == Some(&guest.oid.to_string())
        };
        steps.iter().find(adopts).unwrap()["shape"].clone()
    };
    assert_eq!(
        [&mia, &olga, &nora].map(shape_of),
        ["mim", "script-1", "script-2"]
    );
    let table = company.sync(&["plan"], 0).await;
    for part in ["adopt 3", "MIM: its name is the object id", "create 1"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let mut sids = Vec::new();
    for dn in strangers {
        sids.push(company.account(dn).await.sid("objectSid"));
    }
    company.sync(&["plan", "--save", "move.json"], 0).await;
    company.sync(&["apply", "move.json"], 0).await;
    for ((dn, guest), sid) in strangers.iter().zip([&mia, &olga, &nora]).zip(sids) {
        let account = company.account(dn).await;
        let anchor = format!("User_{}", guest.oid);
        assert_eq!(account.text(ANCHOR), Some(anchor.as_str()));
        assert_eq!(account.text("adminDescription"), Some(anchor.as_str()));
        // With "password never expires", or S4U2Proxy would fail.
        assert_eq!(account.text("userAccountControl"), Some("328224"));
        assert_eq!(account.sid("objectSid"), sid);
    }
    let renamed = company.account(&by_script_2).await;
    assert_eq!(renamed.text("displayName"), Some("nora Guest"));
    assert_eq!(company.planned().await, [""; 0], "done once is done");
    assert_eq!(
        company.state().await.len(),
        before.len() + 1,
        "nobody has two, and Cloud Sync's is found as it is: {by_cloud_sync}"
    );

    let gateway = company.stage.gateway().await;
    let mut visitor = Visitor::new(&company.stage.lab.facts.ca, Speaks::Http2);
    let url = gateway.url("intranet", "/echo");
    let page = visitor.open_as(&mia.login, &url).await.unwrap();
    let account = company.account(&by_mim).await;
    let sam = account.text("sAMAccountName").unwrap();
    assert_eq!(page.remote_user(), format!("{sam}@CONTOSO.TEST"));
}

#[tokio::test]
async fn what_is_not_proven_to_be_somebodys_is_reported_and_nothing_else() {
    let company = Company::new().await;
    company.adopt();
    let jane = company.guest("jane", json!({})).await;
    let twice = company.guest("twice", json!({})).await;
    let second = company.guest("second", json!({})).await;
    let off = company.guest("off", json!({})).await;
    let admin = company.guest("admin", json!({})).await;
    let left = company.guest("left", json!({"groups": []})).await;
    // The address went to somebody else, who was invited after the account was made.
    let later = json!({"properties": {"createdDateTime": "2099-01-01T00:00:00Z"}});
    let heir = company.guest("heir", later).await;
    // What people can choose for themselves: somebody else's name, address, and a sign-in name without "#EXT#".
    let chosen = unique("ceo-");
    let theirs = format!("{chosen}@contoso.test");
    let thief =
        json!({"name": "The Boss", "properties": {"mail": theirs, "userPrincipalName": theirs}});
    let _thief = company.guest("thief", thief).await;

    let nobody = Uuid::new_v4().to_string();
    let orphan = company.made_elsewhere(&nobody, &[]).await;
    let boss = company
        .made_elsewhere(
            &chosen,
            &[
                ("mail", &theirs),
                ("displayName", "The Boss"),
                ("description", &theirs),
            ],
        )
        .await;
    let unmarked = company
        .made_elsewhere(&unique("x-"), &[("userPrincipalName", &upn(&jane))])
        .await;
    let first_of_two = company.made_elsewhere(&twice.oid.to_string(), &[]).await;
    let second_of_two = company
        .made_elsewhere(
            &unique("two-"),
            &[
                ("userPrincipalName", &upn(&twice)),
                ("description", SCRIPT_2),
            ],
        )
        .await;
    let of_two = company
        .made_elsewhere(
            &Uuid::new_v4().to_string(),
            &[("userPrincipalName", &upn(&second))],
        )
        .await;
    let disabled = company
        .made_elsewhere(&off.oid.to_string(), &[("userAccountControl", "262690")])
        .await;
    let privileged = company.made_elsewhere(&admin.oid.to_string(), &[]).await;
    company.write(&privileged, "adminCount", "1").await;
    let unwanted = company.made_elsewhere(&left.oid.to_string(), &[]).await;
    let inherited = company
        .made_elsewhere(
            &unique("heir-"),
            &[
                ("userPrincipalName", &upn(&heir)),
                ("description", SCRIPT_2),
            ],
        )
        .await;
    let ruled = company.guest("ruled", json!({})).await;
    let owned = company
        .made_elsewhere(&ruled.oid.to_string(), &[("msDS-ObjectSoa", "Entra")])
        .await;
    let before = company.state().await;

    let plan = company.plan().await;
    assert_eq!(
        findings(&plan),
        found(&[
            (&owned, "owned"),
            (&orphan, "orphan"),
            (&boss, "orphan"),
            (&unmarked, "refused"),
            (&first_of_two, "double"),
            (&second_of_two, "double"),
            (&of_two, "double"),
            (&disabled, "refused"),
            (&privileged, "refused"),
            (&unwanted, "unwanted"),
            (&inherited, "refused"),
        ])
    );
    assert_eq!(
        lines(&plan),
        ["create new"],
        "for the thief, one of their own"
    );
    company.sync(&["apply", "--yes"], 0).await;
    let after = company.state().await;
    let untouched = |one: &&(String, String)| after.contains(*one);
    assert_eq!(before.iter().filter(untouched).count(), before.len());
    assert_eq!(after.len(), before.len() + 1);
}

#[tokio::test]
async fn privilege_that_only_a_closer_look_shows_stops_the_step() {
    let company = Company::new().await;
    company.adopt();
    let root = company.guest("root", json!({})).await;
    let account = company.made_elsewhere(&root.oid.to_string(), &[]).await;
    let group: Dn = "CN=Backup Operators,CN=Builtin,DC=contoso,DC=test"
        .parse()
        .unwrap();
    let session = company.ad.session().await.unwrap();
    let member = |dn: &Dn| dn.to_string().into_bytes();
    let put = Change::Add("member".parse().unwrap(), member(&account));
    session.modify(&group, vec![put]).await.unwrap();
    let said = company.sync(&["apply", "--yes"], 1).await;
    let take = Change::Delete("member".parse().unwrap(), member(&account));
    session.modify(&group, vec![take]).await.unwrap();
    assert!(said.contains("account-privileged"), "{said}");
    assert_eq!(company.account(&account).await.text(ANCHOR), None);
    // An administrator no more: now it goes to its person.
    company.sync(&["apply", "--yes"], 0).await;
    assert!(company.account(&account).await.text(ANCHOR).is_some());
}
