use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const SECONDS: i64 = 1_800_000_000;
const STAMP: Stamp = Stamp {
    seconds: SECONDS,
    micros: 200,
};

fn jane() -> Principal {
    "jane@CONTOSO.TEST".parse().unwrap()
}

fn held(client: &str, enctype: u32, ticket: usize) -> Held {
    Held {
        client: client.to_owned(),
        enctype,
        key: Zeroizing::new(vec![9; if enctype == 17 { 16 } else { 32 }]),
        begins: SECONDS - 60,
        ends: SECONDS + 3600,
        ticket: der::tlv(0x61, &vec![5; ticket]),
    }
}

fn native(enctype: u32) -> Native {
    Native::new(&held("jane@CONTOSO.TEST", enctype, 1000), &jane()).unwrap()
}

/// What an acceptor sees: the AP-REQ's ticket, and the authenticator's fields.
fn accepted(token: &[u8], enctype: u32) -> (Vec<u8>, Vec<u8>) {
    let content = der::expect(0x60, token).unwrap();
    let request = content.strip_prefix(AP_REQ).unwrap();
    let fields = der::expect(0x30, der::expect(0x6e, request).unwrap()).unwrap();
    let ticket = der::find(0xa3, fields).unwrap().to_vec();
    let options = der::expect(0x03, der::find(0xa2, fields).unwrap()).unwrap();
    assert_eq!(options, [0, 0x20, 0, 0, 0]);
    let sealed = der::expect(0x30, der::find(0xa4, fields).unwrap()).unwrap();
    let sealed = der::expect(0x04, der::find(0xa2, sealed).unwrap()).unwrap();
    let key = vec![9; if enctype == 17 { 16 } else { 32 }];
    let plain = Opener::new(&key, USAGE_AP_REQ).unwrap().open(sealed);
    let plain = plain.unwrap();
    let (tag, body, rest) = der::split(&plain).unwrap();
    assert_eq!((tag, rest), (0x62, &[][..]));
    (ticket, der::expect(0x30, body).unwrap().to_vec())
}

#[test]
fn an_authenticator_says_who_when_and_bound_to_what() {
    for enctype in [17, 18] {
        let token = native(enctype).token(STAMP, [3; 16], false).unwrap();
        let (ticket, fields) = accepted(&token, enctype);
        assert_eq!(ticket, der::tlv(0x61, &vec![5; 1000]));
        let realm = der::expect(0x1b, der::find(0xa1, &fields).unwrap());
        assert_eq!(realm, Some(&b"CONTOSO.TEST"[..]));
        let name = der::expect(0x30, der::find(0xa2, &fields).unwrap()).unwrap();
        let name = der::expect(0x30, der::find(0xa1, name).unwrap()).unwrap();
        assert_eq!(der::expect(0x1b, name), Some(&b"jane"[..]));
        let time = der::expect(0x18, der::find(0xa5, &fields).unwrap()).unwrap();
        assert_eq!(time, b"20270115080000Z");
        assert_eq!(unix(time), Some(SECONDS));
        let sum = der::expect(0x30, der::find(0xa3, &fields).unwrap()).unwrap();
        let kind = der::expect(0x02, der::find(0xa0, sum).unwrap()).unwrap();
        assert_eq!(der::number(kind), Some(0x8003));
        let sum = der::expect(0x04, der::find(0xa1, sum).unwrap()).unwrap();
        assert_eq!(sum[4..20], [3; 16]);
        // RFC 4121 4.1.1.1: bit 0 would hand the person's own tickets to the backend.
        assert_eq!(sum[20..], [2, 1, 0, 0]);
    }
}

/// The backend's side, with what it was given or something else.
fn answer(key: &[u8], seconds: i64, micros: u32, enctype: u32) -> Vec<u8> {
    let time = generalized_time(seconds).unwrap();
    let part = [
        der::tlv(0xa0, &der::tlv(0x18, &time)),
        der::tlv(0xa1, &der::integer(micros)),
        der::tlv(0xa3, &der::integer(77)),
    ];
    let mut sealed = vec![8; BLOCK];
    sealed.extend(der::tlv(0x7b, &der::wrap(0x30, &part)));
    Sealer::new(key, USAGE_AP_REP)
        .unwrap()
        .seal(&mut sealed, 0)
        .unwrap();
    let data = [
        der::tlv(0xa0, &der::integer(enctype)),
        der::tlv(0xa2, &der::tlv(0x04, &sealed)),
    ];
    let reply = [
        der::tlv(0xa0, &der::integer(5)),
        der::tlv(0xa1, &der::integer(15)),
        der::tlv(0xa2, &der::wrap(0x30, &data)),
    ];
    let reply = der::tlv(0x6f, &der::wrap(0x30, &reply));
    der::tlv(0x60, &[AP_REP, &reply].concat())
}

