//! Where an application wants it, the gateway asks its servers by itself how they are: who does not say that it is
//! well gets nobody, and who is well again gets its people back, little by little if wanted.

use http::Method;

use crate::hands::InHands;
use crate::hands::publish;
use crate::hands::told;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::visitor::Answer;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::assert_refused;
use crate::walk::world;

const HEALTH: &str =
    "[balance.health]\npath = \"/health?deep\"\ninterval = \"100ms\"\nhealthy = 2\nunhealthy = 2\n";

async fn get(visitor: &mut Visitor, stage: &Stage) -> Answer {
    let url = stage.url("wiki", "/page").parse().unwrap();
    visitor.once(Method::GET, &url, None).await.unwrap()
}

/// Until the gateway holds `server` for well, or not.
async fn judged(stage: &Stage, gateway: &Gateway, server: &InHands, well: bool) {
    let series = format!(
        "kerbgate_backend_healthy{{published_url=\"{}\",backend_url=\"http://{}/\"}}",
        stage.url("wiki", "/"),
        server.address
    );
    let wanted = f64::from(u8::from(well));
    eventually("it is judged", async || {
        told(gateway, &series).await == Some(wanted)
    })
    .await;
}

#[tokio::test]
async fn who_is_unwell_gets_nobody_until_it_is_well() {
    let (stage, _) = world("").await;
    let (one, other) = (InHands::start().await, InHands::start().await);
    publish(&stage, "wiki", &[&one, &other], HEALTH);
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    for _ in 0..10 {
        assert_eq!(get(&mut visitor, &stage).await.status, 200);
    }
    assert_eq!((one.count(), other.count()), (5, 5));
    // Nothing but a question: in nobody's name.
    eventually("it is asked", async || !one.checks().is_empty()).await;
    let asked = one.checks().remove(0);
    let mut lines: Vec<_> = asked.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    let host = format!("host: {}", one.address);
    let wanted = [
        "get /health?deep http/1.1",
        &host,
        "user-agent: kerbgate-health",
    ];
    assert_eq!(lines, wanted);

    one.be_well(false);
    judged(&stage, &gateway, &one, false).await;
    for _ in 0..10 {
        assert_eq!(get(&mut visitor, &stage).await.status, 200);
    }
    assert_eq!((one.count(), other.count()), (5, 15));

    one.be_well(true);
    judged(&stage, &gateway, &one, true).await;
    for _ in 0..10 {
        assert_eq!(get(&mut visitor, &stage).await.status, 200);
    }
    assert_eq!((one.count(), other.count()), (10, 20));
}

#[tokio::test]
async fn when_all_are_unwell_they_are_still_tried_and_each_is_named() {
    let (stage, _) = world("").await;
    let (one, other) = (InHands::start().await, InHands::start().await);
    publish(&stage, "wiki", &[&one, &other], HEALTH);
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    for server in [&one, &other] {
        server.be_well(false);
    }
    for server in [&one, &other] {
        judged(&stage, &gateway, server, false).await;
    }
    // A guess of ours never makes an outage.
    assert_eq!(get(&mut visitor, &stage).await.status, 200);
    let addresses = [one.address, other.address];
    one.kill().await;
    other.kill().await;
    let answer = get(&mut visitor, &stage).await;
    assert_refused(&answer, "backend-unreachable", "all are gone");
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("no server of wiki"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    for address in addresses {
        for wanted in [
            format!("backend {address} cannot be reached"),
            format!("{address} fails its health checks"),
        ] {
            assert!(line.contains(&wanted), "{wanted} is not in {line}");
        }
    }
}

#[tokio::test]
async fn the_questions_end_with_the_configuration_that_wanted_them() {
    let (stage, _) = world("").await;
    let (one, other) = (InHands::start().await, InHands::start().await);
    publish(&stage, "wiki", &[&one], HEALTH);
    publish(&stage, "other", &[&other], HEALTH);
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    eventually("both are asked", async || {
        !one.checks().is_empty() && !other.checks().is_empty()
    })
    .await;
    publish(&stage, "wiki", &[&one], "");
    gateway.process.signal("HUP");
    eventually("the change serves", async || {
        told(&gateway, "kerbgate_configuration_generation").await == Some(2.0)
    })
    .await;
    let (last, before) = (one.checks().len(), other.checks().len());
    eventually("the other is asked on", async || {
        other.checks().len() >= before + 5
    })
    .await;
    // One may have been on its way.
    assert!(one.checks().len() <= last + 1);
    // Another authority for all backends is another forwarder; it asks alone.
    let authority = format!("[backends]\nca_file = {:?}\n", stage.lab.facts.ca);
    stage.append("kerbgate.toml", &authority);
    gateway.process.signal("HUP");
    eventually("the change serves", async || {
        told(&gateway, "kerbgate_configuration_generation").await == Some(3.0)
    })
    .await;
    let (before, began) = (other.checks().len(), std::time::Instant::now());
    eventually("the other is asked on", async || {
        other.checks().len() >= before + 10
    })
    .await;
    // Ten of one asker need nine intervals, a tenth less at most; of two, half of that.
    assert!(began.elapsed().as_millis() > 650, "{:?}", began.elapsed());
}

#[tokio::test]
async fn each_gets_its_weight_and_who_was_away_begins_with_little() {
    let (stage, _) = world("").await;
    let (one, other) = (InHands::start().await, InHands::start().await);
    let more = format!(
        "[balance]\nslow_start = \"1h\"\n{HEALTH}[[balance.servers]]\nurl = \"http://{}/\"\nweight = 3\n",
        one.address
    );
    publish(&stage, "wiki", &[&one, &other], &more);
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    for _ in 0..40 {
        assert_eq!(get(&mut visitor, &stage).await.status, 200);
    }
    assert!((28..=32).contains(&one.count()), "{}", one.count());
    assert_eq!(one.count() + other.count(), 40);
    one.be_well(false);
    judged(&stage, &gateway, &one, false).await;
    one.be_well(true);
    judged(&stage, &gateway, &one, true).await;
    let before = one.count();
    for _ in 0..100 {
        assert_eq!(get(&mut visitor, &stage).await.status, 200);
    }
    // A tenth of its weight, 0.3 to 1.
    let got = one.count() - before;
    assert!((18..=28).contains(&got), "{got} of 100");
}
