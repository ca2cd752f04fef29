//! Nobody ever gets somebody else's page, however requests are mixed, cancelled and reused.
//!
//! For everybody, and for the security officer most of all. The long form is `make soak`; this is
//! the same program with fewer requests, so that no change passes without it.

use std::fs;
use std::process::Command;

use serde_json::Value;
use serde_json::json;

use crate::lab::Stage;
use crate::lab::gateway::APPS;
use crate::lab::gateway::issuer;
use crate::lab::lab_program;

#[tokio::test]
async fn forty_people_at_once_see_themselves_only() {
    let stage = Stage::new().await;
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let apps: Vec<Value> = APPS
        .iter()
        .map(|(id, name, sso)| json!({"name": name, "url": gateway.url(id, "/"), "sso": sso}))
        .collect();
    let demo = json!({
        "binary": env!("CARGO_BIN_EXE_kerbgate"),
        "config": stage.path("kerbgate.toml"),
        "ca": stage.lab.facts.ca,
        "issuer": issuer(stage.entra_port),
        "apps": apps,
        "pids": {"kerbgate": gateway.process.pid()},
        "logs": {"kerbgate": stage.path("kerbgate.log")},
    });
    fs::write(stage.path("demo.json"), demo.to_string()).unwrap();
    let lab = serde_json::to_vec(&stage.lab.facts).unwrap();
    fs::write(stage.path("lab.json"), lab).unwrap();

    let soak = Command::new(lab_program())
        .arg("soak")
        .arg("--demo")
        .arg(stage.path("demo.json"))
        .args([
            "--people",
            "40",
            "--requests",
            "6000",
            "--concurrency",
            "32",
        ])
        .args(["--seconds-max", "240"])
        .arg("--json")
        .arg(stage.path("soak.json"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&soak.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&soak.stderr).into_owned();
    assert!(soak.status.success(), "{}:\n{said}{complaint}", soak.status);
    let figures = fs::read(stage.path("soak.json")).unwrap();
    let figures: Value = serde_json::from_slice(&figures).unwrap();
    assert_eq!(figures["tally"]["mixed"], 0, "{said}");
    assert_eq!(
        figures["tally"]["sent"], 6000,
        "not all were sent in time:\n{said}"
    );
    let seen = |app: &str, protocol: &str| {
        let counts = figures["tally"]["counts"].as_array().unwrap();
        counts
            .iter()
            .any(|row| row["app"] == app && row["protocol"] == protocol && row["outcome"] == "good")
    };
    for (app, _, _) in APPS {
        assert!(
            seen(app, "HTTP/1.1") && seen(app, "HTTP/2"),
            "{app} was not reached:\n{said}"
        );
    }
}
