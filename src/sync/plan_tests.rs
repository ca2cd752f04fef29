use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::sync::brake;
use crate::sync::world::Cloud;
use crate::sync::world::ManagedGroup;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

fn rules() -> Rules {
    Rules {
        mapping: crate::mapping::settings::tests::settings(),
        external_members: true,
        pending: false,
        redeem_within: Some(Duration::from_secs(30 * 86_400)),
        unseen_after: Some(Duration::from_secs(90 * 86_400)),
        delete_after: Some(Duration::from_secs(30 * 86_400)),
        flow: vec![
            Flow::UserPrincipalName,
            Flow::DisplayName,
            Flow::Mail,
            Flow::Company,
        ],
        adopt: true,
    }
}

fn person(n: u128) -> Person {
    Person {
        oid: Uuid::from_u128(n),
        kind: Kind::Guest,
        enabled: true,
        pending: None,
        created: Some(NOW - DAY),
        synced: false,
        upn: Some(format!("p{n}_f.example#EXT#@contoso.onmicrosoft.com")),
        values: [(Flow::DisplayName, format!("Person {n}"))].into(),
    }
}

fn account(n: u128, place: Place) -> LocalAccount {
    LocalAccount {
        oid: Uuid::from_u128(n),
        sam: sam(n),
        dn: format!("CN={},OU={place:?}", sam(n)),
        place,
        disabled: None,
        untouchable: None,
        values: person(n).wanted(&rules().mapping, Uuid::nil(), &sam(n)),
        groups: BTreeSet::new(),
        kept: BTreeSet::new(),
        last_seen: Some(NOW),
    }
}

fn sam(n: u128) -> String {
    let id = PersonId {
        tid: Uuid::nil(),
        oid: Uuid::from_u128(n),
    };
    names::sam("kg-", id)
}

fn world(people: Vec<Person>, accounts: Vec<LocalAccount>) -> World {
    World {
        tenant: Uuid::nil(),
        now: NOW,
        cloud: Cloud {
            told: people.len(),
            people: people.into_iter().map(|one| (one.oid, one)).collect(),
            ..Cloud::default()
        },
        accounts,
        strangers: Vec::new(),
        groups: Vec::new(),
    }
}

fn told(world: &World) -> Vec<String> {
    let steps = plan(world, &rules()).steps;
    let line = |step: &Step| format!("{} {}", step.act.as_str(), step.why.as_str());
    steps.iter().map(line).collect()
}

/// What a directory would be after the step.
fn carry_out(world: &mut World, step: &Step) {
    let account = world.accounts.iter_mut().find(|one| one.oid == step.oid);
    let rest = rules().mapping.disabled_ou.map(|_| Place::Rest);
    match (&step.act, account) {
        (Act::Create { values }, None) => world.accounts.push(LocalAccount {
            values: values.clone(),
            sam: step.sam.clone(),
            ..account_of(step.oid)
        }),
        (Act::Disable, Some(account)) => {
            account.disabled = Some(Disabled::ByUs(Some(NOW), step.why.as_str().to_owned()));
            account.place = rest.unwrap_or(account.place);
            account.kept = std::mem::take(&mut account.groups);
        }
        (Act::Restore, Some(account)) => {
            account.groups.append(&mut account.kept);
            account.disabled = None;
            account.place = Place::Guests;
            account.last_seen = Some(NOW);
        }
        (Act::Move { to }, Some(account)) => account.place = to.place(),
        (Act::Update { changes }, Some(account)) => {
            for edit in changes {
                assert_eq!(account.values.get(&edit.attribute), edit.from.as_ref());
                assert_ne!(edit.from, edit.to, "only what has changed is written");
                assert!(rules().flow.contains(&edit.attribute));
                account.values.remove(&edit.attribute);
                if let Some(to) = &edit.to {
                    account.values.insert(edit.attribute, to.clone());
                }
            }
        }
        (Act::Join { group }, Some(account)) => assert!(account.groups.insert(group.clone())),
        (Act::Leave { group }, Some(account)) => {
            let (was_in, was_kept) = (account.groups.remove(group), account.kept.remove(group));
            assert!(was_in || was_kept, "{group}");
        }
        (Act::MakeGroup { group, .. }, _) => {
            let mut groups = world.groups.iter_mut();
            groups.find(|one| one.dn == *group).unwrap().exists = true;
        }
        (Act::Delete, Some(_)) => world.accounts.retain(|one| one.oid != step.oid),
        (act, account) => panic!("{act:?} on {account:?}"),
    }
}

