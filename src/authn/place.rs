//! A sign-in in memory: one place, which all of its sessions point to, so that one look at a session finds both.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;

use arc_swap::ArcSwapOption;
use uuid::Uuid;

use super::session::Standing;

/// Where a sign-in's state lies; empty = it has to be read.
#[derive(Debug)]
pub(super) struct Place {
    id: Uuid,
    standing: ArcSwapOption<Standing>,
    all: Weak<Mutex<HashMap<Uuid, Weak<Self>>>>,
}

impl Place {
    pub(super) fn standing(&self) -> Option<Arc<Standing>> {
        self.standing.load_full()
    }

    pub(super) fn put(&self, standing: Arc<Standing>) {
        self.standing.store(Some(standing));
    }

    pub(super) fn clear(&self) {
        self.standing.store(None);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(all) = self.all.upgrade() else {
            return;
        };
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have made a new one meanwhile.
        if all
            .get(&self.id)
            .is_some_and(|place| place.strong_count() == 0)
        {
            all.remove(&self.id);
        }
    }
}

/// The places of all sign-ins that a session in memory points to.
///
/// SECURITY: no cache, whose entries go when it likes. As long as a session is found, its sign-in's end must find it, too.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    all: Arc<Mutex<HashMap<Uuid, Weak<Place>>>>,
}

impl Places {
    /// The place of the sign-in `id`; a new one is empty.
    pub(super) fn of(&self, id: Uuid) -> Arc<Place> {
        let mut all = self.lock();
        if let Some(known) = all.get(&id).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Place {
            id,
            standing: ArcSwapOption::empty(),
            all: Arc::downgrade(&self.all),
        });
        all.insert(id, Arc::downgrade(&new));
        new
    }

    /// The place of the sign-in `id`, if a session points to one.
    pub(super) fn known(&self, id: Uuid) -> Option<Arc<Place>> {
        self.lock().get(&id).and_then(Weak::upgrade)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Weak<Place>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    #[test]
    fn a_place_is_found_as_long_as_somebody_points_to_it() {
        let places = Places::default();
        let first = places.of(ID);
        assert!(Arc::ptr_eq(&first, &places.of(ID)));
        assert!(places.known(Uuid::from_u128(8)).is_none());
        drop(first);
        assert!(places.known(ID).is_none());
        assert!(places.lock().is_empty(), "nothing is left of it");
        assert!(places.of(ID).standing().is_none());
    }
}
