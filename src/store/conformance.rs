//! The promises of [`Store`], kept by every implementation.

use std::sync::Arc;

use super::Store;
use super::records::AccountLink;
use super::records::AcmeKind;
use super::records::AcmeRecord;
use super::records::Changed;
use super::records::EndReason;
use super::records::HandOver;
use super::records::IdHash;
use super::records::KeepLimits;
use super::records::KeptForm;
use super::records::Lease;
use super::records::Login;
use super::records::Pending;
use super::records::Renewal;
use super::records::Seen;
use super::records::Session;
use super::records::SignIn;
use super::records::TakenLogin;
use super::records::Touch;
use super::records::Whose;
use super::sqlite::SqliteStore;
use crate::model::claims::Claims;
use crate::model::claims::Groups;
use crate::model::claims::Home;
use crate::model::names::PersonId;
use uuid::Uuid;

fn claims(oid: u128) -> Claims {
    Claims {
        person: PersonId {
            tid: Uuid::from_u128(1),
            oid: Uuid::from_u128(oid),
        },
        home: Home::Tenant(Uuid::from_u128(2)),
        guest: Some(true),
        display_name: Some("Жанна \"O'Neil\" <script>; DROP TABLE session".to_owned()),
        given_name: None,
        family_name: None,
        email: None,
        upn: None,
        preferred_username: None,
        roles: vec!["Intranet.User".to_owned()],
        groups: Groups::Overage,
        onprem_sid: None,
        session_id: Some(format!("sid-{oid}")),
        login_hint: None,
    }
}

fn sign_in(id: u128, oid: u128) -> SignIn {
    SignIn {
        id: Uuid::from_u128(id),
        claims: claims(oid),
        refresh_token: Some("v1.k.sealed".to_owned()),
        created: 100,
        checked: 100,
        expires: 1000,
        ended: None,
    }
}

fn session(name: &str, sign_in: u128) -> Session {
    Session {
        hash: IdHash::of(name),
        sign_in: Uuid::from_u128(sign_in),
        host: "intranet.example.com".parse().unwrap(),
        created: 100,
        last_seen: 100,
        idle_until: 400,
        expires: 1000,
    }
}

fn pending(name: &str, browser: &str, created: i64) -> Pending {
    Pending {
        hash: IdHash::of(name),
        browser: IdHash::of(browser),
        host: "intranet.example.com".parse().unwrap(),
        origin: "https://intranet.example.com:8443".to_owned(),
        target: "/a?b=c%20d".to_owned(),
        attempt: 1,
        created,
        expires: created + 600,
    }
}

async fn sign_ins_and_sessions(store: Arc<dyn Store>) {
    store.add_sign_in(&sign_in(1, 11)).await.unwrap();
    store.add_sign_in(&sign_in(2, 11)).await.unwrap();
    store.add_sign_in(&sign_in(3, 12)).await.unwrap();
    for (name, of) in [("a", 1), ("b", 1), ("c", 2), ("d", 3)] {
        store.add_session(&session(name, of)).await.unwrap();
    }
    let (found, of) = store.session(&IdHash::of("a")).await.unwrap().unwrap();
    assert_eq!((found, of), (session("a", 1), sign_in(1, 11)));
    assert!(store.session(&IdHash::of("x")).await.unwrap().is_none());
    assert!(
        store.add_session(&session("a", 1)).await.is_err(),
        "an id once"
    );
    assert!(
        store.add_session(&session("e", 99)).await.is_err(),
        "no sign-in"
    );

    let used = |name, last_seen| Touch {
        hash: IdHash::of(name),
        last_seen,
        idle_until: last_seen + 300,
    };
    store.touch_sessions(&[used("a", 200)]).await.unwrap();
    let later = [used("gone", 150), used("a", 150), used("b", 170)];
    store.touch_sessions(&later).await.unwrap();
    let (found, _) = store.session(&IdHash::of("b")).await.unwrap().unwrap();
    assert_eq!((found.last_seen, found.idle_until), (170, 470));
    let (found, _) = store.session(&IdHash::of("a")).await.unwrap().unwrap();
    assert_eq!(
        (found.last_seen, found.idle_until),
        (200, 500),
        "never backwards"
    );

    renewing_and_ending(store).await;
}

