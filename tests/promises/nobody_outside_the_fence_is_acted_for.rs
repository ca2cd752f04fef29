//! For a security officer: sensitive, privileged, protected, disabled, locked and foreign accounts reach no
//! application, whatever the KDC would allow; and the application itself is the witness.

use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use kerbgate::ldap::Change;
use kerbgate::model::clock::Clock;
use serde_json::json;

use crate::directory::GUESTS;
use crate::directory::directory;
use crate::directory::dn;
use crate::guest_opens_kerberos_app::accounts_of;
use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Lab;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Answer;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

const OUTSIDE: [(&str, &str, &str); 4] = [
    ("sandra", "sandra.sensitive", "account-not-delegable"),
    ("priv", "admin.privileged", "account-privileged"),
    ("paula", "paula.protected", "account-protected"),
    ("dora", "dora.disabled", "account-disabled"),
];
/// Shadow accounts, as the gateway makes them.
const ENABLED: &str = "328192";
const DISABLED: &str = "328194";
const NEVER: &str = "0";
/// MS-ADTS 2.2.24: 2022.
const EXPIRED: &str = "133000000000000000";

fn visitor(lab: &Lab) -> Visitor {
    Visitor::new(&lab.facts.ca, Speaks::Http2)
}

async fn visit(stage: &Stage, login: &str, url: &str) -> Answer {
    visitor(stage.lab).open_as(login, url).await.unwrap()
}

/// The refusal as the visitor sees it: its status, and its code in header and page; nobody's name.
fn assert_refused(page: &Answer, code: &str, who: &str) {
    assert_eq!(page.status, 403, "{who}: {}", page.body);
    assert_eq!(page.header("kerbgate-reason"), code, "{who}");
    assert!(page.body.contains(code), "{who}: the page shows {code}");
    assert_eq!(page.remote_user(), "", "{who}");
}

/// The backend's own log of a request, with the 401 that asked for a ticket; of a refused one there is none.
fn arrival(lab: &Lab, page: &Answer) -> Option<String> {
    let id = page.header("kerbgate-request-id");
    assert!(!id.is_empty(), "every page of ours names its request");
    let log = lab.access_log();
    let tail = format!("id={id}");
    let lines: Vec<&str> = log.lines().filter(|line| line.ends_with(&tail)).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// An employee of the lab under a login of this test's own.
async fn employee(stage: &Stage, entra: &Entra, account: &str) -> String {
    let login = format!("{account}-{}@contoso.example", std::process::id());
    let sid = &stage.lab.facts.accounts.sids[account];
    let body = json!({"login": login, "like": "emma@contoso.example", "onprem_sid": sid});
    entra.control(http::Method::POST, "/people", body).await;
    login
}

async fn arrives(stage: &Stage, gateway: &Gateway, login: &str, account: &str) {
    for app in ["intranet", "timesheet"] {
        let page = visit(stage, login, &gateway.url(app, "/echo")).await;
        let expected = format!("{account}@CONTOSO.TEST");
        assert_eq!(page.remote_user(), expected, "{app}: {}", page.body);
        let wanted = format!("user={expected} ");
        eventually("the backend's log tells of the visitor", async || {
            arrival(stage.lab, &page).is_some_and(|line| line.contains(&wanted))
        })
        .await;
    }
}

#[tokio::test]
async fn each_kind_of_account_is_refused_with_its_reason() {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let before = stage.lab.access_log().len();
    let mut refused = Vec::new();
    for (login, account, code) in OUTSIDE {
        for app in ["intranet", "timesheet"] {
            let url = gateway.url(app, "/echo");
            let page = visit(&stage, &format!("{login}@contoso.example"), &url).await;
            assert_refused(&page, code, account);
            refused.push(page);
        }
    }
    // The controls come last: when the backend has told of them, it would have told of the others.
    arrives(&stage, &gateway, "emma@contoso.example", "emma.employee").await;
    let erik = employee(&stage, &entra, "erik.employee").await;
    arrives(&stage, &gateway, &erik, "erik.employee").await;
    for page in &refused {
        assert_eq!(arrival(stage.lab, page), None, "nobody arrived");
    }
    let log = stage.lab.access_log();
    for (_, account, _) in OUTSIDE {
        assert!(
            !log[before..].contains(&format!("user={account}")),
            "{account}"
        );
    }
    // Who was refused, and as whom they would have gone on, is on record.
    assert!(gateway.log().contains("account-protected"));
}

/// The fence would be no proof if the KDC refused anyway: in this lab it does not.
#[tokio::test]
async fn the_fence_stands_where_the_kdc_would_allow_it() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let facts = &stage.lab.facts;
    let cache = stage.path("kvno.cc");
    let mit = |program: &str, arguments: &[&str]| -> bool {
        let mut command: Command = stage.lab.mit_tool(program, &cache);
        command.args(arguments).output().unwrap().status.success()
    };
    let keytab = facts.keytabs.gateway.to_str().unwrap();
    assert!(mit("kinit", &["-f", "-k", "-t", keytab, "svc-gateway"]));
    for (login, account) in [("paula", "paula.protected"), ("priv", "admin.privileged")] {
        let spn = "HTTP/timesheet.contoso.test";
        let allowed = mit("kvno", &["-k", keytab, "-U", account, "-P", spn]);
        assert!(allowed, "the KDC of the lab gives a ticket for {account}");
        let url = gateway.url("timesheet", "/echo");
        let page = visit(&stage, &format!("{login}@contoso.example"), &url).await;
        assert_eq!(page.status, 403, "{account}: {}", page.body);
        assert_eq!(arrival(stage.lab, &page), None, "{account}");
    }
}

