use super::*;
use crate::sync::journal::Making;
use crate::sync::partners::record::Record;
use proptest::prelude::*;

const ADDRESS: &str = "pia@fabrikam.example";
const NOW: i64 = 1_800_000_000;

fn group() -> Uuid {
    Uuid::from_u128(0x9)
}

fn app() -> (Uuid, String) {
    (Uuid::from_u128(0xc), String::from("Intranet.User"))
}

fn rules() -> Rules {
    Rules {
        invite: true,
        invitations: 10,
        convert: false,
        groups: vec![group()],
        assign: vec![app()],
        delete_after: Some(Duration::from_secs(30 * 86_400)),
        flow: vec!["displayName", "companyName"],
        anchor: String::from("msDS-ExternalDirectoryObjectId"),
    }
}

fn local(guid: u128) -> Local {
    Local {
        guid: Uuid::from_u128(guid),
        sid: format!("S-1-5-21-1-2-3-{guid}").parse().ok(),
        sam: format!("partner{guid}"),
        dn: format!("CN=partner{guid},OU=Partners,DC=contoso,DC=test"),
        address: Some(ADDRESS.to_owned()),
        enabled: true,
        in_scope: true,
        anchor: Anchor::None,
        employee_id: None,
        user_type: "Guest",
        values: [(String::from("displayName"), String::from("Pia"))].into(),
        untouchable: None,
    }
}

fn person(oid: u128) -> Person {
    Person {
        oid: Uuid::from_u128(oid),
        external: true,
        enabled: true,
        user_type: String::from("Guest"),
        recorded: Recorded::Nothing,
        synced: false,
        has_onprem_upn: false,
        created: Some(NOW - 10_000_000),
        invited: true,
        immutable_id: None,
        sid: None,
        addresses: [ADDRESS.to_owned()].into(),
        values: [(String::from("displayName"), String::from("Pia"))].into(),
    }
}

fn world(locals: Vec<Local>, people: Vec<Person>) -> World {
    World {
        now: NOW,
        locals,
        people: people.into_iter().map(|one| (one.oid, one)).collect(),
        told: 1,
        ..World::default()
    }
}

fn acts(world: &World, rules: &Rules) -> Vec<String> {
    let plan = plan(world, rules);
    let line = |step: &Step| format!("{} {}", step.act.as_str(), step.why.as_str());
    plan.steps.iter().map(line).collect()
}

fn decision(world: &World, part: &str) {
    let plan = plan(world, &rules());
    assert_eq!(plan.steps, [], "{part}");
    let told = plan.left_alone.iter().filter(|left| left.needs_decision);
    let told: Vec<&str> = told.map(|left| left.why.as_str()).collect();
    assert!(
        told.iter().any(|why| why.contains(part)),
        "{part}: {told:?}"
    );
}

fn ours(guid: u128) -> Recorded {
    Recorded::Ours(Record::of(Uuid::from_u128(guid)))
}

#[test]
fn an_address_alone_links_nobody() {
    let (mine, theirs) = (local(1), person(2));
    decision(
        &world(vec![mine.clone()], vec![theirs.clone()]),
        "nothing else says",
    );
    // Each second fact does.
    let linked = |mine: &Local, theirs: &Person, why: &str| {
        let steps = acts(&world(vec![mine.clone()], vec![theirs.clone()]), &rules());
        assert_eq!(
            steps.first().map(String::as_str),
            Some(format!("link {why}").as_str())
        );
    };
    let mut known = theirs.clone();
    known.immutable_id = Some(STANDARD.encode(mine.guid.to_bytes_le()));
    linked(&mine, &known, "same-object");
    let mut known = theirs.clone();
    known.sid = Some(String::from("S-1-5-21-1-2-3-1"));
    linked(&mine, &known, "same-object");
    let (mut same, mut known) = (mine.clone(), theirs.clone());
    same.employee_id = Some(String::from("4711"));
    known
        .values
        .insert(String::from("employeeId"), String::from("4711"));
    linked(&same, &known, "same-employee");
    // And a second fact without the address does not.
    known.addresses.clear();
    assert_eq!(
        acts(&world(vec![same], vec![known]), &rules())
            .first()
            .map(String::as_str),
        Some("invite new")
    );
    // No SID on either side is no fact.
    let mut without = mine;
    without.sid = None;
    decision(&world(vec![without], vec![theirs]), "nothing else says");
}