async fn renewing_and_ending(store: Arc<dyn Store>) {
    let renewal = Renewal {
        id: Uuid::from_u128(1),
        claims: Claims {
            roles: vec![],
            ..claims(11)
        },
        refresh_token: None,
        checked: 300,
    };
    let before = store.news_since(None).await.unwrap().revision;
    assert!(store.renew_sign_in(&renewal).await.unwrap());
    let renewed = store.sign_in(Uuid::from_u128(1)).await.unwrap().unwrap();
    assert_eq!((renewed.checked, renewed.claims.roles.len()), (300, 0));
    assert_eq!(renewed.refresh_token, None);

    let person = Whose::Person(claims(11).person);
    let mut ended = store
        .end_sign_ins(&person, EndReason::PersonDisabled, 350)
        .await
        .unwrap();
    ended.sort_by_key(|ended| ended.sign_in);
    let shape: Vec<_> = ended
        .iter()
        .map(|e| (e.sign_in.as_u128(), e.sessions.len()))
        .collect();
    assert_eq!(shape, [(1, 2), (2, 1)]);
    let again = store
        .end_sign_ins(&person, EndReason::SignOut, 360)
        .await
        .unwrap();
    assert!(again.is_empty(), "ended once");
    let (_, of) = store.session(&IdHash::of("c")).await.unwrap().unwrap();
    assert_eq!(of.ended, Some((350, EndReason::PersonDisabled)));
    assert_eq!(of.refresh_token, None, "a dead sign-in keeps no token");
    assert!(
        !store.renew_sign_in(&renewal).await.unwrap(),
        "the dead stay dead"
    );

    // Renewed, then ended with another; that the dead stayed dead is no news.
    let [one, two] = [1, 2].map(|id| Changed::SignIn(Uuid::from_u128(id)));
    let mut news = store.news_since(Some(before)).await.unwrap();
    if let [_, ended @ ..] = news.changed.as_mut_slice() {
        ended.sort_by_key(|changed| format!("{changed:?}"));
    }
    assert_eq!(news.changed, [one, one, two]);
    assert!(news.whole && !news.more);

    let by_sid = Whose::IssuerSession("sid-12".to_owned());
    let ended = store
        .end_sign_ins(&by_sid, EndReason::IssuerSignOut, 370)
        .await
        .unwrap();
    assert_eq!(ended.len(), 1);
    let one = Whose::SignIn(Uuid::from_u128(3));
    assert!(
        store
            .end_sign_ins(&one, EndReason::SignOut, 380)
            .await
            .unwrap()
            .is_empty()
    );
    store.remove_session(&IdHash::of("d")).await.unwrap();
    assert!(store.session(&IdHash::of("d")).await.unwrap().is_none());
    let later = store.news_since(Some(news.revision)).await.unwrap();
    let three = Changed::SignIn(Uuid::from_u128(3));
    assert_eq!(later.changed, [three, Changed::Session(IdHash::of("d"))]);
    let latest = store.news_since(None).await.unwrap();
    assert_eq!((later.revision, latest.changed), (latest.revision, vec![]));
    let none = store.news_since(Some(latest.revision)).await.unwrap();
    assert!(none.whole && none.changed.is_empty());
    let older_copy = store.news_since(Some(latest.revision + 1)).await.unwrap();
    assert!(!older_copy.whole, "the store knows less than was told");
}

