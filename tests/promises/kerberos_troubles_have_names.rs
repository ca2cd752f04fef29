//! For whoever is on call: a trouble of Kerberos has a code on the page, costs bounded time, stays where it is,
//! and ends when its cause ends, without a restart.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::relay::Relay;
use crate::relay::through;
use crate::the_gateway_never_appears_as_itself::simple_bind;
use crate::visitor::Answer;
use crate::visitor::Speaks;
use crate::visitor::Visitor;

/// `[kerberos] deadline` is 10 s: probe, sign-in and a busy machine included.
const BOUNDED: Duration = Duration::from_secs(20);
/// A KDC that is known to be gone is not waited for.
const QUICK: Duration = Duration::from_secs(5);

fn visitor(stage: &Stage) -> Visitor {
    Visitor::new(&stage.lab.facts.ca, Speaks::Http2)
}

fn reason(page: &Answer) -> &str {
    page.header("kerbgate-reason")
}

/// A guest with an account and a session at the wiki, but without any ticket.
async fn guest_at_the_wiki(stage: &Stage, entra: &Entra, gateway: &Gateway) -> Visitor {
    let roles = ["Intranet.User", "Timesheet.User", "Wiki.User"];
    let (login, _) = entra.new_guest("trouble", &roles).await;
    let mut guest = visitor(stage);
    let page = guest
        .open_as(&login, &gateway.url("wiki", "/echo"))
        .await
        .unwrap();
    assert_eq!(page.status, 200, "{}", page.body);
    guest
}

fn delegations(gateway: &Gateway, spn: &str) -> usize {
    let log = gateway.log();
    let of = |line: &&str| line.contains("\"event\":\"delegation\"") && line.contains(spn);
    log.lines().filter(of).count()
}

/// Points the configuration at a keytab of the test's own, made of `content`.
fn own_keytab(stage: &Stage, content: &Path) -> PathBuf {
    let own = stage.path("own.keytab");
    put(content, &own);
    let shared = stage.lab.facts.keytabs.gateway.to_string_lossy();
    stage.replace("kerbgate.toml", &shared, &own.to_string_lossy());
    own
}

/// Replaces a file as `mv` does it: at once.
fn put(content: &Path, place: &Path) {
    let new = place.with_extension("new");
    std::fs::copy(content, &new).unwrap();
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(&new, place).unwrap();
}

#[tokio::test]
async fn each_refusal_has_its_code_on_the_page() {
    let stage = Stage::new().await;
    stage.publish("undelegated");
    stage.publish("refusing");
    let unknown = crate::lab::gateway::application("intranet", &stage.world())
        .replace("https://intranet.localhost", "https://other.localhost")
        .replace("HTTP/intranet.contoso.test", "HTTP/nobody.contoso.test");
    std::fs::write(stage.path("apps/other.toml"), unknown).unwrap();
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut guest = guest_at_the_wiki(&stage, &entra, &gateway).await;
    for (app, code) in [
        ("undelegated", "delegation-refused"),
        ("other", "spn-unknown"),
        ("refusing", "ticket-refused"),
    ] {
        let page = guest.open(&gateway.url(app, "/echo")).await.unwrap();
        assert_eq!(page.status, 502, "{app}: {}", page.body);
        assert_eq!(reason(&page), code, "{app}");
        assert!(page.body.contains(code), "{app}: the page shows the code");
        assert!(!page.headers.contains_key("www-authenticate"), "{app}");
        assert_eq!(page.remote_user(), "", "{app}");
        // A program gets no challenge either: it would answer with a password box.
        let url = gateway.url(app, "/echo").parse().unwrap();
        let bare = guest.request(http::Method::GET, &url);
        let bare = bare.header("accept", "application/json").send().await;
        let bare = bare.unwrap();
        assert_eq!(bare.status(), 502, "{app}");
        assert!(!bare.headers().contains_key("www-authenticate"), "{app}");
    }
    // A refused ticket is dropped: each further request brings a new one.
    let before = delegations(&gateway, "HTTP/refusing.contoso.test");
    assert!(before >= 1, "the delegation is on record");
    let page = guest.open(&gateway.url("refusing", "/")).await.unwrap();
    assert_eq!(reason(&page), "ticket-refused");
    eventually("a new ticket was asked for", async || {
        delegations(&gateway, "HTTP/refusing.contoso.test") > before
    })
    .await;
    // None of that touches what works.
    let page = guest.open(&gateway.url("intranet", "/echo")).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.body);
}

