//! `[addresses]` and `[rates]`: the same keys for the gateway as a whole and for one application.

use std::num::NonZeroU32;

use crate::config::reader::Section;
use crate::model::addresses::Addresses;
use crate::model::addresses::Networks;
use crate::model::rates::Rate;
use crate::model::rates::Rates;

/// The gateway's own rates besides those of requests.
#[derive(Clone, Copy, Debug)]
pub struct GatewayRates {
    /// Of all requests, whatever application they are for.
    pub requests: Rates,
    /// Sign-ins begun from one address; each one is a record in the store.
    pub sign_ins: Option<Rate>,
    /// Access tokens from one address that did not hold.
    pub bad_tokens: Option<Rate>,
}

/// One key's networks.
pub(super) fn networks(section: &Section<'_>, key: &'static str) -> Networks {
    const WANTED: &str = "a network such as \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.1\"";
    Networks::new(section.list(key, WANTED))
}

/// `[addresses]`.
pub(super) fn addresses(section: &Section<'_>) -> Addresses {
    let addresses = Addresses {
        allow: networks(section, "allow"),
        deny: networks(section, "deny"),
    };
    // SECURITY: an empty list means everybody; whoever wrote it may have meant nobody.
    if section.exists() && addresses == Addresses::default() {
        section.mistake(
            "",
            "names no network and keeps nobody out; fill allow or deny, or leave the section out",
        );
    }
    section.finish();
    addresses
}

/// An application's `[rates]`.
pub(super) fn rates(section: &Section<'_>) -> Rates {
    let rates = requests(section);
    section.finish();
    rates
}

/// The gateway's `[rates]`.
pub(super) fn gateway_rates(section: &Section<'_>) -> GatewayRates {
    // A whole office may come from one address on Monday morning; a program that begins sign-ins for
    // ever fills the store. 1200 at once and 20 a second lie between the two.
    let sign_ins = rate_or(section, "sign_ins_per_address", "1200/m");
    // Each costs a signature's check; clients whose token has expired try again a few times.
    let bad_tokens = rate_or(section, "bad_tokens_per_address", "600/m");
    let rates = GatewayRates {
        requests: requests(section),
        sign_ins,
        bad_tokens,
    };
    section.finish();
    rates
}

const WANTED: &str = "a rate such as \"20/s\", \"600/m\" or \"5000/h\"";

fn requests(section: &Section<'_>) -> Rates {
    Rates {
        per_person: section.parsed("per_person", WANTED),
        person_at_once: at_once(section, "person_at_once"),
        per_address: section.parsed("per_address", WANTED),
        address_at_once: at_once(section, "address_at_once"),
    }
}

/// A number of things at a time; 0 = no limit.
pub(super) fn at_once(section: &Section<'_>, key: &'static str) -> Option<NonZeroU32> {
    let most = section.number(key, 0..=1_000_000, 0);
    u32::try_from(most).ok().and_then(NonZeroU32::new)
}

/// A rate, `default` when the key is absent, none for `"none"`.
fn rate_or(section: &Section<'_>, key: &'static str, default: &str) -> Option<Rate> {
    match section.text(key).as_deref() {
        Some("none") => None,
        given => {
            let text = given.unwrap_or(default);
            let rate = text.parse::<Rate>();
            if rate.is_err() {
                section.mistake(key, &format!("\"{text}\" is not {WANTED}, or \"none\""));
            }
            rate.ok()
        }
    }
}