fn account_of(oid: Uuid) -> LocalAccount {
    LocalAccount {
        oid,
        ..account(0, Place::Guests)
    }
}

#[test]
fn each_turn_of_a_guests_life_has_its_step() {
    let of = |change: fn(&mut Person, &mut LocalAccount, &mut Cloud)| {
        let mut world = world(Vec::new(), Vec::new());
        let (mut person, mut account) = (person(1), account(1, Place::Guests));
        change(&mut person, &mut account, &mut world.cloud);
        if person.oid != Uuid::nil() {
            world.cloud.people.insert(person.oid, person);
        }
        world.accounts = vec![account];
        told(&world)
    };
    assert_eq!(of(|_, _, _| {}), [""; 0]);
    assert_eq!(
        of(|p, _, _| p.enabled = false),
        ["disable disabled-in-cloud"]
    );
    assert_eq!(of(|p, _, _| p.oid = Uuid::nil()), ["disable left-tenant"]);
    let deleted = of(|p, a, cloud| {
        p.oid = Uuid::nil();
        cloud.deleted.insert(a.oid);
    });
    assert_eq!(deleted, ["disable deleted-in-cloud"]);
    assert_eq!(
        of(|_, _, cloud| cloud.scope = Some(BTreeSet::new())),
        ["disable left-scope"]
    );
    assert_eq!(
        of(|p, _, _| p.kind = Kind::Internal),
        ["disable became-internal"]
    );
    assert_eq!(of(|p, _, _| p.kind = Kind::ExternalMember), [""; 0]);
    assert_eq!(of(|p, _, _| p.synced = true), ["disable on-premises"]);
    assert_eq!(
        of(|p, _, _| p.pending = Some(Some(NOW - 29 * DAY))),
        [""; 0]
    );
    assert_eq!(of(|p, _, _| p.pending = Some(None)), [""; 0]);
    assert_eq!(
        of(|p, _, _| p.pending = Some(Some(NOW - 30 * DAY))),
        ["disable never-redeemed"]
    );
    assert_eq!(
        of(|_, a, _| a.last_seen = Some(NOW - 90 * DAY)),
        ["disable unseen"]
    );
    assert_eq!(of(|_, a, _| a.last_seen = None), [""; 0]);
    assert_eq!(of(|_, a, _| a.place = Place::Rest), ["move misplaced"]);
    let by_us = |days: i64, why: &str| Some(Disabled::ByUs(Some(NOW - days * DAY), why.to_owned()));
    let back = of(|_, a, _| {
        a.place = Place::Rest;
        a.disabled = Some(Disabled::ByUs(Some(NOW), "left-scope".to_owned()));
    });
    assert_eq!(back, ["restore back"]);
    for (days, why, expected) in [
        (29, "left-tenant", vec![]),
        (30, "left-tenant", vec!["delete rest-over"]),
        (30, "unseen", vec!["delete rest-over"]),
    ] {
        let mut account = account(1, Place::Rest);
        account.disabled = by_us(days, why);
        assert_eq!(told(&world(Vec::new(), vec![account.clone()])), expected);
        if why == "unseen" {
            let none: [&str; 0] = [];
            assert_eq!(
                told(&world(vec![person(1)], vec![account])),
                none,
                "an administrator's turn"
            );
        }
    }
    let mut others = account(1, Place::Guests);
    others.disabled = Some(Disabled::ByOthers("by anna".to_owned()));
    for people in [vec![person(1)], Vec::new()] {
        let plan = plan(&world(people, vec![others.clone()]), &rules());
        assert_eq!((plan.steps.len(), plan.left_alone.len()), (0, 1));
    }
}

#[test]
fn what_is_new_is_made_and_what_has_changed_is_written_alone() {
    let mut renamed = account(2, Place::Guests);
    renamed
        .values
        .insert(Flow::Mail, "old@f.example".to_owned());
    renamed.values.insert(Flow::Company, "home".to_owned());
    renamed
        .values
        .insert(Flow::Mobile, "not in the flow".to_owned());
    let plan = plan(&world(vec![person(2), person(1)], vec![renamed]), &rules());
    let [update, create] = plan.steps.as_slice() else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(create.sam, sam(1));
    let edit = Edit {
        attribute: Flow::Mail,
        from: Some("old@f.example".to_owned()),
        to: None,
    };
    assert_eq!(
        update.act,
        Act::Update {
            changes: vec![edit]
        }
    );
}