#[tokio::test]
async fn a_keytab_that_cannot_work_stops_the_start_and_says_how_to_mend_it() {
    let stage = Stage::new().await;
    let keytabs = &stage.lab.facts.keytabs;
    let keytab = own_keytab(&stage, &keytabs.gateway);
    let garbage = stage.path("garbage");
    std::fs::write(&garbage, [0x5a; 300]).unwrap();
    let cut = stage.path("cut");
    let whole = std::fs::read(&keytabs.gateway).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2 - 3]).unwrap();
    for (content, mode, words) in [
        (&keytabs.wrong_account, 0o600, "svc-wrong@CONTOSO.TEST"),
        (&keytabs.wrong_account, 0o600, "ktpass"),
        (&keytabs.empty, 0o600, "ktpass"),
        (&garbage, 0o600, "ktpass"),
        (&cut, 0o600, "ktpass"),
        (&keytabs.gateway, 0o644, "chmod 0600"),
    ] {
        put(content, &keytab);
        std::fs::set_permissions(&keytab, PermissionsExt::from_mode(mode)).unwrap();
        assert_refuses(&stage, &keytab, words).await;
    }
    std::fs::remove_file(&keytab).unwrap();
    assert_refuses(&stage, &keytab, "ktpass").await;
    put(&keytabs.gateway, &keytab);
    let _entra = stage.entra(&[]).await;
    drop(stage.gateway().await);
}

async fn assert_refuses(stage: &Stage, keytab: &Path, words: &str) {
    drop(std::fs::remove_file(stage.path("kerbgate.log")));
    let mut process = stage.gateway_process(&[]);
    let status = process.ended(Duration::from_secs(30)).await;
    let said = process.log();
    assert!(!status.success(), "{words}: started all the same: {said}");
    let path = keytab.display().to_string();
    assert!(said.contains(&path), "names the file: {said}");
    assert!(said.contains(words), "says {words:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn a_keytab_that_grew_old_is_named_and_heals_without_a_restart() {
    let stage = Stage::new().await;
    simple_bind(&stage);
    let keytabs = &stage.lab.facts.keytabs;
    let keytab = own_keytab(&stage, &keytabs.old_kvno);
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut guest = guest_at_the_wiki(&stage, &entra, &gateway).await;
    let url = gateway.url("intranet", "/echo");
    let page = guest.open(&url).await.unwrap();
    assert_eq!(page.status, 503, "{}", page.body);
    assert_eq!(reason(&page), "keytab-unusable");
    put(&keytabs.gateway, &keytab);
    heals(&guest, &url).await;
    let pid = gateway.process.pid();
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "the same life");
    // A bad file put in its place later does not take away the ticket in use.
    put(&keytabs.wrong_account, &keytab);
    let page = guest
        .open(&gateway.url("timesheet", "/echo"))
        .await
        .unwrap();
    assert_eq!(page.status, 200, "{}", page.body);
}

/// The same trouble where the directory is asked with the same keytab: it is the keytab that is named.
#[tokio::test]
async fn an_old_keytab_is_named_where_the_directory_needs_it_too() {
    let stage = Stage::new().await;
    let keytabs = &stage.lab.facts.keytabs;
    let keytab = own_keytab(&stage, &keytabs.old_kvno);
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut emma = visitor(&stage);
    let url = gateway.url("intranet", "/echo");
    let page = emma.open_as("emma@contoso.example", &url).await.unwrap();
    assert_eq!(page.status, 503, "{}", page.body);
    assert_eq!(reason(&page), "keytab-unusable", "{}", gateway.log());
    assert_eq!(page.remote_user(), "");
    put(&keytabs.gateway, &keytab);
    heals(&emma, &url).await;
}

