//! Tests of the table in `diagnose.rs`.

use std::collections::HashSet;

use super::*;
use crate::kerberos::spnego::TokenKind;
use crate::kerberos::spnego::kind;

const BASE: i32 = -1_765_328_384;

fn error(step: Step, offset: u8, forwardable: Option<bool>) -> Error {
    Error::Gss(Box::new(GssError {
        step,
        principal: "kg-jane@CONTOSO.TEST".parse().unwrap(),
        spn: Some("HTTP/intranet.contoso.test".parse().unwrap()),
        major: 0x000d_0000,
        minor: (BASE + i32::from(offset)).cast_unsigned(),
        text: String::new(),
        evidence_forwardable: forwardable,
    }))
}

fn code(step: Step, offset: u8) -> &'static str {
    error(step, offset, None).diagnosis().code
}

#[test]
fn every_row_is_whole_and_its_code_unique() {
    let mut seen = HashSet::new();
    for row in table() {
        assert!(seen.insert(row.code), "{} twice", row.code);
        assert!(
            row.code
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{}",
            row.code
        );
        assert!(
            !row.cause.is_empty() && !row.check.is_empty(),
            "{}",
            row.code
        );
        let filled = row.fill(&Names::default());
        assert!(
            !filled.check.contains('{')
                && !filled
                    .fix
                    .replace("@{'", "")
                    .replace("@{Log", "")
                    .contains('{'),
            "{}: a placeholder is left in {filled:?}",
            row.code
        );
    }
}

#[test]
fn no_row_hides_behind_another() {
    const ALL: &[Step] = &[
        AcquireTgt,
        S4u2Self,
        S4u2Proxy,
        InitContext,
        MutualAuth,
        BackendRefused,
    ];
    for row in table() {
        let steps = if row.steps.is_empty() { ALL } else { row.steps };
        for offset in row.offsets {
            let reached = steps
                .iter()
                .filter(|step| row_at(**step, *offset).is_some_and(|found| found.code == row.code))
                .count();
            // A row for every step may give way at some, a row for one step at none.
            let wanted = if row.steps.is_empty() { 1 } else { steps.len() };
            assert!(reached >= wanted, "{} is hidden for {offset}", row.code);
        }
    }
}

#[test]
fn the_same_code_means_different_things_at_different_steps() {
    assert_eq!(code(AcquireTgt, 6), "gateway-account-unknown");
    assert_eq!(code(S4u2Self, 6), "principal-unknown");
    assert_eq!(code(S4u2Self, 7), "gateway-without-spn");
    assert_eq!(code(S4u2Proxy, 7), "spn-unknown");
    assert_eq!(code(AcquireTgt, 18), "gateway-account-revoked");
    assert_eq!(code(S4u2Self, 18), "principal-revoked");
    assert_eq!(code(AcquireTgt, 14), "gateway-enctype-unsupported");
    assert_eq!(code(S4u2Proxy, 14), "backend-enctype-unsupported");
    assert_eq!(code(AcquireTgt, 31), "gateway-keytab-stale");
    assert_eq!(code(S4u2Self, 31), "gateway-keys-changed");
    assert_eq!(code(S4u2Proxy, 31), "evidence-invalid");
    assert_eq!(code(BackendRefused, 31), "spn-on-wrong-account");
    assert_eq!(code(MutualAuth, 31), "backend-unproved");
}