#[test]
fn an_invitation_of_ours_is_recognized() {
    let (mine, mut theirs) = (local(1), person(2));
    let making = |since, id: Option<u128>| Making {
        since,
        id: id.map(Uuid::from_u128),
    };
    let with = |theirs: &Person, making: Making| {
        let mut world = world(vec![mine.clone()], vec![theirs.clone()]);
        world.making.insert(mine.guid, making);
        world
    };
    decision(&with(&theirs, making(NOW - 60, None)), "nothing else says");
    decision(
        &with(&theirs, making(NOW - 60, Some(3))),
        "nothing else says",
    );
    assert_eq!(
        acts(&with(&theirs, making(NOW - 60, Some(2))), &rules())[0],
        "link invited"
    );
    theirs.created = Some(NOW - 61);
    assert_eq!(
        acts(&with(&theirs, making(NOW - 60, None)), &rules())[0],
        "link invited"
    );
    // An invitation of last month that Graph refused, and one of somebody else's since.
    decision(
        &with(&theirs, making(NOW - 30 * 86_400, None)),
        "nothing else says",
    );
    theirs.invited = false;
    decision(&with(&theirs, making(NOW - 60, None)), "nothing else says");
}

#[test]
fn what_contradicts_itself_is_left_to_somebody() {
    let (one, mut two) = (local(1), local(2));
    decision(
        &world(vec![one.clone(), two.clone()], vec![]),
        "several accounts in scope",
    );
    two.address = None;
    decision(
        &world(vec![one.clone()], vec![person(3), person(4)]),
        "two people in the cloud have",
    );
    // The person's shadow account.
    two.in_scope = false;
    two.anchor = Anchor::Of(Uuid::from_u128(3));
    decision(
        &world(vec![one.clone(), two.clone()], vec![person(3)]),
        "has another account",
    );
    let mut third = one.clone();
    third.anchor = Anchor::Of(Uuid::from_u128(3));
    decision(
        &world(vec![third.clone(), two], vec![person(3)]),
        "two accounts are anchored",
    );
    decision(
        &world(vec![third.clone()], vec![person(4)]),
        "does not know any more",
    );
    // An anchor that its owner wrote.
    let mut stranger = person(3);
    stranger.addresses = [String::from("ceo@contoso.example")].into();
    decision(&world(vec![third.clone()], vec![stranger]), "no record");
    let mut taken = person(3);
    taken.recorded = ours(7);
    let taken_world = world(vec![third.clone()], vec![taken.clone()]);
    let told = plan(&taken_world, &rules()).left_alone;
    assert!(
        told[0].why.contains("recorded as another account's"),
        "{told:?}"
    );
    taken.recorded = Recorded::Other(String::from("External"));
    decision(
        &world(vec![third.clone()], vec![taken]),
        "holds something else",
    );
    let mut synced = person(3);
    synced.synced = true;
    decision(&world(vec![third], vec![synced.clone()]), "Entra Connect");
    decision(&world(vec![one.clone()], vec![synced]), "Entra Connect");
    // Who may write the record alone may not choose the account.
    let mut recorded = person(3);
    recorded.recorded = ours(1);
    recorded.addresses = [String::from("mallory@evil.example")].into();
    decision(
        &world(vec![one.clone()], vec![recorded.clone()]),
        "has another address",
    );
    let mut second = person(4);
    second.recorded = ours(1);
    decision(
        &world(vec![one.clone()], vec![recorded, second]),
        "two people in the cloud are recorded",
    );
    let mut deleted = world(vec![one.clone()], vec![]);
    deleted.deleted.insert(Uuid::from_u128(3), person(3));
    decision(&deleted, "was deleted in the cloud");
    let mut odd = one;
    odd.anchor = Anchor::Other(String::from("Group_x"));
    decision(&world(vec![odd], vec![]), "names nobody");
}

fn linked() -> (Local, Person) {
    let (mut mine, mut theirs) = (local(1), person(2));
    mine.anchor = Anchor::Of(theirs.oid);
    theirs.recorded = ours(1);
    (mine, theirs)
}

fn in_step(mine: &Local, theirs: &Person) -> World {
    let mut world = world(vec![mine.clone()], vec![theirs.clone()]);
    world.members.insert(group(), [theirs.oid].into());
    world.assigned.insert(app(), [theirs.oid].into());
    world
}

