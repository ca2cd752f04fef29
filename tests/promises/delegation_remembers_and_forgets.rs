//! A ticket is fetched once, held while it is good, gone when access is; a new keytab needs no restart.

use std::time::Duration;
use std::time::Instant;

use kerbgate::kerberos::Delegator;
use kerbgate::kerberos::Timings;
use kerbgate::kerberos::Wrap;

use crate::alone::alone;
use crate::alone::code;
use crate::alone::http;
use crate::alone::person;
use crate::alone::replace;

async fn timings(delegator: &Delegator, to: &str) -> Timings {
    delegator
        .negotiate(&person("emma.employee"), &http(to), Wrap::Spnego, None)
        .await
        .unwrap()
        .timings()
}

#[test]
fn the_kdc_is_asked_once_for_each_ticket() {
    let me = concat!(module_path!(), "::the_kdc_is_asked_once_for_each_ticket");
    alone(me, async |room| {
        let delegator = room.delegator();
        delegator.ready().await.unwrap();
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let delegator = delegator.clone();
            all.spawn(async move { timings(&delegator, "intranet").await });
        }
        let all = all.join_all().await;
        assert_eq!(all.iter().filter(|t| t.s4u2self.is_some()).count(), 1);
        assert_eq!(all.iter().filter(|t| t.s4u2proxy.is_some()).count(), 1);
        // Another service of the same person: the evidence is held.
        let other = timings(&delegator, "timesheet").await;
        assert!(other.s4u2self.is_none() && other.s4u2proxy.is_some());
        assert_eq!(timings(&delegator, "timesheet").await.s4u2proxy, None);
    });
}

#[test]
fn what_is_purged_is_fetched_anew() {
    let me = concat!(module_path!(), "::what_is_purged_is_fetched_anew");
    alone(me, async |room| {
        let delegator = room.delegator();
        timings(&delegator, "intranet").await;
        timings(&delegator, "timesheet").await;
        let who = person("emma.employee");
        delegator.purge_ticket(&who, &http("intranet")).await;
        assert_eq!(timings(&delegator, "timesheet").await.s4u2proxy, None);
        let again = timings(&delegator, "intranet").await;
        assert!(again.s4u2self.is_none() && again.s4u2proxy.is_some());
        delegator.purge(&who).await;
        for to in ["intranet", "timesheet"] {
            assert!(timings(&delegator, to).await.s4u2proxy.is_some(), "{to}");
        }
    });
}

#[test]
fn a_visitor_who_leaves_does_not_throw_the_ticket_away() {
    let me = concat!(
        module_path!(),
        "::a_visitor_who_leaves_does_not_throw_the_ticket_away"
    );
    alone(me, async |room| {
        let delegator = room.delegator();
        delegator.ready().await.unwrap();
        let busy = async |wanted: bool| {
            while (delegator.status().kdc_lane.busy > 0) != wanted {
                tokio::task::yield_now().await;
            }
        };
        busy(false).await;
        // Leaves as soon as the KDC is being asked.
        let asked = busy(true);
        tokio::select! {
            biased;
            () = asked => {}
            _ = timings(&delegator, "intranet") => panic!("answered before the visitor left"),
        }
        // The next one comes to a flight that went on, or to its ticket.
        assert_eq!(timings(&delegator, "intranet").await.s4u2self, None);
    });
}

#[test]
fn a_changed_keytab_is_taken_up_and_a_bad_one_reported() {
    let me = concat!(
        module_path!(),
        "::a_changed_keytab_is_taken_up_and_a_bad_one_reported"
    );
    alone(me, async |room| {
        let keytabs = &room.lab.facts.keytabs;
        let own = room.own_keytab(&keytabs.gateway);
        let kdc = [room.lab.facts.kdc.to_string()];
        let delegator = Delegator::start(room.settings_with(&own, &kdc)).unwrap();
        timings(&delegator, "intranet").await;
        let until = async |what: &str, so: &dyn Fn() -> bool| {
            let began = Instant::now();
            while !so() {
                assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let problem = || delegator.status().tgt.keytab_problem;
        for (bad, words) in [
            (b"nonsense".to_vec(), "not a keytab"),
            (std::fs::read(&keytabs.wrong_account).unwrap(), "svc-wrong"),
        ] {
            replace(&own, &bad);
            until(words, &|| {
                problem().is_some_and(|text| text.contains(words))
            })
            .await;
            // The ticket in use stays in use, for new people too.
            delegator.purge(&person("emma.employee")).await;
            assert!(timings(&delegator, "intranet").await.s4u2self.is_some());
        }
        replace(&own, &std::fs::read(&keytabs.gateway).unwrap());
        until("the good one is taken", &|| problem().is_none()).await;
        timings(&delegator, "timesheet").await;
    });
}

#[test]
fn a_full_queue_refuses_at_once() {
    let me = concat!(module_path!(), "::a_full_queue_refuses_at_once");
    alone(me, async |room| {
        let mut settings = room.settings();
        settings.threads = 1;
        settings.queue = 2;
        let delegator = Delegator::start(settings).unwrap();
        delegator.ready().await.unwrap();
        let mut all = tokio::task::JoinSet::new();
        for n in 0..30 {
            let delegator = delegator.clone();
            all.spawn(async move {
                let who = person(&format!("nobody{n}"));
                code(
                    delegator
                        .negotiate(&who, &http("intranet"), Wrap::Spnego, None)
                        .await,
                )
                .0
            });
        }
        let codes = all.join_all().await;
        let count = |wanted| codes.iter().filter(|code| **code == wanted).count();
        assert!(count("kerberos-busy") > 0, "{codes:?}");
        assert!(count("principal-unknown") > 0, "{codes:?}");
        assert_eq!(count("kerberos-busy") + count("principal-unknown"), 30);
    });
}
