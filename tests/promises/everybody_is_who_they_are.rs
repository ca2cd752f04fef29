//! For every kind of person the tenant knows: one account, theirs, with what the directory and the applications
//! should read about them; and no name, however hostile, is more than a name.

use std::collections::BTreeSet;

use kerbgate::ldap::Entry;
use kerbgate::mapping::names;
use kerbgate::model::names::PersonId;
use serde_json::Value;

use crate::directory::GUESTS;
use crate::directory::directory;
use crate::directory::dn;
use crate::directory::entry;
use crate::guest_opens_kerberos_app::accounts_of;
use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::gateway::TENANT;
use crate::visitor::Answer;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

const INTRANET: &str = "CN=Intranet Users,OU=Guest Groups,DC=contoso,DC=test";
const TIMESHEET: &str = "CN=Timesheet Users,OU=Guest Groups,DC=contoso,DC=test";
const ATTRIBUTES: [&str; 10] = [
    "sAMAccountName",
    "userPrincipalName",
    "userAccountControl",
    "displayName",
    "mail",
    "company",
    "msDS-ExternalDirectoryObjectId",
    "adminDescription",
    "memberOf",
    "name",
];

/// What one person is, on premises and at the applications.
struct Seen {
    sam: String,
    entry: Entry,
    wiki: Answer,
}

async fn person(entra: &Entra, login: &str) -> Value {
    let all = entra
        .control(http::Method::GET, "/people", Value::Null)
        .await;
    let found = all
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["login"] == login);
    found.unwrap_or_else(|| panic!("{login}")).clone()
}

/// Opens intranet and wiki as `login`, who ends with exactly one account: the one that their id gives.
async fn visit(stage: &Stage, gateway: &Gateway, person: &Value) -> Seen {
    let login = person["login"].as_str().unwrap();
    let oid = person["oid"].as_str().unwrap();
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let page = visitor
        .open_as(login, &gateway.url("intranet", "/echo"))
        .await
        .unwrap();
    assert_eq!(page.status, 200, "{login}: {}", page.body);
    let accounts = accounts_of(stage, oid);
    let id = PersonId {
        tid: TENANT.parse().unwrap(),
        oid: oid.parse().unwrap(),
    };
    assert_eq!(accounts, [names::sam("kg-", id)], "{login}: one account");
    let sam = accounts[0].clone();
    assert_eq!(page.remote_user(), format!("{sam}@CONTOSO.TEST"), "{login}");
    let wiki = visitor.open(&gateway.url("wiki", "/echo")).await.unwrap();
    assert_eq!(wiki.remote_user(), sam, "{login}");
    assert_eq!(accounts_of(stage, oid), accounts, "{login}: still one");
    let ad = directory(stage.lab);
    let place = dn(GUESTS).child("CN", &sam);
    let entry = entry(&ad, &place, &ATTRIBUTES).await;
    Seen {
        sam,
        entry: entry.expect("the account lies in the guests' OU"),
        wiki,
    }
}