#[test]
fn whom_others_disabled_stays_so_and_whom_we_did_comes_back() {
    let (mine, theirs) = linked();
    assert_eq!(acts(&in_step(&mine, &theirs), &rules()), [""; 0]);
    let mut out = mine.clone();
    out.enabled = false;
    assert_eq!(
        acts(&in_step(&out, &theirs), &rules()),
        ["disable disabled-on-premises"]
    );
    let mut away = mine.clone();
    away.in_scope = false;
    assert_eq!(
        acts(&in_step(&away, &theirs), &rules()),
        ["disable left-scope"]
    );
    let mut gone = in_step(&mine, &theirs);
    gone.locals.clear();
    assert_eq!(acts(&gone, &rules()), ["disable gone"]);
    // Not here is not gone.
    gone.elsewhere.insert(mine.guid, String::from("on dc9"));
    assert_eq!(acts(&gone, &rules()), [""; 0]);
    assert_eq!(plan(&gone, &rules()).left_alone[0].why, "on dc9");
    // Disabled there by somebody else: neither enabled nor deleted, whatever happens here.
    let mut other = theirs.clone();
    other.enabled = false;
    assert_eq!(acts(&in_step(&mine, &other), &rules()), [""; 0]);
    assert_eq!(acts(&in_step(&out, &other), &rules()), [""; 0]);
    let resting = |days: i64| {
        let mut theirs = theirs.clone();
        theirs.enabled = false;
        theirs.recorded = Recorded::Ours(Record {
            guid: mine.guid,
            rests: Some((NOW - days * 86_400, String::from("gone"))),
        });
        theirs
    };
    assert_eq!(
        acts(&in_step(&mine, &resting(40)), &rules()),
        ["enable back"]
    );
    assert_eq!(acts(&in_step(&out, &resting(29)), &rules()), [""; 0]);
    assert_eq!(
        acts(&in_step(&out, &resting(30)), &rules()),
        ["delete rest-over"]
    );
    // Enabled there by somebody all the same: disabled again, not deleted.
    let mut enabled = resting(30);
    enabled.enabled = true;
    assert_eq!(
        acts(&in_step(&out, &enabled), &rules()),
        ["disable disabled-on-premises"]
    );
    let bin = |mine: &Local, theirs: Person| {
        let mut world = in_step(mine, &theirs);
        world.people.clear();
        world.deleted.insert(theirs.oid, theirs);
        world
    };
    assert_eq!(
        acts(&bin(&mine, resting(40)), &rules()),
        ["undelete back", "enable back"]
    );
    assert_eq!(acts(&bin(&out, resting(40)), &rules()), [""; 0]);
    assert_eq!(acts(&bin(&mine, theirs), &rules()), [""; 0]);
}

#[test]
fn internal_accounts_are_converted_only_when_that_is_wanted_and_possible() {
    let (mine, mut theirs) = linked();
    (theirs.external, theirs.invited) = (false, false);
    let mut rules = rules();
    assert_eq!(acts(&in_step(&mine, &theirs), &rules), [""; 0]);
    rules.convert = true;
    assert_eq!(acts(&in_step(&mine, &theirs), &rules), ["convert internal"]);
    theirs.has_onprem_upn = true;
    assert_eq!(acts(&in_step(&mine, &theirs), &rules), [""; 0]);
}

#[test]
fn more_invitations_than_allowed_wait_with_all_that_follows_from_them() {
    let locals = (1..=5).map(|guid| {
        let mut one = local(guid);
        one.address = Some(format!("p{guid}@fabrikam.example"));
        one
    });
    let mut rules = rules();
    rules.invitations = 2;
    let plan = plan(&world(locals.collect(), vec![]), &rules);
    assert_eq!(plan.steps.len(), 2 * 3);
    assert_eq!(plan.left_alone.len(), 3);
    rules.invite = false;
    let nobody = world(vec![local(1)], vec![]);
    assert_eq!(acts(&nobody, &rules), [""; 0]);
}

