//! For an administrator of IIS with Extended Protection: a ticket counts only on the TLS connection it was
//! made for, whichever way it was made, and hands nothing over but the person's name.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbgate::kerberos::Delegator;
use kerbgate::kerberos::Wrap;
use libgssapi::context::CtxFlags;
use libgssapi::context::SecurityContext as _;
use libgssapi::context::ServerCtx;
use libgssapi::credential::Cred;
use libgssapi::credential::CredUsage;

use crate::alone::alone;
use crate::alone::http;
use crate::alone::person;

const TOKEN: &str = "KERBGATE_PROMISE_TOKEN";
const BINDING: &str = "KERBGATE_PROMISE_BINDING";
const RIGHT: &str = "tls-server-end-point:0123456789abcdef0123456789abcdef";
const WRONG: &str = "tls-server-end-point:0123456789abcdef0123456789abcdeF";

/// The backend's side, in a process with the backend's keytab; without a token there is nothing to do.
#[test]
fn acceptor() {
    let Ok(token) = std::env::var(TOKEN) else {
        return;
    };
    let token = STANDARD.decode(token).unwrap();
    let binding = std::env::var(BINDING).ok();
    let cred = Cred::acquire(None, None, CredUsage::Accept, None).unwrap();
    let mut context = ServerCtx::new(Some(cred));
    match context.step(&token, binding.as_deref().map(str::as_bytes)) {
        Err(error) => println!("refused: {error}"),
        Ok(answer) => {
            let who = context.source_name().unwrap().display_name().unwrap();
            let flags = context.flags().unwrap();
            println!(
                "accepted: {} mutual={} delegated={} answer={}",
                String::from_utf8_lossy(&who),
                flags.contains(CtxFlags::GSS_C_MUTUAL_FLAG),
                flags.contains(CtxFlags::GSS_C_DELEG_FLAG),
                STANDARD.encode(answer.map(|answer| answer.to_vec()).unwrap_or_default())
            );
        }
    }
}

/// What the backend with this keytab says to `token`.
fn accept(keytab: &Path, krb5_conf: &Path, token: &str, binding: Option<&str>) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "extended_protection_is_met::acceptor",
            "--nocapture",
        ])
        .env("KRB5_KTNAME", format!("FILE:{}", keytab.display()))
        .env("KRB5_CONFIG", krb5_conf)
        .env(TOKEN, token);
    if let Some(binding) = binding {
        command.env(BINDING, binding);
    }
    let said = command.output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let line = said.lines().find_map(|line| {
        line.find("accepted:")
            .or_else(|| line.find("refused:"))
            .map(|at| &line[at..])
    });
    line.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn a_ticket_counts_on_its_own_connection_only_however_it_was_made() {
    let me = concat!(
        module_path!(),
        "::a_ticket_counts_on_its_own_connection_only_however_it_was_made"
    );
    alone(me, async |room| {
        let facts = &room.lab.facts;
        for general in [false, true] {
            let mut settings = room.settings();
            settings.general = general;
            let delegator = Delegator::start(settings).unwrap();
            for wrap in [Wrap::Spnego, Wrap::Raw] {
                for (sent, wanted, accepted) in [
                    (Some(RIGHT), Some(RIGHT), true),
                    (Some(WRONG), Some(RIGHT), false),
                    (Some(RIGHT), None, true),
                    (None, None, true),
                ] {
                    let why = format!("general {general}, {wrap:?}, {sent:?} to {wanted:?}");
                    let token = delegator
                        .negotiate(
                            &person("emma.employee"),
                            &http("intranet"),
                            wrap,
                            sent.map(str::as_bytes),
                        )
                        .await
                        .unwrap();
                    assert_eq!(token.is_general(), general, "{why}");
                    let said = accept(
                        &facts.keytabs.intranet,
                        &facts.krb5_conf,
                        &token.base64(),
                        wanted,
                    );
                    if !accepted {
                        assert!(said.starts_with("refused: "), "{why}: {said}");
                        continue;
                    }
                    let (name, answer) = said.split_once(" answer=").unwrap_or((&said, ""));
                    assert_eq!(
                        name, "accepted: emma.employee@CONTOSO.TEST mutual=true delegated=false",
                        "{why}"
                    );
                    let answer = STANDARD.decode(answer.trim()).unwrap();
                    token.verify_mutual(&answer).await.unwrap();
                }
            }
        }
    });
}