#[test]
fn every_code_of_the_kdc_error_map_has_its_row() {
    let map = [
        (S4u2Self, 6, "principal-unknown", Kind::PrincipalUnknown),
        (S4u2Proxy, 7, "spn-unknown", Kind::SpnUnknown),
        (S4u2Proxy, 8, "spn-duplicate", Kind::SpnUnknown),
        (S4u2Self, 8, "principal-not-unique", Kind::PrincipalUnknown),
        (S4u2Self, 12, "principal-policy", Kind::PrincipalRefused),
        (S4u2Proxy, 13, "delegation-refused", Kind::DelegationRefused),
        (
            S4u2Self,
            13,
            "protocol-transition-refused",
            Kind::DelegationRefused,
        ),
        (
            S4u2Proxy,
            14,
            "backend-enctype-unsupported",
            Kind::KdcRefused,
        ),
        (S4u2Self, 18, "principal-revoked", Kind::PrincipalRefused),
        (
            S4u2Proxy,
            23,
            "principal-password-expired",
            Kind::PrincipalRefused,
        ),
        (
            AcquireTgt,
            23,
            "gateway-password-expired",
            Kind::KeytabUnusable,
        ),
        (AcquireTgt, 24, "gateway-keytab-stale", Kind::KeytabUnusable),
        (AcquireTgt, 25, "preauth-required", Kind::KdcRefused),
        (AcquireTgt, 31, "gateway-keytab-stale", Kind::KeytabUnusable),
        (S4u2Proxy, 37, "clock-skew", Kind::ClockSkew),
        (BackendRefused, 37, "clock-skew", Kind::ClockSkew),
        (
            BackendRefused,
            41,
            "spn-on-wrong-account",
            Kind::TicketRefused,
        ),
        (S4u2Self, 52, "response-too-big", Kind::KdcRefused),
        (S4u2Self, 60, "kdc-generic", Kind::KdcRefused),
        (S4u2Proxy, 68, "wrong-realm", Kind::KdcRefused),
        (AcquireTgt, 156, "kdc-unreachable", Kind::KdcUnreachable),
        (
            S4u2Proxy,
            221,
            "evidence-not-forwardable",
            Kind::DelegationRefused,
        ),
        (S4u2Proxy, 99, "kdc-refused", Kind::KdcRefused),
    ];
    for (step, offset, code, kind) in map {
        let found = error(step, offset, None).diagnosis();
        assert_eq!((found.code, found.kind), (code, kind), "{step} {offset}");
    }
}

#[test]
fn a_refusal_with_unforwardable_evidence_names_the_account_not_the_list() {
    let found = error(S4u2Proxy, 13, Some(false)).diagnosis();
    assert_eq!(found.code, "evidence-not-forwardable");
    let found = error(S4u2Proxy, 13, Some(true)).diagnosis();
    assert_eq!(found.code, "delegation-refused");
}

#[test]
fn commands_carry_the_names() {
    let refused = error(S4u2Proxy, 13, None);
    let found = diagnose_as(&refused, Some("svc-gateway"));
    assert!(
        found.fix.contains(
            "Set-ADUser svc-gateway -Add @{'msDS-AllowedToDelegateTo'='HTTP/intranet.contoso.test'}"
        ),
        "{}",
        found.fix
    );
    let found = error(S4u2Self, 18, None).diagnosis();
    assert!(
        found.fix.starts_with("Enable-ADAccount kg-jane;"),
        "{}",
        found.fix
    );
    let found = error(AcquireTgt, 24, None).diagnosis();
    assert!(found.fix.contains("/mapuser kg-jane"), "{}", found.fix);
}

#[test]
fn what_sspi_and_the_event_log_say_leads_to_the_same_row() {
    for (alias, code) in [
        ("0x8009030E", "delegation-refused"),
        ("0x8009030c", "principal-policy"),
        ("0x80090303", "spn-unknown"),
        ("0x80090322", "spn-on-wrong-account"),
        ("0x80090342", "backend-enctype-unsupported"),
        ("event 12008", "backend-refused-ticket"),
        ("event 13016", "identity-missing"),
        ("event 13019", "spn-unknown"),
        ("event 12027", "spn-unknown"),
        ("event 13020", "spn-not-configured"),
        ("event 13022", "backend-refused-ticket"),
        ("event 24029", "delegation-refused"),
        (
            "HTTP 400 request header too long",
            "backend-header-too-long",
        ),
        ("TlRMTVNTUAAB", "backend-offers-ntlm-only"),
    ] {
        assert_eq!(by_alias(alias).map(|row| row.code), Some(code), "{alias}");
    }
    assert!(by_alias("0xdeadbeef").is_none());
    assert_eq!(kind(b"NTLMSSP\0"), TokenKind::Ntlm);
}

#[test]
fn a_failure_outside_kerberos_table_still_says_something() {
    let foreign = Error::Gss(Box::new(GssError {
        step: InitContext,
        principal: "a@R".parse().unwrap(),
        spn: None,
        major: 0x0007_0000,
        minor: 0,
        text: String::new(),
        evidence_forwardable: None,
    }));
    assert_eq!(foreign.diagnosis().code, "gss-failure");
}
