//! Pages as Graph writes them, and as it should not.

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::graph::record::Change;
use crate::graph::record::DeletedUser;
use crate::graph::record::GroupState;
use crate::graph::record::Kind;
use crate::graph::record::Removal;
use crate::graph::record::Told;
use crate::graph::record::UserState;

const ID: &str = "11111111-0000-4000-8000-000000000001";
const NEXT: &str = "https://graph.microsoft.com/v1.0/users/delta?$skiptoken=a";
const DELTA: &str = "https://graph.microsoft.com/v1.0/users/delta?$deltatoken=b";

fn base() -> Url {
    Url::parse("https://graph.microsoft.com/v1.0").unwrap()
}

fn users(body: &Value) -> Result<Page<Change<UserState>>, Error> {
    parse(body.to_string().as_bytes(), "users/delta", &base(), true)
}

fn one(entry: &Value) -> Change<UserState> {
    let page = users(&json!({"value": [entry], "@odata.deltaLink": DELTA})).unwrap();
    page.rows.into_iter().next().unwrap()
}

#[test]
fn what_is_not_mentioned_is_not_what_is_empty() {
    let Change::Now(user) = one(&json!({"id": ID, "mail": null, "userType": "Guest"})) else {
        panic!("removed");
    };
    assert_eq!(user.mail, Told::Empty);
    assert_eq!(user.user_type, Told::Value("Guest".to_owned()));
    assert_eq!(user.display_name, Told::Nothing);
    assert_eq!(user.account_enabled, Told::Nothing);
    let mut known = Told::Value(1);
    known.learn(Told::Nothing);
    assert_eq!(known, Told::Value(1));
    known.learn(Told::Empty);
    assert_eq!(known, Told::Empty);
}

#[test]
fn removals_say_whether_they_can_be_undone() {
    let id: Uuid = ID.parse().unwrap();
    let removed = |reason: &str| one(&json!({"id": ID, "@removed": {"reason": reason}}));
    assert_eq!(removed("changed"), Change::Removed(id, Removal::Changed));
    assert_eq!(removed("deleted"), Change::Removed(id, Removal::Deleted));
    let strange =
        json!({"value": [{"id": ID, "@removed": {"reason": "moved"}}], "@odata.deltaLink": DELTA});
    assert!(matches!(users(&strange), Err(Error::Page { .. })));
}

#[test]
fn members_of_a_group_come_and_go() {
    let body = json!({"@odata.context": "x", "@odata.deltaLink": DELTA, "value": [{
    "id": ID, "displayName": "Partners", "members@delta": [
        {"@odata.type": "#microsoft.graph.user", "id": ID},
        {"@odata.type": "#microsoft.graph.group", "id": ID},
        {"@odata.type": "#microsoft.graph.device", "id": ID},
        {"id": ID, "@removed": {"reason": "deleted"}},
    ]}]});
    let body = body.to_string();
    let page: Page<Change<GroupState>> =
        parse(body.as_bytes(), "groups/delta", &base(), true).unwrap();
    let [Change::Now(group)] = page.rows.as_slice() else {
        panic!("{page:?}");
    };
    let kinds: Vec<_> = group.members.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [Kind::User, Kind::Group, Kind::Other, Kind::Other]);
    assert!(group.members[3].removed.is_some());
}

#[test]
fn half_a_page_is_no_page() {
    let whole = json!({"value": [{"id": ID}], "@odata.nextLink": NEXT}).to_string();
    for end in 0..whole.len() {
        let page: Result<Page<Change<UserState>>, _> =
            parse(&whole.as_bytes()[..end], "users/delta", &base(), true);
        assert!(page.is_err(), "{end}");
    }
    for body in [
        json!({"value": [{"id": ID}]}),
        json!({"@odata.deltaLink": DELTA}),
        json!({"value": null, "@odata.deltaLink": DELTA}),
        json!({"value": [], "@odata.nextLink": NEXT, "@odata.deltaLink": DELTA}),
        json!({"value": [{"id": "jane"}], "@odata.deltaLink": DELTA}),
        json!({"value": [{"displayName": "no id"}], "@odata.deltaLink": DELTA}),
        json!({"value": [{"id": ID, "accountEnabled": "false"}], "@odata.deltaLink": DELTA}),
        json!({"error": {"code": "x"}}),
        json!([]),
    ] {
        assert!(matches!(users(&body), Err(Error::Page { .. })), "{body}");
    }
    let foreign = json!({"value": [], "@odata.nextLink": "https://evil.example/v1.0/users"});
    assert!(matches!(users(&foreign), Err(Error::ForeignLink(_))));
    let secret =
        users(&json!({"value": [{"id": "jane@fabrikam.example"}], "@odata.deltaLink": DELTA}));
    let told = secret.unwrap_err().to_string();
    assert!(!told.contains("jane"), "an error names nobody: {told}");
}

#[test]
fn an_empty_page_in_the_middle_is_a_page() {
    let page = users(&json!({"value": [], "@odata.nextLink": NEXT})).unwrap();
    assert!(page.rows.is_empty());
    assert!(matches!(page.then, Then::Page(link) if link.as_str() == NEXT));
}

#[test]
fn the_deleted_come_with_their_date() {
    let body = json!({"value": [
        {"id": ID, "deletedDateTime": "2026-11-01T10:00:00Z", "userType": "Guest"}, {"id": ID}]});
    let body = body.to_string();
    let page: Page<DeletedUser> = parse(body.as_bytes(), "deletedItems", &base(), false).unwrap();
    let dates: Vec<_> = page
        .rows
        .iter()
        .map(|one| {
            one.deleted_date_time
                .map(time::OffsetDateTime::unix_timestamp)
        })
        .collect();
    assert_eq!(dates, [Some(1_793_527_200), None]);
    assert_eq!(page.then, Then::End);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!(ID)),
        Just(json!(NEXT)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![
            Just("id".to_owned()),
            Just("value".to_owned()),
            Just("@removed".to_owned()),
            Just("reason".to_owned()),
            Just("mail".to_owned()),
            Just("@odata.nextLink".to_owned()),
            "[a-zA-Z@.]{1,8}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let page: Result<Page<Change<UserState>>, _> = parse(&body, "users/delta", &base(), true);
        prop_assert!(page.is_err());
    }

    #[test]
    fn any_json_is_a_whole_page_or_none(rows in prop::collection::vec(any_json(), 0..3)) {
        let count = rows.len();
        if let Ok(page) = users(&json!({"value": rows, "@odata.deltaLink": DELTA})) {
            prop_assert_eq!(page.rows.len(), count, "no row is dropped silently");
        }
    }

    #[test]
    fn whatever_a_name_is_it_arrives(name in any::<String>()) {
        let told = one(&json!({"id": ID, "displayName": name}));
        let Change::Now(user) = told else { panic!("removed") };
        prop_assert_eq!(user.display_name.value(), Some(&name));
    }
}
