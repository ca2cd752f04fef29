//! For the on-call engineer: /metrics counts what happens, under names that dashboard and alerts use, and never a
//! person, a path or a host.

use std::collections::BTreeSet;

use crate::lab::Gateway;
use crate::lab::Stage;
use crate::walk::browser;

const DASHBOARD: &str = include_str!("../../config/observability/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../config/observability/alerts.yml");

pub async fn scraped(gateway: &Gateway) -> String {
    let ops = gateway.ready["ops"].as_str().unwrap();
    let answer = reqwest::get(format!("http://{ops}/metrics")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    answer.text().await.unwrap()
}

/// Every `kerbgate_…` name in a text.
fn names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("kerbgate_"))
        .map(str::to_owned)
        .collect()
}

pub fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let line = line.unwrap_or_else(|| panic!("{series} is not in\n{text}"));
    line.trim_start_matches("{}").trim().parse().unwrap()
}

#[tokio::test]
async fn requests_tickets_and_refusals_are_counted() {
    let stage = Stage::new().await;
    let entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let roles = ["Intranet.User"];
    let (login, oid) = entra.new_guest("counted", &roles).await;
    let mut visitor = browser(&stage);
    for _ in 0..3 {
        let page = visitor
            .open_as(&login, &gateway.url("intranet", "/"))
            .await
            .unwrap();
        assert_eq!(page.status, 200);
    }
    let refused = visitor
        .open_as(&login, &gateway.url("timesheet", "/secret-path?token=abc"))
        .await
        .unwrap();
    assert_eq!(refused.header("kerbgate-reason"), "not-allowed");

    let text = scraped(&gateway).await;
    let good = "kerbgate_requests_total{application=\"intranet\",status=\"2xx\",reason=\"ok\"}";
    assert!(value(&text, good) >= 3.0, "{text}");
    let bad =
        "kerbgate_requests_total{application=\"timesheet\",status=\"4xx\",reason=\"not-allowed\"}";
    assert!(value(&text, bad) >= 1.0);
    for step in ["s4u2self", "s4u2proxy", "token"] {
        let series = format!("kerbgate_kerberos_seconds_count{{step=\"{step}\"}}");
        assert!(value(&text, &series) >= 1.0, "{step}");
    }
    assert!(value(&text, "kerbgate_ldap_seconds_count{step=\"add\"}") >= 1.0);
    assert!(value(&text, "kerbgate_store_seconds_count{step=\"write\"}") >= 1.0);
    assert!(value(&text, "kerbgate_tls_handshakes_total{kind=\"done\"}") >= 1.0);
    assert!(value(&text, "kerbgate_ready{part=\"kerberos\"}") > 0.5);
    assert!(value(&text, "kerbgate_memory_bytes") > 1e6);

    for secret in [oid.as_str(), login.as_str(), "secret-path", "token="] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
    // The published hosts know nothing of it.
    let outside = visitor
        .open(&gateway.url("intranet", "/.kerbgate/metrics"))
        .await
        .unwrap();
    assert_eq!(outside.status, 404);
}

#[tokio::test]
async fn dashboard_and_alerts_name_what_exists() {
    let stage = Stage::new().await;
    // Some numbers exist where they are asked for only.
    let asked = "[balance]\nmax_connections = 50\n[balance.health]\npath = \"/\"\n";
    stage.append("apps/wiki.toml", asked);
    stage.append("kerbgate.toml", "\n[sync.cutoff]\n");
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let text = scraped(&gateway).await;
    let told: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    for (file, content) in [("dashboard", DASHBOARD), ("alerts", ALERTS)] {
        let used = names(content);
        assert!(used.len() > 5, "{file}: {used:?}");
        for name in used {
            let bare = ["_total", "_bucket", "_count", "_sum"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(&name);
            assert!(
                told.contains(bare),
                "{file} uses {name}, which /metrics does not tell"
            );
        }
    }
}