#[test]
fn two_accounts_of_one_person_are_told_of_and_left_alone() {
    let twice = vec![account(1, Place::Guests), account(1, Place::Rest)];
    let plan = plan(&world(Vec::new(), twice), &rules());
    assert_eq!((plan.steps.len(), plan.left_alone.len()), (0, 1));
    assert!(plan.left_alone[0].why.contains("several accounts"));
}

fn any_person() -> impl Strategy<Value = Person> {
    let kinds = select(vec![Kind::Guest, Kind::ExternalMember, Kind::Internal]);
    let since = option::of(option::of((NOW - 100 * DAY)..NOW));
    (
        0_u128..6,
        kinds,
        any::<bool>(),
        since,
        0..8_u8,
        option::of(".{0,300}"),
        option::of(".*"),
    )
        .prop_map(|(n, kind, enabled, pending, dice, name, mail)| {
            let named = |flow, value: Option<String>| value.map(|value| (flow, value));
            Person {
                kind,
                enabled,
                pending,
                synced: dice == 0,
                upn: (dice > 1).then(|| format!("u{dice}_{n}#EXT#@contoso.onmicrosoft.com")),
                values: [named(Flow::DisplayName, name), named(Flow::Mail, mail)]
                    .into_iter()
                    .flatten()
                    .collect(),
                ..person(n)
            }
        })
}

fn any_account() -> impl Strategy<Value = LocalAccount> {
    let places = select(vec![Place::Guests, Place::Rest]);
    let disabled = option::of(prop_oneof![
        (
            option::of((NOW - 100 * DAY)..NOW),
            select(vec!["left-scope", "unseen"])
        )
            .prop_map(|(since, why)| Disabled::ByUs(since, why.to_owned())),
        Just(Disabled::ByOthers("by anna".to_owned())),
    ]);
    let seen = option::of((NOW - 200 * DAY)..NOW);
    (
        0_u128..9,
        places,
        disabled,
        0..8_u8,
        seen,
        option::of("[a-z ]{0,9}"),
    )
        .prop_map(|(n, place, disabled, dice, last_seen, mail)| {
            let mut account = account(n, place);
            account.disabled = disabled;
            account.last_seen = last_seen;
            if dice == 0 {
                account.untouchable = Some("adminCount is set".to_owned());
            }
            if let Some(mail) = mail {
                account.values.insert(Flow::Mail, mail);
            }
            account
        })
}

fn any_world() -> impl Strategy<Value = World> {
    let scope = option::of(vec(0_u128..6, 0..6));
    (
        vec(any_person(), 0..6),
        vec(any_account(), 0..9),
        scope,
        vec(0_u128..9, 0..3),
    )
        .prop_map(|(people, accounts, scope, deleted)| {
            let ids = |all: Vec<u128>| {
                all.into_iter()
                    .map(Uuid::from_u128)
                    .collect::<BTreeSet<_>>()
            };
            let mut world = world(people, accounts);
            world.cloud.scope = scope.map(ids);
            world.cloud.deleted = ids(deleted);
            world
        })
}

proptest! {
    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(before in any_world()) {
        let mut world = before.clone();
        let first = plan(&world, &rules());
        for step in &first.steps {
            let others: Vec<_> = world.accounts.iter().filter(|one| one.oid != step.oid).cloned().collect();
            carry_out(&mut world, step);
            let after: Vec<_> = world.accounts.iter().filter(|one| one.oid != step.oid).cloned().collect();
            prop_assert_eq!(others, after);
        }
        prop_assert_eq!(plan(&world, &rules()).steps, vec![]);
        for kept in before.accounts.iter().filter(|one| one.untouchable.is_some()) {
            prop_assert!(world.accounts.contains(kept), "touched: {kept:?}");
        }
    }

    /// Killed after any step, the next run ends in the same world.
    #[test]
    fn a_run_that_was_cut_off_is_finished_by_the_next(before in any_world(), cut in 0_usize..9) {
        let whole = |mut world: World, most: usize| {
            for step in plan(&world, &rules()).steps.iter().take(most) {
                carry_out(&mut world, step);
            }
            world.accounts.sort_by_key(|one| (one.oid, one.dn.clone()));
            world
        };
        let at_once = whole(before.clone(), usize::MAX);
        let in_two = whole(whole(before, cut), usize::MAX);
        prop_assert_eq!(at_once, in_two);
    }

    #[test]
    fn the_order_of_what_is_read_does_not_matter(world in any_world()) {
        let mut turned = world.clone();
        turned.accounts.reverse();
        let (one, other) = (plan(&world, &rules()), plan(&turned, &rules()));
        prop_assert_eq!(one.steps, other.steps);
        prop_assert_eq!(world.digest().len(), 64);
    }
}