async fn one_use_secrets(store: Arc<dyn Store>) {
    store.add_sign_in(&sign_in(50, 51)).await.unwrap();
    let login = Login {
        hash: IdHash::of("state"),
        pending: IdHash::of("p"),
        browser: IdHash::of("b"),
        nonce: "n".to_owned(),
        verifier: "v1.k.sealed".to_owned(),
        issuer: "https://i/".to_owned(),
        expires: 500,
    };
    store.add_login(&login).await.unwrap();
    let code = HandOver {
        hash: IdHash::of("code"),
        sign_in: Uuid::from_u128(50),
        pending: IdHash::of("p"),
        expires: 500,
    };
    store.add_hand_over(&code).await.unwrap();
    // Twenty callers at once: one wins.
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let login = store.take_login(&IdHash::of("state"), 200).await.unwrap();
            let code = store
                .take_hand_over(&IdHash::of("code"), 200)
                .await
                .unwrap();
            (login, code)
        });
    }
    let results = callers.join_all().await;
    let fresh = results
        .iter()
        .filter(|(login, _)| matches!(login, TakenLogin::Fresh(_)))
        .count();
    let codes = results.iter().filter(|(_, code)| code.is_some()).count();
    assert_eq!((fresh, codes), (1, 1));
    assert!(
        results
            .iter()
            .any(|(found, _)| *found == TakenLogin::Used(login.clone()))
    );
    let late = store.take_login(&IdHash::of("state"), 500).await.unwrap();
    assert_eq!(late, TakenLogin::Unknown);
    store.add_hand_over(&code).await.unwrap();
    assert!(
        store
            .take_hand_over(&IdHash::of("code"), 500)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .take_hand_over(&IdHash::of("code"), 1)
            .await
            .unwrap()
            .is_none()
    );
}

async fn pending_sign_ins_are_bounded(store: Arc<dyn Store>) {
    for n in 0..12 {
        let name = format!("tab-{n}");
        store
            .add_pending(&pending(&name, "browser", 100 + n), 10, 1000)
            .await
            .unwrap();
    }
    let held = |name: &'static str| {
        let store = Arc::clone(&store);
        async move { store.pending(&IdHash::of(name), 200).await.unwrap() }
    };
    assert!(held("tab-0").await.is_none() && held("tab-1").await.is_none());
    assert_eq!(held("tab-2").await, Some(pending("tab-2", "browser", 102)));
    assert!(
        store
            .pending(&IdHash::of("tab-11"), 711)
            .await
            .unwrap()
            .is_none()
    );
    for n in 0..50 {
        let name = format!("flood-{n}");
        store
            .add_pending(&pending(&name, &name, 300 + n), 10, 20)
            .await
            .unwrap();
    }
    assert!(held("flood-49").await.is_some());
    assert!(held("flood-1").await.is_none());
}

async fn visits(store: Arc<dyn Store>) {
    let person = claims(78).person;
    let now = 1_000;
    assert_eq!(
        store.person_seen(person, now).await.unwrap(),
        Seen::default()
    );
    for (n, created, expires) in [(1, 10, 5_000), (2, 20, 900)] {
        let one = SignIn {
            created,
            expires,
            ..sign_in(780 + n, 78)
        };
        store.add_sign_in(&one).await.unwrap();
    }
    let seen = store.person_seen(person, now).await.unwrap();
    assert_eq!((seen.last, seen.sign_ins), (Some(20), 1));
    let whose = Whose::Person(person);
    let ended = store.end_sign_ins(&whose, EndReason::Administrator, now);
    ended.await.unwrap();
    assert_eq!(store.person_seen(person, now).await.unwrap().sign_ins, 0);
}

