//! The words, one file a language.
//!
//! Rules for them: no jargon, no blame, polite; German with "Sie", French with "vous", Dutch with "u".
//! Say what happened, then what the visitor can do. A new language is one file and one arm per `match`.

use super::language::Language;
use super::topic::Topic;

mod de;
mod en;
mod fr;
mod nl;

/// What is said about one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sentence {
    /// The page's heading.
    pub(super) title: &'static str,
    /// What happened.
    pub(super) happened: &'static str,
    /// What the visitor can do.
    pub(super) next: &'static str,
}

/// Words that several pages share, and the pages that belong to no code.
pub(super) struct Words {
    pub(super) what_next: &'static str,
    pub(super) who_helps: &'static str,
    pub(super) ask_owner: &'static str,
    pub(super) ask_support: &'static str,
    pub(super) owner_unnamed: &'static str,
    pub(super) support_unnamed: &'static str,
    pub(super) details: &'static str,
    pub(super) quote: &'static str,
    pub(super) code: &'static str,
    pub(super) request: &'static str,
    pub(super) time: &'static str,
    pub(super) application: &'static str,
    pub(super) sign_in: &'static str,
    pub(super) retry: &'static str,
    pub(super) waiting: Sentence,
    pub(super) waiting_status: &'static str,
    pub(super) go_on: &'static str,
    pub(super) signed_out: Sentence,
    pub(super) confirm: Sentence,
    pub(super) sign_out: &'static str,
    pub(super) another_account: &'static str,
    pub(super) cancel: &'static str,
    pub(super) way: Sentence,
    pub(super) form_not_sent: Sentence,
}

/// The sentences of `topic` in `language`.
pub(super) const fn sentence(language: Language, topic: Topic) -> Sentence {
    match language {
        Language::English => en::sentence(topic),
        Language::German => de::sentence(topic),
        Language::French => fr::sentence(topic),
        Language::Dutch => nl::sentence(topic),
    }
}

/// The shared words of `language`.
pub(super) const fn words(language: Language) -> &'static Words {
    match language {
        Language::English => &en::WORDS,
        Language::German => &de::WORDS,
        Language::French => &fr::WORDS,
        Language::Dutch => &nl::WORDS,
    }
}

const fn say(title: &'static str, happened: &'static str, next: &'static str) -> Sentence {
    Sentence {
        title,
        happened,
        next,
    }
}
