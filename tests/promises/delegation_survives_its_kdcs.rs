//! A KDC that is down or hangs costs seconds, once, and nobody who already holds a ticket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use kerbgate::kerberos::Delegator;
use kerbgate::kerberos::KdcHealth;
use kerbgate::kerberos::Wrap;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::alone::Room;
use crate::alone::alone;
use crate::alone::alone_with;
use crate::alone::code;
use crate::alone::http;
use crate::alone::person;
use crate::lab::eventually;

/// Twice what the settings promise: probe and second attempt; the machine may be busy.
const SECONDS: Duration = Duration::from_secs(6);

/// A way to the real KDC that can be blocked: connections are then taken and never answered.
async fn relay(to: SocketAddr) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let blocked = Arc::new(AtomicBool::new(false));
    let here = Arc::clone(&blocked);
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut inside, _) = listener.accept().await.unwrap();
            if here.load(Ordering::SeqCst) {
                held.push(inside);
                continue;
            }
            tokio::spawn(async move {
                let mut outside = TcpStream::connect(to).await.unwrap();
                tokio::io::copy_bidirectional(&mut inside, &mut outside).await
            });
        }
    });
    (address, blocked)
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

fn start(room: &Room, kdcs: &[String]) -> Delegator {
    Delegator::start(room.settings_with(&room.lab.facts.keytabs.gateway, kdcs)).unwrap()
}

async fn took(delegator: &Delegator, who: &str) -> Duration {
    let began = Instant::now();
    delegator
        .negotiate(&person(who), &http("intranet"), Wrap::Spnego, None)
        .await
        .unwrap();
    began.elapsed()
}

#[test]
fn with_the_first_kdc_dead_or_hanging_the_second_serves() {
    let me = concat!(
        module_path!(),
        "::with_the_first_kdc_dead_or_hanging_the_second_serves"
    );
    alone(me, async |room| {
        let good = room.lab.facts.kdc;
        let (hanging, blocked) = relay(good).await;
        blocked.store(true, Ordering::SeqCst);
        for first in [nobody().await, hanging] {
            let delegator = start(&room, &[first, good.to_string()]);
            assert!(took(&delegator, "emma.employee").await < SECONDS);
            // The first one is known by now and left out.
            assert!(took(&delegator, "erik.employee").await < Duration::from_secs(1));
            let status = delegator.status().kdcs;
            assert!(matches!(status[0].health, KdcHealth::Down { .. }));
            assert!(matches!(status[1].health, KdcHealth::Up { .. }));
        }
    });
}

#[test]
fn when_the_kdc_in_use_begins_to_hang_the_other_takes_over() {
    let me = concat!(
        module_path!(),
        "::when_the_kdc_in_use_begins_to_hang_the_other_takes_over"
    );
    alone(me, async |room| {
        let good = room.lab.facts.kdc;
        let (first, blocked) = relay(good).await;
        let delegator = start(&room, &[first, good.to_string()]);
        took(&delegator, "emma.employee").await;
        blocked.store(true, Ordering::SeqCst);
        assert!(took(&delegator, "erik.employee").await < SECONDS);
    });
}

#[test]
fn with_no_kdc_the_refusal_is_quick_and_names_them() {
    let me = concat!(
        module_path!(),
        "::with_no_kdc_the_refusal_is_quick_and_names_them"
    );
    alone(me, async |room| {
        let (hanging, blocked) = relay(room.lab.facts.kdc).await;
        blocked.store(true, Ordering::SeqCst);
        let dead = nobody().await;
        let delegator = start(&room, &[dead.clone(), hanging.clone()]);
        let ask = async || {
            delegator
                .negotiate(
                    &person("emma.employee"),
                    &http("intranet"),
                    Wrap::Spnego,
                    None,
                )
                .await
        };
        let began = Instant::now();
        let (found, text) = code(ask().await);
        assert!(began.elapsed() < SECONDS, "{:?}", began.elapsed());
        assert_eq!(found, "kdc-unreachable");
        assert!(text.contains(&dead) && text.contains(&hanging), "{text}");
        // Known: the next ones are refused at once and take no thread.
        let began = Instant::now();
        for _ in 0..100 {
            assert_eq!(code(ask().await).0, "kdc-unreachable");
        }
        assert!(began.elapsed() < Duration::from_secs(1));

        // And it heals by itself.
        blocked.store(false, Ordering::SeqCst);
        let began = Instant::now();
        while ask().await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "never healed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn who_holds_a_ticket_is_served_while_every_kdc_hangs() {
    let me = concat!(
        module_path!(),
        "::who_holds_a_ticket_is_served_while_every_kdc_hangs"
    );
    alone(me, async |room| {
        let (only, blocked) = relay(room.lab.facts.kdc).await;
        let delegator = start(&room, &[only]);
        took(&delegator, "emma.employee").await;
        blocked.store(true, Ordering::SeqCst);
        // More strangers than there are threads.
        let mut strangers = tokio::task::JoinSet::new();
        for n in 0..12 {
            let delegator = delegator.clone();
            strangers.spawn(async move {
                delegator
                    .negotiate(
                        &person(&format!("stranger{n}")),
                        &http("intranet"),
                        Wrap::Spnego,
                        None,
                    )
                    .await
                    .is_err()
            });
        }
        for _ in 0..50 {
            assert!(took(&delegator, "emma.employee").await < Duration::from_secs(1));
        }
        let began = Instant::now();
        while let Some(refused) = strangers.join_next().await {
            assert!(refused.unwrap());
        }
        assert!(began.elapsed() < SECONDS, "{:?}", began.elapsed());
    });
}

#[test]
fn something_that_is_no_kdc_is_left_out() {
    let me = concat!(module_path!(), "::something_that_is_no_kdc_is_left_out");
    alone(me, async |room| {
        let web = room.lab.facts.backends.plain.to_string();
        let delegator = start(&room, &[web, room.lab.facts.kdc.to_string()]);
        assert!(took(&delegator, "emma.employee").await < SECONDS);
        let status = delegator.probe_kdcs().await;
        assert!(
            matches!(status[0].health, KdcHealth::Down { .. }),
            "{status:?}"
        );
        let KdcHealth::Up { skew, .. } = status[1].health else {
            panic!("{status:?}");
        };
        assert!(skew.is_some_and(|seconds| seconds.abs() < 5), "{skew:?}");
    });
}

#[test]
fn who_ends_while_a_call_is_out_ends_well() {
    let me = concat!(module_path!(), "::who_ends_while_a_call_is_out_ends_well");
    // The loader tells whose initializers and finalizers it runs.
    let said = alone_with(me, &[("LD_DEBUG", "files")], async |room| {
        // Connections are taken by the kernel and never answered, as long as the process lives.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent: &'static _ = Box::leak(Box::new(silent));
        let delegator = start(&room, &[silent.local_addr().unwrap().to_string()]);
        let asking = delegator.clone();
        tokio::spawn(async move { asking.ready().await });
        eventually("a thread is in a call", async || {
            delegator.status().kdc_lane.busy == 1
        })
        .await;
    });
    // libkrb5 does not lose its locks under that thread, which would abort the process.
    let Some(said) = said else { return };
    let tells = |what: &str| {
        said.lines()
            .any(|line| line.contains(what) && line.contains("libkrb5.so"))
    };
    assert!(tells("calling init: "), "{said}");
    assert!(!tells("calling fini: "), "{said}");
}
