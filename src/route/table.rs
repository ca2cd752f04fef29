//! The applications of one host as a tree of path segments: the longest prefix is found in as many steps
//! as the path has segments, however many applications there are.
//!
//! Keys are segments as the most lenient backend reads them ([`Target::under`]): decoded, without
//! parameters, in lower case. A look-up allocates nothing.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::application::Application;
use crate::route::target::Target;
use crate::route::target::lenient;

/// One folder of a host.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    app: Option<Arc<Application>>,
    below: HashMap<Box<[u8]>, Self>,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// An application.
    In(&'a Arc<Application>),
    /// An application's prefix without its last slash.
    Before(&'a Arc<Application>),
}

impl Folder {
    /// Publishes `app` under its prefix; the first of two stays, which the configuration refuses anyway.
    pub(super) fn publish(&mut self, app: Arc<Application>) {
        let prefix = app.prefix.to_ascii_lowercase();
        let mut folder = self;
        for segment in prefix.split('/').filter(|segment| !segment.is_empty()) {
            folder = folder.below.entry(segment.as_bytes().into()).or_default();
        }
        folder.app.get_or_insert(app);
    }

    /// The application with the longest prefix of `target`.
    pub(super) fn find(&self, target: &Target) -> Option<Place<'_>> {
        let mut folder = self;
        let mut best = folder.app.as_ref().map(Place::In);
        let mut rest = target.path();
        let mut room = [0_u8; LONGEST];
        while !folder.below.is_empty() {
            let Some(inner) = rest.strip_prefix('/') else {
                break;
            };
            let (segment, after) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
            // A longer one is nobody's prefix: the configuration limits them.
            let Some(key) = lenient(segment, &mut room) else {
                break;
            };
            let Some(next) = folder.below.get(key) else {
                break;
            };
            (folder, rest) = (next, after);
            if let Some(app) = &folder.app {
                best = Some(if rest.is_empty() {
                    Place::Before(app)
                } else {
                    Place::In(app)
                });
            }
        }
        best
    }
}

/// Longest segment of a published prefix, in bytes.
pub const LONGEST: usize = 255;