async fn links_and_leases(store: Arc<dyn Store>) {
    let person = claims(77).person;
    let mut link = AccountLink {
        person,
        sid: "S-1-5-21-1-2-3-1104".parse().unwrap(),
        guid: Uuid::from_u128(9),
        dn: "CN=a\\,b,OU=Guests,DC=contoso,DC=test".to_owned(),
        dc: "dc1.contoso.test".to_owned(),
        created: 5,
    };
    assert!(store.account_link(person).await.unwrap().is_none());
    store.save_account_link(&link).await.unwrap();
    link.dc = "dc2.contoso.test".to_owned();
    store.save_account_link(&link).await.unwrap();
    assert_eq!(store.account_link(person).await.unwrap(), Some(link));
    store.forget_account_link(person).await.unwrap();
    assert!(store.account_link(person).await.unwrap().is_none());

    let lease = |holder: &str, until| Lease {
        name: "renew".to_owned(),
        holder: holder.to_owned(),
        until,
    };
    assert!(store.take_lease(&lease("a", 10), 1).await.unwrap());
    assert!(!store.take_lease(&lease("b", 12), 2).await.unwrap());
    assert!(
        store.take_lease(&lease("a", 20), 3).await.unwrap(),
        "prolonged"
    );
    store.give_lease_back("renew", "b").await.unwrap();
    assert!(!store.take_lease(&lease("b", 12), 4).await.unwrap());
    assert!(
        store.take_lease(&lease("b", 40), 20).await.unwrap(),
        "run out"
    );
    store.give_lease_back("renew", "b").await.unwrap();
    assert!(store.take_lease(&lease("c", 50), 21).await.unwrap());
    let prolonged = async |holder, until, now| {
        let lease = lease(holder, until);
        store.prolong_lease(&lease, now).await.unwrap()
    };
    assert!(prolonged("c", 60, 49).await);
    assert!(!prolonged("b", 70, 49).await, "not theirs");
    assert!(!prolonged("c", 70, 60).await, "it has ended");
}

async fn the_sweep_takes_the_dead_only(store: Arc<dyn Store>) {
    store.add_sign_in(&sign_in(60, 61)).await.unwrap();
    store.add_session(&session("idle", 60)).await.unwrap();
    let mut busy = session("busy", 60);
    busy.idle_until = 900;
    store.add_session(&busy).await.unwrap();
    while store.sweep(400, 3).await.unwrap() > 0 {}
    assert!(store.session(&IdHash::of("idle")).await.unwrap().is_none());
    assert!(store.session(&IdHash::of("busy")).await.unwrap().is_some());
    while store.sweep(1000, 3).await.unwrap() > 0 {}
    assert!(store.session(&IdHash::of("busy")).await.unwrap().is_none());
    assert!(store.sign_in(Uuid::from_u128(60)).await.unwrap().is_none());
    store.ping().await.unwrap();
}

async fn forms_are_kept_for_a_while_and_taken_once(store: Arc<dyn Store>) {
    let limits = KeepLimits {
        per_person: 2,
        overall: 100,
        now: 5,
    };
    let form = |name: &str, oid: u128, expires: i64| KeptForm {
        hash: IdHash::of(name),
        person: claims(oid).person,
        app: "wiki".to_owned(),
        target: "/orders?n=7".to_owned(),
        content: "v1.k.0123456789".to_owned(),
        expires,
    };
    let hash = IdHash::of;
    for (name, oid, expires) in [("a", 70, 10), ("b", 70, 20), ("c", 70, 30), ("d", 71, 10)] {
        let kept = store.keep_form(&form(name, oid, expires), limits).await;
        assert!(kept.unwrap(), "{name}");
    }
    assert_eq!(
        store.take_form(&hash("a"), 6).await.unwrap(),
        None,
        "dropped for c"
    );
    let taken = store.take_form(&hash("b"), 6).await.unwrap();
    assert_eq!(taken, Some(form("b", 70, 20)));
    assert_eq!(store.take_form(&hash("b"), 6).await.unwrap(), None, "twice");
    assert_eq!(store.take_form(&hash("d"), 10).await.unwrap(), None, "late");

    let tight = KeepLimits {
        overall: 29,
        ..limits
    };
    assert!(!store.keep_form(&form("e", 72, 40), tight).await.unwrap());
    let later = KeepLimits { now: 30, ..tight };
    assert!(
        store.keep_form(&form("e", 72, 40), later).await.unwrap(),
        "c expired"
    );
}

