//! Whoever runs the gateway learns the cause and the command, not "KDC can't fulfill requested option".

use std::time::Instant;

use kerbgate::kerberos::Delegator;
use kerbgate::kerberos::Wrap;
use kerbgate::kerberos::diagnose_as;

use crate::alone::alone;
use crate::alone::code;
use crate::alone::http;
use crate::alone::person;

#[test]
fn each_refusal_of_the_kdc_has_its_cause() {
    let me = concat!(module_path!(), "::each_refusal_of_the_kdc_has_its_cause");
    alone(me, async |room| {
        let delegator = room.delegator();
        for (who, to, wanted) in [
            ("nobody.here", "intranet", "principal-unknown"),
            ("sandra.sensitive", "intranet", "evidence-not-forwardable"),
            ("sandra.sensitive", "timesheet", "evidence-not-forwardable"),
            ("dora.disabled", "intranet", "principal-policy"),
            ("emma.employee", "nosuchhost", "spn-unknown"),
            ("emma.employee", "undelegated", "delegation-refused"),
        ] {
            let refused = delegator
                .negotiate(&person(who), &http(to), Wrap::Spnego, None)
                .await;
            let (found, text) = code(refused);
            assert_eq!(found, wanted, "{who} to {to}: {text}");
        }
    });
}

#[test]
fn the_command_names_the_account_and_the_service() {
    let me = concat!(
        module_path!(),
        "::the_command_names_the_account_and_the_service"
    );
    alone(me, async |room| {
        let delegator = room.delegator();
        let error = delegator
            .negotiate(
                &person("emma.employee"),
                &http("undelegated"),
                Wrap::Spnego,
                None,
            )
            .await
            .unwrap_err();
        let fix = diagnose_as(&error, Some("svc-gateway")).fix;
        assert!(
            fix.contains(
                "samba-tool delegation add-service svc-gateway HTTP/undelegated.contoso.test"
            ),
            "{fix}"
        );
    });
}

#[test]
fn a_refusal_is_remembered_for_seconds_and_forgotten_on_demand() {
    let me = concat!(
        module_path!(),
        "::a_refusal_is_remembered_for_seconds_and_forgotten_on_demand"
    );
    alone(me, async |room| {
        let delegator = room.delegator();
        let (who, to) = (person("nobody.here"), http("intranet"));
        let ask = async || delegator.negotiate(&who, &to, Wrap::Spnego, None).await;
        assert_eq!(code(ask().await).0, "principal-unknown");
        // A thousand more cost the KDC nothing.
        let began = Instant::now();
        for _ in 0..1000 {
            assert_eq!(code(ask().await).0, "principal-unknown");
        }
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
        delegator.purge(&who).await;
        assert_eq!(code(ask().await).0, "principal-unknown");
    });
}

#[test]
fn a_keytab_that_cannot_work_is_refused_at_start() {
    let me = concat!(
        module_path!(),
        "::a_keytab_that_cannot_work_is_refused_at_start"
    );
    alone(me, async |room| {
        let keytabs = &room.lab.facts.keytabs;
        let kdc = [room.lab.facts.kdc.to_string()];
        for (keytab, words) in [
            (
                keytabs.wrong_account.clone(),
                "only of svc-wrong@CONTOSO.TEST",
            ),
            (keytabs.empty.clone(), "empty"),
            (room.folder.join("absent.keytab"), "cannot be read"),
            (room.folder.join("krb5.conf"), "lets others in"),
        ] {
            std::fs::write(room.folder.join("krb5.conf"), "").unwrap();
            let refused = Delegator::start(room.settings_with(&keytab, &kdc));
            let (found, text) = code(refused);
            assert_eq!(found, "keytab-unusable", "{text}");
            assert!(text.contains(words), "{text}");
        }
    });
}

#[test]
fn an_old_key_and_missing_protocol_transition_are_told_apart() {
    let me = concat!(
        module_path!(),
        "::an_old_key_and_missing_protocol_transition_are_told_apart"
    );
    alone(me, async |room| {
        let keytabs = &room.lab.facts.keytabs;
        let kdc = [room.lab.facts.kdc.to_string()];
        let stale = Delegator::start(room.settings_with(&keytabs.old_kvno, &kdc)).unwrap();
        assert_eq!(code(stale.ready().await).0, "gateway-keytab-stale");
        assert!(stale.status().tgt.last_error.is_some());

        let mut settings = room.settings_with(&keytabs.noprotocol, &kdc);
        settings.principal = person("svc-noprotocol");
        let without = Delegator::start(settings).unwrap();
        let refused = without
            .negotiate(
                &person("emma.employee"),
                &http("intranet"),
                Wrap::Spnego,
                None,
            )
            .await;
        assert_eq!(code(refused).0, "evidence-not-forwardable");
    });
}