/// RFC 3986 2.1.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        if *first == b'%' {
            let digits = std::str::from_utf8(&more[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &more[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn header<'a>(wiki: &'a Value, name: &str) -> Option<&'a str> {
    match &wiki["headers"][name] {
        Value::String(text) => Some(text),
        Value::Array(values) => {
            assert_eq!(values.len(), 1, "{name} once");
            values[0].as_str()
        }
        _ => None,
    }
}

fn assert_is(person: &Value, seen: &Seen) {
    let login = person["login"].as_str().unwrap();
    let named = login != "noname@fabrikam.example";
    let text = |name: &str| seen.entry.text(name);
    let anchor = format!("User_{}", person["oid"].as_str().unwrap());
    assert_eq!(text("sAMAccountName"), Some(seen.sam.as_str()));
    assert_eq!(text("userAccountControl"), Some("328192"), "{login}");
    for attribute in ["msDS-ExternalDirectoryObjectId", "adminDescription"] {
        assert_eq!(text(attribute), Some(anchor.as_str()), "{login}");
    }
    let name = person["name"].as_str().unwrap();
    let clipped = names::clip(name, 256).unwrap();
    assert_eq!(text("displayName"), Some(clipped.as_str()), "{login}");
    let mail = person["mail"].as_str().filter(|_| named);
    assert_eq!(text("mail"), mail, "{login}");
    // The cloud's own name where the token tells it, else one that is surely unique.
    let own = format!("{}@contoso.test", seen.sam);
    let upn = person["upn"].as_str().filter(|_| named).unwrap_or(&own);
    assert_eq!(text("userPrincipalName"), Some(upn), "{login}");
    // The roles of the token are the memberships of the account, and there are no others.
    let roles = person["roles"].as_array().unwrap();
    let wanted: BTreeSet<&str> = [("Intranet.User", INTRANET), ("Timesheet.User", TIMESHEET)]
        .into_iter()
        .filter(|(role, _)| roles.iter().any(|one| one == role))
        .map(|(_, group)| group)
        .collect();
    let member_of: BTreeSet<&str> = seen.entry.texts("memberOf").collect();
    assert_eq!(member_of, wanted, "{login}");
    // The header application reads the same person.
    let wiki = seen.wiki.json();
    assert_eq!(header(&wiki, "x-remote-user"), Some(seen.sam.as_str()));
    let shown = header(&wiki, "x-remote-name").unwrap();
    assert!(shown.bytes().all(|b| (b' '..=b'~').contains(&b)), "{shown}");
    assert_eq!(decoded(shown), name, "{login}");
    let email = header(&wiki, "x-remote-email").map(decoded);
    assert_eq!(email.as_deref(), mail, "{login}");
    let sent = header(&wiki, "x-remote-roles").unwrap();
    let sent: BTreeSet<&str> = sent.split(',').filter(|role| !role.is_empty()).collect();
    let had: BTreeSet<&str> = roles.iter().filter_map(Value::as_str).collect();
    assert_eq!(sent, had, "{login}");
}

#[tokio::test]
async fn guests_of_every_kind_have_one_account_each() {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut accounts = BTreeSet::new();
    for (login, company) in [
        (
            "jane@fabrikam.example",
            Some("bbbbbbbb-0000-4000-8000-00000000000b"),
        ),
        ("marco@outlook.example", Some("live.com")),
        ("olga@otp.example", Some("mail")),
        (
            "noname@fabrikam.example",
            Some("bbbbbbbb-0000-4000-8000-00000000000b"),
        ),
        (
            "member@fabrikam.example",
            Some("bbbbbbbb-0000-4000-8000-00000000000b"),
        ),
        (
            "clash1@fabrikam.example",
            Some("bbbbbbbb-0000-4000-8000-00000000000b"),
        ),
        (
            "clash2@fabrikam.example",
            Some("bbbbbbbb-0000-4000-8000-00000000000b"),
        ),
    ] {
        let person = person(&entra, login).await;
        let seen = visit(&stage, &gateway, &person).await;
        assert_is(&person, &seen);
        assert_eq!(seen.entry.text("company"), company, "{login}");
        assert!(accounts.insert(seen.sam), "{login} has somebody's account");
    }
}

#[tokio::test]
async fn an_employee_has_no_second_account() {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let emma = person(&entra, "emma@contoso.example").await;
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let page = visitor
        .open_as("emma@contoso.example", &gateway.url("intranet", "/echo"))
        .await
        .unwrap();
    assert_eq!(page.remote_user(), "emma.employee@CONTOSO.TEST");
    let wiki = visitor.open(&gateway.url("wiki", "/echo")).await.unwrap();
    assert_eq!(wiki.remote_user(), "emma.employee");
    assert_eq!(
        header(&wiki.json(), "x-remote-name"),
        Some("Emma Employee"),
        "{}",
        wiki.body
    );
    let oid = emma["oid"].as_str().unwrap();
    assert_eq!(accounts_of(&stage, oid), Vec::<String>::new());
}

#[tokio::test]
async fn a_guest_in_too_many_groups_is_admitted_by_the_one_that_counts() {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let oscar = person(&entra, "overage@fabrikam.example").await;
    let seen = visit(&stage, &gateway, &oscar).await;
    assert_is(&oscar, &seen);
    // The token names 250 groups by reference only; what Graph no longer says no longer counts.
    let body = serde_json::json!({
        "login": format!("over-{}@fabrikam.example", std::process::id()),
        "like": "overage@fabrikam.example", "name": "Olaf Overage",
        "groups": (1..=250).map(|n| format!("99999999-0000-4000-8000-0000002{n:05}")).collect::<Vec<_>>(),
    });
    let olaf = entra.control(http::Method::POST, "/people", body).await;
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let page = visitor
        .open_as(
            olaf["login"].as_str().unwrap(),
            &gateway.url("intranet", "/echo"),
        )
        .await
        .unwrap();
    assert_eq!(
        page.header("kerbgate-reason"),
        "not-allowed",
        "{}",
        page.body
    );
    let oid = olaf["oid"].as_str().unwrap();
    assert_eq!(accounts_of(&stage, oid), Vec::<String>::new());
}

#[tokio::test]
async fn a_hostile_name_is_only_a_name() {
    let stage = Stage::new().await;
    stage.publish("refusing");
    stage.publish("undelegated");
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let hostile = person(&entra, "hostile@fabrikam.example").await;
    let name = hostile["name"].as_str().unwrap();
    assert_eq!(name.chars().count(), 300);
    assert!(name.contains("<script>") && name.contains("*)(uid=*"));
    let seen = visit(&stage, &gateway, &hostile).await;
    assert_is(&hostile, &seen);
    // The name decides nothing about where the account lies.
    assert_eq!(seen.entry.text("name"), Some(seen.sam.as_str()));
    // Our own pages: a refusal and the sign-out, signed in as them.
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    for path in ["/echo", "/.kerbgate/signout", "/.kerbgate/signin"] {
        let url = gateway.url("undelegated", path);
        let page = visitor
            .open_as("hostile@fabrikam.example", &url)
            .await
            .unwrap();
        assert!(!page.body.contains("<script>alert"), "{path}");
        assert!(!page.body.contains("<b>bold</b>"), "{path}");
    }
    // A log line stays one line, and is JSON: the name cannot write another.
    let records = gateway.log();
    let broken: Vec<&str> = records
        .lines()
        .filter(|line| line.starts_with('{'))
        .filter(|line| serde_json::from_str::<Value>(line).is_err())
        .collect();
    assert_eq!(broken, Vec::<&str>::new());
}