#[test]
fn only_the_holder_of_the_key_answers_and_only_this_token() {
    let native = native(18);
    let key = [9; 32];
    let good = answer(&key, SECONDS, 200, 18);
    assert!(native.is_answer(&good, STAMP));
    for (why, wrong) in [
        ("another key", answer(&[8; 32], SECONDS, 200, 18)),
        ("another second", answer(&key, SECONDS + 1, 200, 18)),
        ("another microsecond", answer(&key, SECONDS, 201, 18)),
        ("another enctype", answer(&key, SECONDS, 200, 17)),
        ("nothing", Vec::new()),
    ] {
        assert!(!native.is_answer(&wrong, STAMP), "{why}");
    }
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        let still = native.is_answer(&changed, STAMP);
        assert!(!still, "octet {at}");
        assert!(!native.is_answer(&good[..at], STAMP), "cut at {at}");
    }
}

#[test]
fn what_is_not_known_takes_the_general_way() {
    for (client, enctype) in [
        ("john@CONTOSO.TEST", 18),
        ("jane@FABRIKAM.TEST", 18),
        ("jane@contoso.test", 18),
        ("jane/admin@CONTOSO.TEST", 18),
        ("ja\\ne@CONTOSO.TEST", 18),
        ("jane", 18),
        ("jane@CONTOSO.TEST", 23),
        ("jane@CONTOSO.TEST", 20),
    ] {
        let held = held(client, enctype, 100);
        assert!(Native::new(&held, &jane()).is_none(), "{client} {enctype}");
    }
    let other_case = held("Jane@CONTOSO.TEST", 18, 100);
    assert!(Native::new(&other_case, &jane()).is_some());
}

#[test]
fn a_ticket_about_to_end_is_not_sent() {
    let native = native(18);
    for (after, sent) in [(0, true), (3569, true), (3571, false), (-400, false)] {
        let stamp = Stamp {
            seconds: SECONDS + after,
            micros: 0,
        };
        let token = native.token(stamp, [0; 16], true);
        assert_eq!(token.is_some(), sent, "{after}");
    }
}

/// In SPNEGO and bare, up to the 64 kB that a Windows ticket may grow to, every length is right.
#[test]
fn tickets_of_every_size_are_framed() {
    for size in [10, 100, 120, 250, 1000, 16_000, 48_000, 65_500, 70_000] {
        let native = Native::new(&held("jane@CONTOSO.TEST", 18, size), &jane()).unwrap();
        let token = native.token(STAMP, [0; 16], false).unwrap();
        assert_eq!(accepted(&token, 18).0.len(), sized(size));
        assert_eq!(spnego::kind(&token), spnego::TokenKind::Kerberos);
        let token = native.token(STAMP, [0; 16], true).unwrap();
        let (tag, _, rest) = der::split(&token).unwrap();
        assert_eq!((tag, rest.len()), (0x60, 0));
        assert_eq!(spnego::kind(&token), spnego::TokenKind::SpnegoInit);
    }
}

#[test]
fn no_two_tokens_are_of_the_same_time() {
    let stamps = Stamps::default();
    let given: Vec<Stamp> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..500).map(|n| stamps.next(n / 9)).collect::<Vec<_>>()))
            .collect();
        let parts = threads.into_iter().map(|thread| thread.join().unwrap());
        parts.flatten().collect()
    });
    let unlike: HashSet<_> = given
        .iter()
        .map(|stamp| (stamp.seconds, stamp.micros))
        .collect();
    assert_eq!(unlike.len(), 2000);
}

proptest! {
    #[test]
    fn a_time_survives_both_directions(seconds in 0_i64..4_000_000_000) {
        prop_assert_eq!(unix(&generalized_time(seconds).unwrap()), Some(seconds));
    }

    #[test]
    fn nonsense_is_no_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!native(18).is_answer(&bytes, STAMP));
    }
}
