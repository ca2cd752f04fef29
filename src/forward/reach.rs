//! A connection to one of an application's servers: the first in turn that takes the request.
//!
//! In: the servers in the order to be tried. Out: a lease with the right to send one request, or why there is none.
//!
//! # Why
//!
//! - A server that could not be reached costs the request nothing: nothing was sent, the next one may have it.
//! - A server that is well but full is waited for; one that was left out is not tried instead.
//! - When none is left, all of them are named with what is wrong: one server's error explains no outage.

use std::time::Duration;
use std::time::Instant;

use super::Exchange;
use super::Forwarder;
use super::Reached;
use super::balance::Busy;
use super::balance::Group;
use super::balance::Server;
use super::draft::Draft;
use super::error::Error;
use super::key;
use super::queue::Queue;
use super::queue::Refused;

/// What is wrong with the servers that were tried.
#[derive(Default)]
struct Tried(Vec<Error>);

impl Tried {
    fn note(&mut self, draft: &Draft<'_>, group: &Group, server: &Server, error: Error) {
        tracing::warn!(application = %draft.application.id, %error, "backend not reached");
        group.refused(server);
        self.0.push(error);
    }

    /// The one error, or all of them.
    fn all(mut self, draft: &Draft<'_>, group: &Group) -> Error {
        let application = draft.application.id.to_string();
        let mut each: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        each.extend(
            group
                .each()
                .filter(|(_, server)| server.health.is_bad())
                .map(|(_, server)| {
                    format!("{server} fails its health checks: {}", server.health.why())
                }),
        );
        match self.0.pop() {
            Some(last) if each.len() > 1 => Error::NoneLeft {
                application,
                each: each.join("; "),
                last: Box::new(last),
            },
            Some(only) => only,
            None => Error::Misconfigured(application),
        }
    }
}

impl Forwarder {
    /// A connection to the first server in turn that takes one.
    pub(super) async fn reach<'a>(
        &self,
        group: &'a Group,
        draft: &Draft<'_>,
        exchange: &Exchange<'_>,
    ) -> Result<Reached<'a>, Error> {
        let mut tried = Tried::default();
        let mut full = Vec::new();
        let mut servers = group.in_turn(exchange.session.as_ref());
        group.prefer(&mut servers, |server| {
            self.pool.has(&key(server, &exchange.partition))
        });
        for (index, server) in servers {
            // Who is well and has too much to do is better than who is not well.
            if !full.is_empty() && group.is_out(server) {
                break;
            }
            let Some(busy) = group.admit(index, server) else {
                full.push(index);
                if group.waits_for_its_own(exchange.session.as_ref()) {
                    break;
                }
                continue;
            };
            match self.lease(draft, exchange, (index, server), busy).await {
                Ok(reached) => return Ok(reached),
                // Nothing was sent: the next one may have it.
                Err(error) => tried.note(draft, group, server, error),
            }
        }
        match &group.queue {
            Some(queue) if !full.is_empty() => {
                let waited = Box::pin(self.wait(group, queue, draft, exchange, full)).await;
                waited.map_err(|(more, error)| error.unwrap_or_else(|| more.all(draft, group)))
            }
            Some(_) | None => Err(tried.all(draft, group)),
        }
    }

    /// A connection to this very server, which has room for the request.
    async fn lease<'a>(
        &self,
        draft: &Draft<'_>,
        exchange: &Exchange<'_>,
        (index, server): (usize, &'a Server),
        busy: Busy,
    ) -> Result<Reached<'a>, Error> {
        let key = key(server, &exchange.partition);
        let lease = self.connection(draft, server, &key, Some(busy)).await?;
        Ok(Reached {
            server,
            index,
            lease,
        })
    }

    /// A connection to the first of these servers that has room for one more.
    async fn wait<'a>(
        &self,
        group: &'a Group,
        queue: &std::sync::Arc<Queue>,
        draft: &Draft<'_>,
        exchange: &Exchange<'_>,
        mut full: Vec<usize>,
    ) -> Result<Reached<'a>, (Tried, Option<Error>)> {
        let mut tried = Tried::default();
        let waited_for = full.clone();
        let limits = &group.balance.queue;
        let began = Instant::now();
        while !full.is_empty() {
            let until = began + limits.patience;
            let slot = match queue.wait(full.clone(), until).await {
                Ok(slot) => slot,
                Err(refused) => {
                    let application = draft.application.id.to_string();
                    let error = match refused {
                        Refused::Full => Error::QueueFull {
                            application,
                            length: limits.length,
                            after: limits.patience.max(Duration::from_secs(1)),
                        },
                        Refused::Late => Error::QueueLate {
                            application,
                            waited: limits.patience,
                        },
                    };
                    return Err((tried, Some(error)));
                }
            };
            let index = slot.server().unwrap_or_default();
            full.retain(|one| *one != index);
            let Some(server) = group.server(index) else {
                continue;
            };
            let busy = server.busy(Some(slot));
            match self.lease(draft, exchange, (index, server), busy).await {
                Ok(reached) => return Ok(reached),
                Err(error) => tried.note(draft, group, server, error),
            }
        }
        // All that were waited for have gone: the others may have room.
        for (index, server) in group.in_turn(exchange.session.as_ref()) {
            if waited_for.contains(&index) {
                continue;
            }
            let Some(busy) = group.admit(index, server) else {
                continue;
            };
            match self.lease(draft, exchange, (index, server), busy).await {
                Ok(reached) => return Ok(reached),
                Err(error) => tried.note(draft, group, server, error),
            }
        }
        Err((tried, None))
    }

    /// A new connection to the same server; to another one if it takes none.
    pub(super) async fn renew<'a>(
        &self,
        draft: &Draft<'_>,
        group: &'a Group,
        reached: &mut Reached<'a>,
    ) -> Result<(), Error> {
        let mut tried = Tried::default();
        match draft.connected(reached.server).await {
            Ok(connection) => {
                reached.lease.renew(connection);
                return Ok(());
            }
            Err(error) => tried.note(draft, group, reached.server, error),
        }
        let first = reached.server.id;
        for (index, server) in group.in_turn(None) {
            // Who is full has enough to do without what another one left.
            let Some(busy) = Some(server)
                .filter(|server| server.id != first)
                .and_then(|server| group.admit(index, server))
            else {
                continue;
            };
            match self.fresh(draft, server, &reached.lease, busy).await {
                Ok(lease) => {
                    *reached = Reached {
                        server,
                        index,
                        lease,
                    };
                    return Ok(());
                }
                Err(error) => tried.note(draft, group, server, error),
            }
        }
        Err(tried.all(draft, group))
    }

    /// A connection that served nobody before, for whom `lease` was.
    async fn fresh(
        &self,
        draft: &Draft<'_>,
        server: &Server,
        lease: &super::Lease,
        busy: Busy,
    ) -> Result<super::Lease, Error> {
        if server.is_full() {
            self.pool.make_room(server.id);
        }
        let connection = draft.connected(server).await?;
        let mut lease = self.pool.lease(&key(server, lease.partition()), connection);
        lease.busy = Some(busy);
        Ok(lease)
    }
}