async fn heals(guest: &Visitor, url: &str) {
    eventually("it works again", async || {
        let mut guest = guest.clone();
        guest.open(url).await.unwrap().status == 200
    })
    .await;
}

#[tokio::test]
async fn without_a_kdc_only_new_tickets_are_missing() {
    let stage = Stage::new().await;
    let relay = Relay::to(stage.lab.facts.kdc).await;
    through(&stage, &[&relay]);
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let intranet = gateway.url("intranet", "/echo");
    let mut holder = guest_at_the_wiki(&stage, &entra, &gateway).await;
    let mut newcomer = guest_at_the_wiki(&stage, &entra, &gateway).await;
    assert_eq!(holder.open(&intranet).await.unwrap().status, 200);
    relay.cut();
    for _ in 0..3 {
        let began = Instant::now();
        let page = newcomer.open(&intranet).await.unwrap();
        assert_eq!(page.status, 503, "{}", page.body);
        assert_eq!(reason(&page), "kdc-unreachable");
        assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
    }
    // Who has a ticket keeps it; the header application and the sessions never needed one.
    assert_eq!(holder.open(&intranet).await.unwrap().status, 200);
    for guest in [&mut holder, &mut newcomer] {
        let began = Instant::now();
        let page = guest.open(&gateway.url("wiki", "/echo")).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
    }
    relay.pass();
    heals(&newcomer, &intranet).await;
}

#[tokio::test]
async fn a_kdc_that_hangs_or_talks_nonsense_costs_bounded_time() {
    let stage = Stage::new().await;
    let relay = Relay::to(stage.lab.facts.kdc).await;
    through(&stage, &[&relay]);
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let intranet = gateway.url("intranet", "/echo");
    let troubles: [fn(&Relay); 2] = [Relay::hang, Relay::garble];
    for (number, trouble) in troubles.iter().enumerate() {
        let mut guest = guest_at_the_wiki(&stage, &entra, &gateway).await;
        trouble(&relay);
        for _ in 0..2 {
            let began = Instant::now();
            let page = guest.open(&intranet).await.unwrap();
            assert!(began.elapsed() < BOUNDED, "{number}: {:?}", began.elapsed());
            assert_eq!(page.status, 503, "{number}: {}", page.body);
            assert_eq!(reason(&page), "kdc-unreachable", "{number}");
            assert_eq!(page.remote_user(), "", "{number}");
            // Nobody else waits meanwhile.
            let began = Instant::now();
            let page = guest.open(&gateway.url("wiki", "/echo")).await.unwrap();
            assert_eq!(page.status, 200, "{number}");
            assert!(began.elapsed() < QUICK, "{number}: {:?}", began.elapsed());
        }
        relay.pass();
        heals(&guest, &intranet).await;
    }
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[tokio::test]
async fn a_slow_kdc_is_waited_for() {
    let stage = Stage::new().await;
    let relay = Relay::to(stage.lab.facts.kdc).await;
    through(&stage, &[&relay]);
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut guest = guest_at_the_wiki(&stage, &entra, &gateway).await;
    relay.slow();
    let began = Instant::now();
    let page = guest.open(&gateway.url("intranet", "/echo")).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(began.elapsed() < BOUNDED, "{:?}", began.elapsed());
}

#[tokio::test]
async fn with_the_first_kdc_dead_or_hanging_the_second_serves() {
    for trouble in [Relay::cut as fn(&Relay), Relay::hang] {
        let stage = Stage::new().await;
        let first = Relay::to(stage.lab.facts.kdc).await;
        let second = Relay::to(stage.lab.facts.kdc).await;
        trouble(&first);
        through(&stage, &[&first, &second]);
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        let mut guest = guest_at_the_wiki(&stage, &entra, &gateway).await;
        let began = Instant::now();
        let page = guest.open(&gateway.url("intranet", "/echo")).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        assert!(began.elapsed() < BOUNDED, "{:?}", began.elapsed());
        assert!(first.taken() > 0 && second.taken() > 0);
    }
}