const TEAM: &str = "CN=Team,OU=Guest Groups,DC=contoso,DC=test";

fn team(people: &[u128]) -> ManagedGroup {
    ManagedGroup {
        dn: String::from(TEAM),
        source: Uuid::from_u128(77),
        anchor: String::from("Group_77"),
        exists: true,
        unusable: None,
        people: people.iter().map(|n| Uuid::from_u128(*n)).collect(),
    }
}

#[test]
fn membership_follows_what_becomes_of_the_account() {
    let at_rest = Disabled::ByUs(Some(NOW), String::from("left-scope"));
    let held = |a: &mut LocalAccount| assert!(a.groups.insert(String::from(TEAM)));
    let kept = |a: &mut LocalAccount| assert!(a.kept.insert(String::from(TEAM)));
    let gone = |g: &mut ManagedGroup| g.people.clear();
    let (held, kept, gone, rest) = (&held, &kept, &gone, &at_rest);
    let of = |change: &dyn Fn(&mut Person, &mut LocalAccount, &mut ManagedGroup)| {
        let (mut person, mut account) = (person(1), account(1, Place::Guests));
        let mut group = team(&[1]);
        change(&mut person, &mut account, &mut group);
        let mut world = world(vec![person], vec![account]);
        world.groups = vec![group];
        (told(&world), plan(&world, &rules()).removals())
    };
    let lines = |all: &[&str], removals| {
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        (all, removals)
    };
    assert_eq!(of(&|_, _, _| {}), lines(&["join in-group"], 0));
    assert_eq!(of(&|_, a, _| held(a)), lines(&[], 0));
    let out = of(&|_, a, g| {
        held(a);
        gone(g);
    });
    assert_eq!(out, lines(&["leave not-in-group"], 1));
    // Nothing is concluded.
    let unsure = of(&|_, a, g| {
        held(a);
        gone(g);
        g.unusable = Some(String::from("refused"));
    });
    assert_eq!(unsure, lines(&[], 0));
    // With the account, counted once.
    let leaves = of(&|p, a, g| {
        held(a);
        gone(g);
        p.enabled = false;
    });
    assert_eq!(leaves, lines(&["disable disabled-in-cloud"], 1));
    // Back: given back with the account, or forgotten before.
    let back = |change: &dyn Fn(&mut LocalAccount, &mut ManagedGroup)| {
        of(&|_, a, g| {
            a.disabled = Some(rest.clone());
            a.place = Place::Rest;
            change(a, g);
        })
    };
    assert_eq!(back(&|a, _| kept(a)), lines(&["restore back"], 0));
    assert_eq!(
        back(&|_, _| {}),
        lines(&["restore back", "join in-group"], 0)
    );
    let forgotten = back(&|a, g| {
        kept(a);
        gone(g);
    });
    assert_eq!(forgotten, lines(&["leave not-in-group", "restore back"], 0));
    // Cut off between disabling and taking out.
    let cut = of(&|p, a, _| {
        held(a);
        p.enabled = false;
        a.disabled = Some(rest.clone());
        a.place = Place::Rest;
    });
    assert_eq!(cut, lines(&["leave at-rest"], 0));
    // Somebody else's decision, somebody else's account.
    let other = of(&|_, a, g| {
        held(a);
        gone(g);
        a.disabled = Some(Disabled::ByOthers(String::from("by somebody")));
    });
    assert_eq!(other, lines(&[], 0));
    let untouchable = of(&|_, a, _| a.untouchable = Some(String::from("is privileged")));
    assert_eq!(untouchable, lines(&[], 0));
    let missing = of(&|_, _, g| g.exists = false);
    assert_eq!(
        missing,
        lines(&["make-group group-missing", "join in-group"], 0)
    );
}

#[test]
fn a_group_that_nobody_is_in_stops_a_run() {
    let mut one = account(1, Place::Guests);
    one.groups.insert(String::from(TEAM));
    let mut world = world(vec![person(1)], vec![one]);
    world.groups = vec![team(&[])];
    let limits = brake::Limits {
        removals: 50,
        share: 100,
    };
    let around = brake::Circumstances::default();
    let stops = |world: &World| brake::reasons(world, &plan(world, &rules()), &limits, &around);
    let reason = brake::Reason::EmptyGroup {
        group: String::from(TEAM),
        members: 1,
    };
    assert_eq!(stops(&world), [reason]);
    world.groups = vec![team(&[2])];
    assert_eq!(stops(&world), [], "somebody else is in it");
}