async fn acme_is_written_under_a_lease_only(store: Arc<dyn Store>) {
    let lease = |holder: &str| Lease {
        name: "acme".to_owned(),
        holder: holder.to_owned(),
        until: 10,
    };
    let record = |kind, content: &str, revision| AcmeRecord {
        kind,
        name: "wiki.example.com".to_owned(),
        content: content.to_owned(),
        revision,
    };
    let (order, ready) = (AcmeKind::Order, AcmeKind::Certificate);
    let first = [record(order, "v1.k.order", 0)];
    assert!(!store.put_acme(&first, &lease("a"), 1).await.unwrap());
    assert!(store.take_lease(&lease("a"), 1).await.unwrap());
    assert!(store.put_acme(&first, &lease("a"), 1).await.unwrap());
    let both = [record(ready, "v1.k.ready", 0), record(order, "", 0)];
    assert!(!store.put_acme(&both, &lease("b"), 2).await.unwrap());
    assert!(
        !store.put_acme(&both, &lease("a"), 10).await.unwrap(),
        "late"
    );
    let all = store.acme_since(0).await.unwrap();
    assert_eq!(all, [record(order, "v1.k.order", 1)]);
    assert!(store.put_acme(&both, &lease("a"), 9).await.unwrap());
    let news = store.acme_since(1).await.unwrap();
    assert_eq!(news, [record(ready, "v1.k.ready", 2), record(order, "", 3)]);
    assert_eq!(store.acme_since(3).await.unwrap(), []);
}

async fn marks_are_written_under_a_lease_only(store: Arc<dyn Store>) {
    let lease = |holder: &str| Lease {
        name: "cutoff".to_owned(),
        holder: holder.to_owned(),
        until: 10,
    };
    assert!(!store.save_mark("one", &lease("a"), 1).await.unwrap());
    assert_eq!(store.mark("cutoff").await.unwrap(), None);
    assert!(store.take_lease(&lease("a"), 1).await.unwrap());
    assert!(store.save_mark("one", &lease("a"), 1).await.unwrap());
    assert!(store.save_mark("two", &lease("a"), 9).await.unwrap());
    assert!(!store.save_mark("late", &lease("a"), 10).await.unwrap());
    assert!(!store.save_mark("other", &lease("b"), 2).await.unwrap());
    let kept = store.mark("cutoff").await.unwrap();
    assert_eq!(kept.as_deref(), Some("two"));
    assert_eq!(store.mark("other").await.unwrap(), None);
}

async fn the_living_are_listed_in_parts(store: Arc<dyn Store>) {
    for id in 0x900..0x905 {
        store.add_sign_in(&sign_in(id, id)).await.unwrap();
    }
    let ended = Whose::SignIn(Uuid::from_u128(0x902));
    let ended = store.end_sign_ins(&ended, EndReason::GroupChanged, 200);
    ended.await.unwrap();
    let before = Some(Uuid::from_u128(0x8ff));
    let some = store.live_sign_ins(200, before, 2).await.unwrap();
    let ids = |some: &[SignIn]| -> Vec<u128> { some.iter().map(|one| one.id.as_u128()).collect() };
    assert_eq!(ids(&some), [0x900, 0x901]);
    assert_eq!(some[0], sign_in(0x900, 0x900));
    let after = Some(some[1].id);
    let rest = store.live_sign_ins(200, after, 10).await.unwrap();
    assert_eq!(ids(&rest), [0x903, 0x904]);
    let late = sign_in(0, 0).expires;
    assert!(
        store
            .live_sign_ins(late, before, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn every_promise_on(store: Arc<dyn Store>) {
    sign_ins_and_sessions(Arc::clone(&store)).await;
    one_use_secrets(Arc::clone(&store)).await;
    pending_sign_ins_are_bounded(Arc::clone(&store)).await;
    visits(Arc::clone(&store)).await;
    links_and_leases(Arc::clone(&store)).await;
    forms_are_kept_for_a_while_and_taken_once(Arc::clone(&store)).await;
    acme_is_written_under_a_lease_only(Arc::clone(&store)).await;
    marks_are_written_under_a_lease_only(Arc::clone(&store)).await;
    the_living_are_listed_in_parts(Arc::clone(&store)).await;
    the_sweep_takes_the_dead_only(store).await;
}

#[tokio::test]
async fn sqlite_in_a_file_keeps_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("kerbgate.db"))
        .await
        .unwrap();
    every_promise_on(Arc::new(store)).await;
}

#[tokio::test]
async fn sqlite_in_memory_keeps_its_word() {
    every_promise_on(Arc::new(SqliteStore::in_memory().await.unwrap())).await;
}
