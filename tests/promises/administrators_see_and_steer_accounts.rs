//! For an administrator: `kerbgate accounts` shows who there is, lays one account to rest and brings it back, touches nothing
//! that is not Kerbgate's, and leaves a trace of each step.

use std::process::Output;

use kerbgate::ldap::Directory;
use kerbgate::ldap::Entry;
use serde_json::Value;

use crate::directory::GUESTS;
use crate::directory::add_user;
use crate::directory::directory;
use crate::directory::dn;
use crate::directory::entry;
use crate::directory::remove;
use crate::directory::unique;
use crate::guest_opens_kerberos_app::accounts_of;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::lab::gateway::TENANT;
use crate::lab::kerbgate;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

const RESTING: &str = "OU=Disabled Guests,DC=contoso,DC=test";
const INTRANET_USERS: &str = "CN=Intranet Users,OU=Guest Groups,DC=contoso,DC=test";

type Attributes = &'static [(&'static str, &'static str)];

async fn stage() -> Stage {
    let stage = Stage::new().await;
    stage.replace("kerbgate.toml", "[mapping]", "[mapping]\ncache = \"1s\"");
    stage.replace("kerbgate.toml", "[directory]", "[directory]\npage_size = 2");
    stage.append("kerbgate.toml", "[log]\nfile = \"audit.log\"\n");
    stage
}

async fn run(stage: &Stage, arguments: &[&str]) -> Output {
    let mut command = kerbgate();
    command
        .arg("accounts")
        .args(arguments)
        .arg("--config")
        .arg(stage.path("kerbgate.toml"))
        .env("USER", "anna.admin")
        .env_remove("SUDO_USER")
        .stdin(std::process::Stdio::null());
    tokio::process::Command::from(command)
        .output()
        .await
        .unwrap()
}

/// What it wrote; it must have ended with `code`.
async fn accounts(stage: &Stage, arguments: &[&str], code: i32) -> String {
    let done = run(stage, arguments).await;
    let (out, err) = (
        String::from_utf8(done.stdout).unwrap(),
        String::from_utf8_lossy(&done.stderr).into_owned(),
    );
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {out}{err}");
    if code == 0 { out } else { err }
}

async fn json(stage: &Stage, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    serde_json::from_str(&accounts(stage, &all, 0).await).unwrap()
}

async fn read(ad: &Directory, sam: &str, ou: &str) -> Option<Entry> {
    let wanted = ["userAccountControl", "objectSid", "memberOf", "info"];
    entry(ad, &dn(ou).child("CN", sam), &wanted).await
}

/// A new guest who has been in the intranet: browser, login, object id, account.
async fn settled(stage: &Stage, gateway: &Gateway, login: &str, oid: &str) -> (Visitor, String) {
    let mut guest = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let page = guest
        .open_as(login, &gateway.url("intranet", "/echo"))
        .await
        .unwrap();
    assert_eq!(page.status, 200, "{}", page.body);
    let sam = accounts_of(stage, oid).pop().unwrap();
    (guest, sam)
}

