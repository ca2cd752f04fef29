use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::sync::world::Cloud;
use crate::sync::world::Kind;
use crate::sync::world::Place;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

fn upn(n: u128) -> String {
    format!("person{n:020}_f.example#EXT#@contoso.onmicrosoft.com")
}

fn person(n: u128) -> Person {
    Person {
        oid: Uuid::from_u128(n),
        kind: Kind::Guest,
        enabled: true,
        pending: None,
        created: Some(NOW - DAY),
        synced: false,
        upn: Some(upn(n)),
        values: Values::new(),
    }
}

fn plain(name: &str) -> Stranger {
    Stranger {
        sam: name.to_owned(),
        dn: format!("CN={name},OU=Guests"),
        cn: name.to_owned(),
        created: Some(NOW),
        ..Stranger::default()
    }
}

fn with_upn(name: &str, upn: &str) -> Stranger {
    let mut stranger = plain(name);
    stranger
        .values
        .insert(Flow::UserPrincipalName, upn.to_owned());
    stranger
}

fn mim(n: u128) -> Stranger {
    plain(&Uuid::from_u128(n).to_string())
}

fn script(n: u128) -> Stranger {
    Stranger {
        description: Some(String::from(SCRIPT_2[0])),
        ..with_upn(&format!("script{n}"), &upn(n))
    }
}

fn world(people: Vec<Person>, strangers: Vec<Stranger>) -> World {
    World {
        now: NOW,
        cloud: Cloud {
            told: people.len(),
            people: people.into_iter().map(|one| (one.oid, one)).collect(),
            ..Cloud::default()
        },
        strangers,
        ..World::default()
    }
}

/// What is adopted, by shape and person; then what is found.
fn told(world: &World) -> Vec<String> {
    let judgement = judge(world, &BTreeMap::new(), true, &|_| None);
    let pairs = judgement
        .pairs
        .iter()
        .map(|pair| format!("{:?} {}", pair.shape, pair.person.oid.as_u128()));
    let findings = judgement.findings.iter();
    let findings = findings.map(|finding| finding.found.as_str().to_owned());
    pairs.chain(findings).collect()
}

fn one(stranger: Stranger) -> Vec<String> {
    told(&world(vec![person(1), person(2)], vec![stranger]))
}

#[test]
fn each_tools_shape_is_recognized_by_its_own_marks() {
    let short: String = upn(1).chars().take(20).collect();
    let before = upn(1).split('#').next().unwrap().to_owned();
    let by_description = |text: &str| Stranger {
        description: Some(text.to_owned()),
        ..with_upn("x", &upn(1))
    };
    let anchored = |shape| Stranger {
        anchors: vec![(shape, Uuid::from_u128(1))],
        ..plain("x")
    };
    for (stranger, shape) in [
        (mim(1), "Mim 1"),
        (by_description(&upn(1).to_uppercase()), "Script1 1"),
        (with_upn(&short, &upn(1)), "Script1 1"),
        (by_description(SCRIPT_2[0]), "Script2 1"),
        (by_description(SCRIPT_2[1]), "Script2 1"),
        (with_upn(&before, &upn(1)), "Script2 1"),
        (anchored(Shape::CloudSync), "CloudSync 1"),
        (anchored(Shape::AdminDescription), "AdminDescription 1"),
        (by_description("a nice person"), "refused"),
        (with_upn("x", &upn(1)), "refused"),
        (plain("x"), "orphan"),
        (mim(9), "orphan"),
        (script(9), "orphan"),
    ] {
        assert_eq!(one(stranger.clone()), [shape], "{stranger:?}");
    }
}

#[test]
fn nobody_gets_what_was_somebody_elses() {
    // The address was given away, and its new owner invited: the same UPN, another person.
    let mut heir = person(1);
    heir.created = Some(NOW + DAY);
    assert_eq!(
        told(&world(vec![heir.clone()], vec![script(1)])),
        ["refused"]
    );
    heir.created = None;
    assert_eq!(told(&world(vec![heir], vec![script(1)])), ["refused"]);
    // MIM's account of somebody who is gone, with the sign-in name of somebody who is there.
    let mut used = with_upn(&Uuid::from_u128(9).to_string(), &upn(1));
    assert_eq!(one(used.clone()), ["double"]);
    used.cn = Uuid::from_u128(2).to_string();
    assert_eq!(one(used), ["double"]);
    // A name that its owner chose.
    let mut chosen = person(1);
    chosen.upn = Some(String::from("ceo@contoso.test"));
    let ceo = Stranger {
        description: Some(String::from(SCRIPT_2[0])),
        ..with_upn("ceo", "ceo@contoso.test")
    };
    assert_eq!(told(&world(vec![chosen], vec![ceo])), ["orphan"]);
    let mut mail = person(1);
    mail.values
        .insert(Flow::Mail, String::from("ceo@contoso.test"));
    let mut ceo = plain("ceo");
    ceo.values
        .insert(Flow::Mail, String::from("ceo@contoso.test"));
    assert_eq!(told(&world(vec![mail], vec![ceo])), ["orphan"]);
}