#[tokio::test]
async fn who_is_outside_account_bases_is_as_good_as_not_there() {
    let stage = Stage::new().await;
    let base = &stage.lab.facts.base_dn;
    let all = format!("[\"OU=Guests,{base}\", \"OU=Staff,{base}\", \"OU=Partners,{base}\"]");
    stage.replace("kerbgate.toml", &all, &format!("[\"OU=Guests,{base}\"]"));
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let url = gateway.url("intranet", "/echo");
    let page = visit(&stage, "emma@contoso.example", &url).await;
    assert_refused(&page, "account-missing", "emma");
    // A guest may not become somebody elsewhere either, not even with an administrator's SID in the token.
    let (login, oid) = entra.new_guest("fence", &["Intranet.User"]).await;
    let sid = &stage.lab.facts.accounts.sids["svc-gateway"];
    let body = json!({"onprem_sid": sid});
    let path = format!("/people/{login}");
    entra.control(http::Method::POST, &path, body).await;
    let foreign = visit(&stage, &login, &url).await;
    assert_refused(&foreign, "account-missing", "a service's SID");
    assert_eq!(accounts_of(&stage, &oid), Vec::<String>::new());
    // The control.
    let (login, oid) = entra.new_guest("inside", &["Intranet.User"]).await;
    let page = visit(&stage, &login, &url).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let sam = accounts_of(&stage, &oid);
    assert_eq!(page.remote_user(), format!("{}@CONTOSO.TEST", sam[0]));
    assert_eq!(arrival(stage.lab, &foreign), None);
}

#[tokio::test]
async fn what_happens_to_an_account_counts_within_cache() {
    let stage = Stage::new().await;
    stage.replace(
        "kerbgate.toml",
        "[mapping]\n",
        "[mapping]\ncache = \"1s\"\n",
    );
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let url = gateway.url("intranet", "/echo");
    let (login, oid) = entra.new_guest("falls", &["Intranet.User"]).await;
    let mut guest = visitor(stage.lab);
    let page = guest.open_as(&login, &url).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.body);
    let sam = accounts_of(&stage, &oid).remove(0);
    let account = dn(GUESTS).child("CN", &sam);
    let session = directory(stage.lab).session().await.unwrap();
    let now = Clock::System.unix();
    let locked = ((now + 11_644_473_600) * 10_000_000).to_string();
    for (attribute, value, healthy, code) in [
        ("userAccountControl", DISABLED, ENABLED, "account-disabled"),
        ("accountExpires", EXPIRED, NEVER, "account-expired"),
        ("lockoutTime", locked.as_str(), "0", "account-locked"),
    ] {
        let set = async |value: &str| {
            let values = vec![value.as_bytes().to_vec()];
            let change = Change::Replace(attribute.parse().unwrap(), values);
            session.modify(&account, vec![change]).await.unwrap();
        };
        set(value).await;
        let changed = Instant::now();
        let refused = loop {
            let page = guest.open(&url).await.unwrap();
            if page.status != 200 {
                break page;
            }
            // One second of `cache`; the rest is for a machine that is busy with other tests.
            let late = changed.elapsed() > Duration::from_secs(8);
            assert!(!late, "{code}: still let in after {:?}", changed.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_refused(&refused, code, &sam);
        assert_eq!(arrival(stage.lab, &refused), None, "{code}");
        set(healthy).await;
        let home = &url;
        let again = &guest;
        eventually("the person is let in again", async || {
            let mut guest = again.clone();
            guest.open(home).await.unwrap().status == 200
        })
        .await;
    }
}
