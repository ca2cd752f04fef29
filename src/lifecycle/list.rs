//! All shadow accounts, page by page.

use std::collections::HashSet;

use uuid::Uuid;

use super::Error;
use super::Lifecycle;
use super::Shadow;
use crate::ldap::Dn;
use crate::ldap::Filter;
use crate::ldap::Pages;
use crate::ldap::Paging;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::ldap::Turn;

/// A listing under way. Each account comes once, even if the directory had to be asked again from the start.
#[derive(Debug)]
pub struct List<'a> {
    room: &'a Lifecycle,
    open: Option<Pages>,
    places: Vec<Dn>,
    /// 16 bytes an account: what a restarted search brings again is known.
    told: HashSet<Uuid>,
}

impl Lifecycle {
    /// Begins to list all accounts that carry an anchor.
    #[must_use]
    pub fn list(&self) -> List<'_> {
        let mut places: Vec<Dn> = self.places().into_iter().cloned().collect();
        places.reverse();
        List {
            room: self,
            open: None,
            places,
            told: HashSet::new(),
        }
    }
}

impl List<'_> {
    /// The next accounts, in no order; `None` at the end.
    ///
    /// # Errors
    /// The directory or the store does not answer; what came before is then not all.
    pub async fn next(&mut self) -> Result<Option<Vec<Shadow>>, Error> {
        loop {
            let pages = match &mut self.open {
                Some(pages) => pages,
                None => {
                    let Some(base) = self.places.pop() else {
                        return Ok(None);
                    };
                    self.open.insert(begin(self.room, base)?)
                }
            };
            let found = match pages.next().await? {
                Some(Turn::Page(found)) => found,
                Some(Turn::Restarted(_)) => continue,
                None => {
                    self.open = None;
                    continue;
                }
            };
            let mut page = Vec::with_capacity(found.entries.len());
            for entry in &found.entries {
                let anchored = self.room.oid(entry).is_some();
                let new = entry
                    .guid("objectGUID")
                    .is_none_or(|guid| self.told.insert(guid));
                if anchored && new {
                    let mut shadow = self.room.shadow(entry, false);
                    let people = self.room.people(entry);
                    self.room.add_use(&mut shadow, &people).await?;
                    page.push(shadow);
                }
            }
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }
}

fn begin(room: &Lifecycle, base: Dn) -> Result<Pages, Error> {
    let search = Search {
        base,
        scope: Scope::Subtree,
        filter: Filter::all(&[
            Filter::equals(&"objectCategory".parse()?, "person"),
            Filter::equals(&"objectClass".parse()?, "user"),
            Filter::present(&room.settings.anchor),
        ]),
        attributes: room.wanted(false),
        limit: 0,
    };
    Ok(room.tools.directory.pages(search, Paging::default()))
}
