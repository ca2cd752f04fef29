//! One page after the other: bounded memory, links pinned, circles noticed.
//!
//! A page is whole or it is nothing. Each comes with the link after it, so that the caller can store it together with
//! what the page has led to, and go on from there after a crash. Replays, duplicates and entries out of order are
//! normal (Graph promises "at least once"): in the order given, the later one counts.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::Graph;
use super::budget::Priority;
use super::error::Error;
use super::exchange::About;
use super::exchange::Call;
use super::link::Link;
use super::question::Question;

/// Pages of one question. After an error [`Self::next`] may be called again, for the same page; until the last page has
/// come nothing may be concluded from what is missing.
#[derive(Debug)]
pub struct Pages<T> {
    graph: Graph,
    question: &'static Question,
    about: About,
    delta: bool,
    next: Option<Link>,
    // Hashes, not links: they are some KiB each.
    seen: HashSet<u64>,
    hasher: RandomState,
    page: PhantomData<fn() -> T>,
}

/// One page, in Graph's order; it may be empty and not be the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What stands in it.
    pub rows: Vec<T>,
    /// What comes after it.
    pub then: Then,
}

/// What comes after a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Another page; who stores the link can go on from here.
    Page(Link),
    /// All changes have been told. The next round begins here, within [`super::DELTA_LASTS`].
    Delta(Link),
    /// The end of a list.
    End,
}

impl<T: DeserializeOwned> Pages<T> {
    pub(super) fn of_list(
        graph: &Graph,
        question: &'static Question,
        about: About,
        first: Link,
    ) -> Self {
        Self {
            graph: graph.clone(),
            question,
            about,
            delta: false,
            next: Some(first),
            seen: HashSet::new(),
            hasher: RandomState::new(),
            page: PhantomData,
        }
    }

    pub(super) fn of_delta(graph: &Graph, question: &'static Question, first: Link) -> Self {
        Self {
            delta: true,
            ..Self::of_list(graph, question, About::List, first)
        }
    }

    /// The next page, or nothing after the last.
    ///
    /// # Errors
    /// Graph gave no answer, an unusable one, or pages without an end.
    pub async fn next(&mut self) -> Result<Option<Page<T>>, Error> {
        let Some(link) = &self.next else {
            return Ok(None);
        };
        let call = Call {
            question: self.question,
            url: link.url(),
            body: None,
            about: self.about,
            priority: Priority::Sync,
        };
        let body = self.graph.ask(&call).await?;
        let base = &self.graph.inner.settings.base_url;
        let page = parse(&body, self.question.name, base, self.delta)?;
        let here = self.hasher.hash_one(link.as_str());
        self.seen.insert(here);
        self.next = match &page.then {
            Then::Page(next) => {
                self.check_end(next)?;
                Some(next.clone())
            }
            Then::Delta(_) | Then::End => None,
        };
        Ok(Some(page))
    }

    fn check_end(&self, next: &Link) -> Result<(), Error> {
        let why = if self.seen.contains(&self.hasher.hash_one(next.as_str())) {
            "the links go in a circle"
        } else if self.seen.len() >= MAX_PAGES {
            "that is more than any tenant has"
        } else {
            return Ok(());
        };
        Err(Error::Endless {
            question: self.question.name,
            pages: self.seen.len(),
            why,
        })
    }
}

#[derive(Deserialize)]
struct Raw<T> {
    value: Vec<T>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<String>,
    #[serde(rename = "@odata.deltaLink")]
    delta: Option<String>,
}

/// Reads one page; its links must lead to `base`.
fn parse<T: DeserializeOwned>(
    body: &[u8],
    question: &'static str,
    base: &Url,
    delta: bool,
) -> Result<Page<T>, Error> {
    let unusable = |why: String| Error::Page { question, why };
    let raw: Raw<T> = serde_json::from_slice(body).map_err(|e| {
        // Position only: the text of a serde error quotes people.
        unusable(format!(
            "not as documented at line {}, column {}",
            e.line(),
            e.column()
        ))
    })?;
    let then = match (raw.next, raw.delta, delta) {
        (Some(next), None, _) => Then::Page(Link::pinned(base, &next)?),
        (None, Some(link), true) => Then::Delta(Link::pinned(base, &link)?),
        (None, None, false) => Then::End,
        (None, None, true) => {
            return Err(unusable(
                "neither nextLink nor deltaLink: half a page".to_owned(),
            ));
        }
        (Some(_), Some(_), _) => return Err(unusable("both nextLink and deltaLink".to_owned())),
        (None, Some(_), false) => return Err(unusable("a deltaLink in a plain list".to_owned())),
    };
    Ok(Page {
        rows: raw.value,
        then,
    })
}

/// Twenty million people at 100 a page.
const MAX_PAGES: usize = 200_000;

#[cfg(test)]
#[path = "paging_tests.rs"]
mod tests;
