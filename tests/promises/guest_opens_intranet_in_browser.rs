//! A guest clicks a link and is in the application, signed in as themselves: in a real browser.
//!
//! For the guest, who must never meet a password box, a Kerberos error or somebody else's page.
//! Each step leaves a picture in `target/screenshots/` for people to look at.

use crate::browser::Browser;
use crate::browser::pictures;
use crate::lab::Entra;
use crate::lab::Gateway;
use crate::lab::Stage;
use crate::lab::truth;

const ROLES: [&str; 3] = ["Intranet.User", "Timesheet.User", "Wiki.User"];

struct Scene {
    stage: Stage,
    entra: Entra,
    gateway: Gateway,
    browser: Browser,
}

impl Scene {
    async fn set() -> Self {
        Self::with_mapping("").await
    }

    async fn with_mapping(settings: &str) -> Self {
        let stage = Stage::new().await;
        let settings = format!("[mapping]\n{settings}");
        stage.replace("kerbgate.toml", "[mapping]\n", &settings);
        let entra = stage.entra(&[]).await;
        let gateway = stage.gateway().await;
        let facts = &stage.lab.facts;
        let trusted = [
            facts.gateway_certificate.as_path(),
            facts.entra_certificate.as_path(),
        ];
        Self {
            browser: Browser::open_window(&trusted).await,
            gateway,
            entra,
            stage,
        }
    }

    fn url(&self, app: &str) -> String {
        self.gateway.url(app, "/")
    }

    fn sign_in_page(&self) -> String {
        format!("https://entra.localhost:{}/", self.stage.entra_port)
    }

    /// Presses the button of `login` on the sign-in page.
    async fn sign_in(&self, login: &str) {
        self.browser.arrive(&self.sign_in_page()).await;
        self.browser
            .click(&format!("button[value='{login}']"))
            .await;
    }

    async fn picture(&self, name: &str) {
        self.browser
            .screenshot(&pictures().join(format!("{name}.png")))
            .await;
    }
}

#[tokio::test]
async fn a_new_guest_walks_through_both_applications_and_out_again() {
    let scene = Scene::set().await;
    let browser = &scene.browser;
    let facts = &scene.stage.lab.facts;
    let (login, oid) = scene.entra.new_guest("newcomer", &ROLES).await;

    let part = format!("{}#section-2", scene.url("intranet"));
    browser.open(&part).await;
    browser.arrive(&scene.sign_in_page()).await;
    scene.picture("01-sign-in").await;
    scene.sign_in(&login).await;
    browser.arrive(&scene.url("intranet")).await;
    let who = browser.find("#who").await;
    assert_eq!(browser.url().await, part);
    let shown = browser.text_of(&who).await;
    scene.picture("02-intranet-first-visit").await;
    let accounts = truth::accounts(facts).await.unwrap();
    let account = accounts.get(&oid).expect("the shadow account was made");
    assert_eq!(shown, format!("{}@{}", account.sam, facts.realm));

    // No second sign-in: the window never waits at Entra's page.
    browser.open(&scene.url("timesheet")).await;
    browser.arrive(&scene.url("timesheet")).await;
    let who = browser.find("#who").await;
    assert_eq!(browser.text_of(&who).await, shown);
    scene.picture("03-timesheet-no-second-sign-in").await;
    browser.open(&scene.url("wiki")).await;
    let who = browser.find("#remote-user").await;
    assert_eq!(browser.text_of(&who).await, account.sam);
    scene.picture("04-wiki").await;
    for (name, cookie) in browser.cookies().await {
        let ours = name.starts_with("__Host-");
        assert!(
            !ours || cookie["httpOnly"] == true && cookie["secure"] == true,
            "{name}: {cookie}"
        );
    }

    browser
        .open(&scene.gateway.url("intranet", "/.kerbgate/signout"))
        .await;
    scene.picture("05-sign-out").await;
    if let Some(button) = browser.find_all("main form button").await.first() {
        browser.click_on(button).await;
    }
    browser.arrive(&scene.gateway.url("login", "/")).await;
    scene.picture("06-signed-out").await;
    browser.open(&scene.url("intranet")).await;
    browser.arrive(&scene.sign_in_page()).await;
    // Signed out there, too: the person is asked again, not waved through.
    browser.find("button[name='login']").await;
}

/// A `Refresh` to the address where a browser is already, with `#` in it, only moves within the page (HTML, "navigate"):
/// the guest would wait there for ever.
#[tokio::test]
async fn who_waits_for_their_account_goes_on_by_themselves_to_the_part_the_link_named() {
    for part in ["#section-2", ""] {
        let scene = Scene::with_mapping("patience = \"0ms\"\n").await;
        let (login, _) = scene.entra.new_guest("waits", &ROLES).await;
        let wanted = format!("{}{part}", scene.url("intranet"));
        scene.browser.open(&wanted).await;
        scene.sign_in(&login).await;
        scene.browser.find("#who").await;
        assert_eq!(scene.browser.url().await, wanted);
        let waited = scene.gateway.log().contains("account-in-preparation");
        assert!(waited, "the guest was in at once: nothing was tried");
    }
}

#[tokio::test]
async fn an_employee_arrives_with_the_account_they_have() {
    let scene = Scene::set().await;
    scene.browser.open(&scene.url("intranet")).await;
    scene.sign_in("emma@contoso.example").await;
    scene.browser.arrive(&scene.url("intranet")).await;
    let who = scene.browser.find("#who").await;
    scene.picture("10-employee").await;
    assert_eq!(
        scene.browser.text_of(&who).await,
        "emma.employee@CONTOSO.TEST"
    );
}

#[tokio::test]
async fn a_guest_who_may_not_enter_reads_why() {
    let scene = Scene::set().await;
    scene.browser.open(&scene.url("intranet")).await;
    scene.sign_in("unassigned@fabrikam.example").await;
    scene.browser.arrive(&scene.url("intranet")).await;
    let text = scene.browser.text().await;
    scene.picture("20-denied").await;
    scene.browser.resize(390, 844).await;
    scene.picture("21-denied-phone").await;
    assert!(
        text.contains("not-allowed"),
        "no reason code on the page:\n{text}"
    );
    let language = scene
        .browser
        .script("return document.documentElement.lang")
        .await;
    assert_eq!(language, "en");
    let wider = scene
        .browser
        .script("return document.documentElement.scrollWidth > innerWidth")
        .await;
    assert_eq!(wider, false, "the page is wider than a phone");
}

#[tokio::test]
async fn the_browser_of_these_tests_trusts_the_lab_and_nobody_else() {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    let page = format!(
        "{}/aaaaaaaa-0000-4000-8000-00000000000a/v2.0/.well-known/openid-configuration",
        entra.url
    );
    let facts = &stage.lab.facts;
    let trusting = Browser::open_window(&[&facts.entra_certificate]).await;
    trusting.open(&page).await;
    assert!(trusting.text().await.contains("authorization_endpoint"));
    trusting
        .screenshot(&pictures().join("00-trusted.png"))
        .await;
    let other = Browser::open_window(&[&facts.second_certificate]).await;
    other.open(&page).await;
    let warning = other.source().await;
    assert!(
        warning.contains("ERR_CERT_AUTHORITY_INVALID"),
        "{warning:.500}"
    );
}
