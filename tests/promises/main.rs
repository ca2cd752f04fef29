//! Promises to a user, one file each, in one binary.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::excessive_nesting,
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop at the first surprise, says why, and reads as one story"
)]

mod a_form_outlives_its_session;
mod a_fresh_account_elsewhere_is_not_missing;
mod a_full_application_lets_people_wait;
mod a_kept_connection_may_be_gone;
mod a_server_that_is_unwell_gets_nobody;
mod a_sign_in_belongs_to_one_browser;
mod a_stop_is_orderly;
mod accounts_of_other_tools_are_adopted;
mod administrators_see_and_steer_accounts;
mod alone;
mod api_clients_bring_tokens;
mod backend_answers_are_made_ours;
mod backends_may_speak_http2;
mod backends_prove_who_they_are;
mod background_requests_get_json;
#[allow(dead_code, reason = "not every method is used by a promise yet")]
#[path = "../lab/browser.rs"]
mod browser;
mod certificates_come_by_acme;
mod check_says_what_a_start_would;
mod configuration_changes_without_a_restart;
mod delegation_remembers_and_forgets;
mod delegation_says_why_not;
mod delegation_speaks_as_the_person;
mod delegation_survives_its_kdcs;
mod directory;
mod directory_answers_are_read_whole;
mod directory_is_asked_safely;
mod doctor_names_the_cause;
mod every_refusal_comes_with_its_cure;
mod everybody_is_who_they_are;
mod extended_protection_is_met;
mod forged_identity_headers_never_arrive;
mod graph_is_asked_with_patience;
mod groups_follow_the_cloud;
mod groups_follow_the_token;
mod grpc_works_signed_in;
mod guest_opens_intranet_in_browser;
mod guest_opens_kerberos_app;
mod guests_are_kept_in_step;
mod hands;
mod hostile_names_stay_names;
mod http_that_could_be_read_in_two_ways_is_refused;
mod identities_never_mix;
mod issuer_troubles;
mod iwa_in_all_its_forms;
mod iwa_tokens_are_cheap_and_the_same;
mod kerberos_troubles_have_names;
mod lab;
mod large_bodies_stream_through;
mod leavers_are_cut_off_quickly;
mod links_lead_to_what_is_published;
mod logs_hold_no_secrets;
mod nobody_becomes_somebody_else;
mod nobody_outside_the_fence_is_acted_for;
mod one_application_may_have_several_addresses;
mod one_backend_may_die;
mod one_guest_gets_one_account;
mod one_refusal_stops_one_step;
mod only_the_issuers_word_counts;
mod overage_asks_graph;
mod partners_go_to_the_cloud;
mod parts_and_questions_are_carried_as_they_are;
mod predecessors_accounts_are_adopted;
mod relay;
mod restart_and_stop;
mod slow_and_flooding_clients_are_cut;
mod sockets;
mod sockets_come_from_systemd;
mod store_troubles;
mod streams_stay_streams;
mod the_gateway_never_appears_as_itself;
mod the_setup_that_is_printed_works;
mod two_gateways_make_one_account;
#[path = "../lab/visitor.rs"]
#[allow(dead_code, reason = "shared with the soak, which uses more of it")]
mod visitor;
mod walk;
mod webdav_names_are_checked_and_translated;
mod websockets_end_with_the_session;
mod websockets_work_signed_in;
mod what_a_stranger_says_opens_nothing;
mod what_comes_before_an_answer_is_passed_on;
mod what_happens_can_be_counted;
mod what_is_open_shows_nobody;
mod what_stands_behind_the_hash_survives_a_sign_in;
mod who_comes_from_where_is_known;
mod who_leaves_loses_access;
mod wire;
