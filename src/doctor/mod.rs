//! Named, numbered checks of everything around the gateway, and the walk without a browser.
//!
//! In: the configuration. Out: a [`Report`](report::Report) or a [`Walk`](report::Walk), each finding with its
//! cause, its proof and the command that mends it. It uses the same rooms as the gateway itself.

pub mod report;