#[test]
fn what_must_not_or_need_not_be_changed_is_reported() {
    let owned = Stranger {
        owned: true,
        ..mim(1)
    };
    let privileged = Stranger {
        untouchable: Some(String::from("is privileged")),
        ..mim(1)
    };
    let disabled = Stranger {
        disabled: true,
        ..mim(1)
    };
    assert_eq!(one(owned), ["owned"]);
    assert_eq!(one(privileged), ["refused"]);
    assert_eq!(one(disabled), ["refused"]);
    assert_eq!(
        told(&world(vec![person(1)], vec![mim(1), script(1)])),
        ["double", "double"]
    );
    let mut gone = world(vec![], vec![mim(1)]);
    gone.cloud.deleted.insert(Uuid::from_u128(1));
    let found = judge(&gone, &BTreeMap::new(), true, &|_| None).findings;
    assert!(found[0].why.contains("restorable"), "{found:?}");
    let whole = world(vec![person(1)], vec![mim(1)]);
    let kinds = |adopt, unwanted| {
        let judgement = judge(&whole, &BTreeMap::new(), adopt, &|_| unwanted);
        assert!(judgement.spoken_for.contains(&Uuid::from_u128(1)));
        judgement.findings[0].found
    };
    assert_eq!(kinds(true, Some("left")), Found::Unwanted);
    assert_eq!(kinds(false, None), Found::Adoptable);
    let ours = LocalAccount {
        oid: Uuid::from_u128(1),
        sam: String::from("kg-x"),
        dn: String::from("CN=kg-x"),
        place: Place::Guests,
        disabled: None,
        untouchable: None,
        values: Values::new(),
        groups: BTreeSet::new(),
        kept: BTreeSet::new(),
        last_seen: None,
    };
    let anchored = [(Uuid::from_u128(1), vec![&ours])].into();
    let judgement = judge(&whole, &anchored, true, &|_| None);
    assert_eq!(judgement.findings[0].found, Found::Double);
    assert!(judgement.pairs.is_empty());
}

fn strangers() -> impl Strategy<Value = Vec<Stranger>> {
    let ids = || select(vec![1_u128, 2, 3, 9]);
    let one = (ids(), ids(), any::<[bool; 4]>(), select(vec![-1_i64, 0, 1])).prop_map(
        |(n, m, [by_name, by_upn, marked, off], age)| {
            let name = if by_name {
                Uuid::from_u128(n).to_string()
            } else {
                format!("a{n}")
            };
            let mut one = plain(&name);
            if by_upn {
                one = with_upn(&name, &upn(m));
            }
            one.description = marked.then(|| String::from(SCRIPT_2[0]));
            one.disabled = off;
            one.created = Some(NOW - DAY + age);
            one
        },
    );
    vec(one, 0..6).prop_map(|mut all| {
        for (number, one) in all.iter_mut().enumerate() {
            one.dn = format!("CN={number}");
        }
        all
    })
}

proptest! {
    #[test]
    fn every_account_is_adopted_once_or_reported(strangers in strangers()) {
        let world = world(vec![person(1), person(2), person(3)], strangers);
        let judgement = judge(&world, &BTreeMap::new(), true, &|_| None);
        prop_assert_eq!(
            judgement.pairs.len() + judgement.findings.len(),
            world.strangers.len()
        );
        let people: BTreeSet<Uuid> = judgement.pairs.iter().map(|pair| pair.person.oid).collect();
        prop_assert_eq!(people.len(), judgement.pairs.len(), "nobody gets two");
        for pair in &judgement.pairs {
            prop_assert!(judgement.spoken_for.contains(&pair.person.oid));
            prop_assert!(still_shows(pair.stranger, pair.shape, &pair.evidence));
            let others = world.strangers.iter().filter(|one| one.dn != pair.stranger.dn);
            for other in others {
                let names = other.cn == pair.person.oid.to_string()
                    || other.values.get(&Flow::UserPrincipalName) == pair.person.upn.as_ref();
                prop_assert!(!names, "{other:?} names the person as well");
            }
        }
    }
}