#[tokio::test]
async fn a_disabled_guest_is_out_and_a_restored_one_is_the_same_as_before() {
    let stage = stage().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let ad = directory(stage.lab);
    let (login, oid) = entra.new_guest("steered", &["Intranet.User"]).await;
    let (mut guest, sam) = settled(&stage, &gateway, &login, &oid).await;
    let before = read(&ad, &sam, GUESTS).await.unwrap();
    let person = format!("{TENANT}/{oid}");

    // By whatever name one has at hand, it is the same account.
    let shown = json(&stage, &["show", &sam]).await;
    let upn = shown["account"]["upn"].as_str().unwrap().to_owned();
    for name in [&person, &oid, &format!("User_{oid}"), &upn] {
        let other = json(&stage, &["show", name]).await;
        assert_eq!(other["account"]["sam"], sam.as_str(), "{name}");
    }
    let account = &shown["account"];
    assert_eq!(account["person"], person.as_str());
    assert_eq!(account["state"], "enabled");
    assert_eq!(account["sign_ins"], 1);
    assert!(account["last_used"].is_string() && account["created"].is_string());
    assert_eq!(account["groups"][0], INTRANET_USERS);
    assert_eq!(account["sid"], before.sid("objectSid").unwrap().to_string());
    let history = shown["history"].to_string();
    assert!(history.contains("account-made"), "{history}");

    // Nobody to ask, nobody who said yes: nothing happens.
    let said = accounts(&stage, &["disable", &sam], 5).await;
    assert!(said.contains("--yes"), "{said}");
    assert!(read(&ad, &sam, GUESTS).await.is_some());

    let order = ["disable", &oid, "--yes", "--reason", "has left"];
    let done = json(&stage, &order).await;
    assert_eq!(
        (&done["changed"], &done["ended"]),
        (&true.into(), &1.into())
    );
    let resting = read(&ad, &sam, RESTING).await.expect("moved");
    let control = |entry: &Entry| entry.number("userAccountControl").unwrap();
    assert_eq!(control(&resting), control(&before) | 2);
    assert!(resting.values("memberOf").is_empty(), "the managed group");
    assert_eq!(resting.sid("objectSid"), before.sid("objectSid"));
    let mark = &done["account"]["disabled"];
    assert_eq!(
        (&mark["by"], &mark["why"]),
        (&"anna.admin".into(), &"has left".into())
    );
    let again = json(&stage, &order).await;
    assert_eq!(again["changed"], false, "done twice is done once");

    // The running gateway notices by itself, and says why.
    let url = gateway.url("intranet", "/echo");
    let denied = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    eventually("the old session leads nowhere", async || {
        let page = guest.clone().open_as(&login, &url).await.unwrap();
        page.body.contains("account-disabled")
    })
    .await;
    let page = denied.clone().open_as(&login, &url).await.unwrap();
    assert_eq!(page.status, 403);
    assert!(page.body.contains("account-disabled"), "{}", page.body);

    let done = json(&stage, &["restore", &upn, "--yes"]).await;
    assert_eq!(
        (&done["changed"], &done["account"]["state"]),
        (&true.into(), &"enabled".into())
    );
    let after = read(&ad, &sam, GUESTS).await.expect("back where it was");
    assert_eq!(control(&after), control(&before));
    assert_eq!(after.sid("objectSid"), before.sid("objectSid"));
    assert_eq!(after.values("memberOf"), before.values("memberOf"));
    assert!(after.values("info").is_empty(), "no note of ours is left");
    eventually("in again", async || {
        let page = guest.clone().open_as(&login, &url).await.unwrap();
        page.status == 200
    })
    .await;
    let page = guest.open_as(&login, &url).await.unwrap();
    let principal = format!("{sam}@CONTOSO.TEST");
    assert_eq!(
        page.remote_user(),
        principal,
        "{} {}",
        page.status,
        page.body
    );

    // Each step is on record, with who and why.
    let shown = json(&stage, &["show", &sam]).await;
    let history = shown["history"].to_string();
    for part in [
        "account-disabled",
        "account-restored",
        "by=anna.admin",
        "reason=has left",
    ] {
        assert!(history.contains(part), "{part}: {history}");
    }
    let told = accounts(&stage, &["show", &sam], 0).await;
    assert!(
        told.contains("account-restored") && told.contains(&person),
        "{told}"
    );

    // Forgetting is about the store alone.
    let done = json(&stage, &["forget", &sam, "--yes"]).await;
    assert_eq!(done["person"], person.as_str());
    assert!(done["ended"].as_u64().unwrap() >= 1);
    assert!(read(&ad, &sam, GUESTS).await.is_some());
    eventually("the next visit finds it again", async || {
        let page = guest.clone().open_as(&login, &url).await.unwrap();
        page.remote_user() == format!("{sam}@CONTOSO.TEST")
    })
    .await;
    assert_eq!(accounts_of(&stage, &oid), [sam]);
}

