//! Promises to a user, one file each, in one binary.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may stop at the first surprise, and says why"
)]

mod a_sign_in_belongs_to_one_browser;
mod alone;
mod api_clients_bring_tokens;
mod background_requests_get_json;
#[allow(dead_code, reason = "not every method is used by a promise yet")]
#[path = "../lab/browser.rs"]
mod browser;
mod delegation_remembers_and_forgets;
mod delegation_says_why_not;
mod delegation_speaks_as_the_person;
mod delegation_survives_its_kdcs;
mod guest_opens_intranet_in_browser;
mod guest_opens_kerberos_app;
mod identities_never_mix;
mod issuer_troubles;
mod lab;
mod logs_hold_no_secrets;
mod only_the_issuers_word_counts;
mod overage_asks_graph;
mod store_troubles;
#[path = "../lab/visitor.rs"]
#[allow(dead_code, reason = "shared with the soak, which uses more of it")]
mod visitor;
#[allow(dead_code, reason = "shared by the promises about signing in")]
mod walk;
mod who_leaves_loses_access;