/// What a run would leave behind.
fn carried_out(world: &World, plan: &Plan) -> World {
    let mut after = world.clone();
    for step in &plan.steps {
        let at = after
            .locals
            .iter()
            .position(|local| local.guid == step.guid);
        let oid = step
            .oid
            .or_else(|| at.and_then(|at| after.locals[at].anchor.oid()));
        if let Act::Invite { user_type, .. } = &step.act {
            let mut made = person(step.guid.as_u128() + 1000);
            made.user_type.clone_from(user_type);
            made.recorded = Recorded::Ours(Record::of(step.guid));
            let local = &mut after.locals[at.unwrap()];
            local.anchor = Anchor::Of(made.oid);
            made.values.clone_from(&local.values);
            made.addresses = local.address.iter().cloned().collect();
            after.people.insert(made.oid, made);
            continue;
        }
        let oid = oid.expect("somebody");
        if step.act == Act::Undelete {
            let back = after.deleted.remove(&oid).unwrap();
            after.people.insert(oid, back);
            continue;
        }
        let rests = Some((world.now, String::from("x")));
        let guid = step.guid;
        let one = after.people.get_mut(&oid).expect("there");
        match &step.act {
            Act::Invite { .. } | Act::Undelete => {}
            Act::Disable => {
                (one.enabled, one.recorded) = (false, Recorded::Ours(Record { guid, rests }));
            }
            Act::Enable => (one.enabled, one.recorded) = (true, Recorded::Ours(Record::of(guid))),
            Act::Link => {
                if one.recorded == Recorded::Nothing {
                    one.recorded = Recorded::Ours(Record::of(guid));
                }
                after.locals[at.unwrap()].anchor = Anchor::Of(oid);
            }
            Act::Convert { .. } => one.external = true,
            Act::Update { changes } => {
                for edit in changes {
                    match (edit.property.as_str(), edit.to.clone()) {
                        ("userType", to) => one.user_type = to.unwrap(),
                        (name, Some(to)) => drop(one.values.insert(name.to_owned(), to)),
                        (name, None) => drop(one.values.remove(name)),
                    }
                }
            }
            Act::Join { group } => drop(after.members.entry(*group).or_default().insert(oid)),
            Act::Assign { application, role } => {
                let key = (*application, role.clone());
                after.assigned.entry(key).or_default().insert(oid);
            }
            Act::Delete => {
                let gone = after.people.remove(&oid).unwrap();
                after.deleted.insert(oid, gone);
            }
        }
    }
    after
}

fn any_local() -> impl Strategy<Value = Local> {
    let anchor = prop_oneof![3 => Just(None), 2 => (100_u128..105).prop_map(Some)];
    (
        1_u128..6,
        prop::option::of(0_u8..4),
        any::<bool>(),
        any::<bool>(),
        anchor,
        any::<bool>(),
    )
        .prop_map(|(guid, address, enabled, in_scope, anchor, member)| {
            let mut one = local(guid);
            one.address = address.map(|n| format!("p{n}@x.example"));
            (one.enabled, one.in_scope) = (enabled, in_scope);
            one.anchor = anchor.map_or(Anchor::None, |oid| Anchor::Of(Uuid::from_u128(oid)));
            one.user_type = if member { "Member" } else { "Guest" };
            one
        })
}

fn any_person() -> impl Strategy<Value = (Person, bool)> {
    let record = prop_oneof![
        2 => Just(None),
        3 => (1_u128..7, prop::option::of(0_i64..60)).prop_map(Some),
    ];
    let flags = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
    );
    (100_u128..105, 0_u8..4, record, flags).prop_map(
        |(oid, address, record, (enabled, external, same, deleted))| {
            let mut one = person(oid);
            one.addresses = [format!("p{address}@x.example")].into();
            (one.enabled, one.external) = (enabled, external);
            if let Some((guid, days)) = record {
                one.recorded = Recorded::Ours(Record {
                    guid: Uuid::from_u128(guid),
                    rests: days.map(|days| (NOW - days * 86_400, String::from("gone"))),
                });
            }
            if same {
                one.sid = Some(format!("S-1-5-21-1-2-3-{}", oid - 99));
            }
            (one, deleted)
        },
    )
}

proptest! {
    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_do(
        locals in prop::collection::btree_map(1_u128..6, any_local(), 0..5),
        people in prop::collection::vec(any_person(), 0..5),
        convert: bool,
    ) {
        let locals = locals.into_iter().map(|(guid, mut one)| {
            one.guid = Uuid::from_u128(guid);
            one
        });
        let mut before = world(locals.collect(), vec![]);
        for (one, deleted) in people {
            let (here, there) = if deleted { (&mut before.deleted, &mut before.people) } else { (&mut before.people, &mut before.deleted) };
            there.remove(&one.oid);
            here.insert(one.oid, one);
        }
        let mut rules = rules();
        rules.convert = convert;
        let first = plan(&before, &rules);
        let after = carried_out(&before, &first);
        let second = plan(&after, &rules);
        prop_assert_eq!(&second.steps, &[], "after {:#?}", first.steps);
        // Nobody is touched who is not recorded, or is being recorded by an anchor or a second fact.
        for step in first.steps.iter().filter(|step| step.act.removes()) {
            let whose = &before.people[&step.oid.unwrap()].recorded;
            prop_assert_eq!(whose.ours().map(|record| record.guid), Some(step.guid));
        }
        // No person is given to two accounts.
        let mut taken = BTreeSet::new();
        for local in after.locals.iter().filter(|local| local.in_scope) {
            if let (Anchor::Of(oid), true) = (&local.anchor, first.steps.iter().any(|step| step.guid == local.guid)) {
                prop_assert!(taken.insert(*oid), "{} twice", oid);
            }
        }
    }
}