#[tokio::test]
async fn hostile_names_are_written_out_and_no_page_is_left_out() {
    let stage = stage().await;
    let ad = directory(stage.lab);
    let mut made = Vec::new();
    for n in 0..5 {
        let sam = unique("list-");
        let anchor = format!("User_{}", uuid::Uuid::new_v4());
        let who = dn(GUESTS).child("CN", &sam);
        let attributes = [
            ("sAMAccountName", sam.as_str()),
            ("userAccountControl", "546"),
            ("msDS-ExternalDirectoryObjectId", &anchor),
            (
                "displayName",
                "Eve \u{1b}[2J\u{202e}gpj.exe\r\nkg-all  enabled",
            ),
        ];
        add_user(&ad, &who, &attributes[..4 - usize::from(n > 1)]).await;
        made.push((who, sam, anchor));
    }
    let list = json(&stage, &["list"]).await;
    let raw = accounts(&stage, &["list"], 0).await;
    let safe = accounts(&stage, &["list", "--json"], 0).await;
    let shown = accounts(&stage, &["show", &made[0].1], 0).await;
    for (who, sam, anchor) in &made {
        let all = list["accounts"].as_array().unwrap();
        let hits: Vec<_> = all
            .iter()
            .filter(|one| one["sam"] == sam.as_str())
            .collect();
        assert_eq!(hits.len(), 1, "{sam}");
        assert_eq!(hits[0]["anchor"], anchor.as_str());
        assert_eq!(hits[0]["state"], "disabled");
        assert!(raw.contains(sam.as_str()));
        remove(&ad, who).await;
    }
    for text in [&raw, &safe, &shown] {
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(bad), "{text:?}");
    }
    assert!(
        shown.contains(r"\u{1b}[2J\u{202e}gpj.exe\u{d}\u{a}kg-all"),
        "{shown}"
    );
    assert!(safe.contains(r"\u202e"), "{safe}");
}

#[tokio::test]
async fn what_is_not_kerbgates_is_left_alone() {
    let stage = stage().await;
    let ad = directory(stage.lab);
    let step = ["--yes", "--json"];
    let nobody = uuid::Uuid::new_v4().to_string();
    // An employee lies elsewhere, whatever is asked for.
    for name in ["emma.employee", &nobody, "*", "emma.employee@contoso.test"] {
        for verb in ["disable", "restore", "show"] {
            let more = if verb == "show" {
                &step[1..]
            } else {
                &step[..]
            };
            let said = accounts(&stage, &[&[verb, name], more].concat(), 3).await;
            assert!(said.contains("no shadow account"), "{said}");
        }
    }
    let attributes: [(&str, Attributes); 3] = [
        ("has no anchor", &[]),
        (
            "adminCount is set",
            &[
                ("msDS-ExternalDirectoryObjectId", "anchor"),
                ("adminCount", "1"),
            ],
        ),
        (
            "msDS-ObjectSoa",
            &[
                ("msDS-ExternalDirectoryObjectId", "anchor"),
                ("msDS-ObjectSoa", "Entra"),
            ],
        ),
    ];
    for (why, more) in attributes {
        let sam = unique("alien-");
        let who = dn(GUESTS).child("CN", &sam);
        let anchor = format!("User_{}", uuid::Uuid::new_v4());
        let mut all = vec![
            ("sAMAccountName", sam.as_str()),
            ("userAccountControl", "544"),
        ];
        all.extend(more.iter().map(|(name, value)| {
            (
                *name,
                if *value == "anchor" {
                    anchor.as_str()
                } else {
                    *value
                },
            )
        }));
        add_user(&ad, &who, &all).await;
        for verb in ["disable", "restore"] {
            let said = accounts(&stage, &[verb, &sam, "--yes"], 4).await;
            assert!(said.contains(why), "{said}");
        }
        let untouched = read(&ad, &sam, GUESTS).await.expect("where it was");
        assert_eq!(untouched.number("userAccountControl"), Some(544), "{why}");
        remove(&ad, &who).await;
    }
    // Nothing is remembered before there is a gateway, and nothing is made by asking.
    let said = accounts(
        &stage,
        &["forget", &format!("{TENANT}/{nobody}"), "--yes"],
        1,
    )
    .await;
    assert!(said.contains("no store yet"), "{said}");
    assert!(!stage.path("state/kerbgate.db").exists());
}
