//! What is known of every server now, for whoever watches.

use std::collections::HashMap;

use url::Url;

use super::Forwarder;

/// One server of one application, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// The published URL of the application, or of one of its segments.
    pub published_url: Url,
    /// The backend URL as configured.
    pub backend: String,
    /// Left out, for it refused connections, answered badly or failed its health checks.
    pub ejected: bool,
    /// What its health checks say; absent where there are none.
    pub healthy: Option<bool>,
    /// Requests in flight; absent where they are not counted.
    pub in_flight: Option<usize>,
    /// Connections that wait for their next request.
    pub waiting: usize,
}

impl Forwarder {
    /// Every server of the applications that were asked for since the start or their last change, sorted.
    ///
    /// Looks through all waiting connections: for a scrape now and then, not for requests.
    #[must_use]
    pub fn status(&self) -> Vec<ServerStatus> {
        let mut waiting: HashMap<u64, usize> = HashMap::new();
        self.pool.each(|backend, count| {
            let all = waiting.entry(backend).or_default();
            *all = all.saturating_add(count);
        });
        let mut status = Vec::new();
        for (published_url, group) in self.groups.load().iter() {
            let servers = group.backends.iter().enumerate();
            for (index, backend) in servers {
                let Some(server) = group.server(index) else {
                    continue;
                };
                let taken = || Some(group.queue.as_ref()?.taken(index));
                status.push(ServerStatus {
                    published_url: published_url.clone(),
                    backend: backend.url.to_string(),
                    ejected: group.is_out(server),
                    healthy: group
                        .balance
                        .health
                        .is_some()
                        .then(|| !server.health.is_bad()),
                    in_flight: server.in_flight().or_else(taken),
                    waiting: waiting.get(&server.id).copied().unwrap_or(0),
                });
            }
        }
        status.sort_by(|a, b| {
            (a.published_url.as_str(), &a.backend).cmp(&(b.published_url.as_str(), &b.backend))
        });
        status
    }

    /// How many requests wait for a server, by published URL, where servers take only so many.
    #[must_use]
    pub fn queues(&self) -> Vec<(Url, usize)> {
        let groups = self.groups.load();
        let queues = groups.iter().filter_map(|(url, group)| {
            let queue = group.queue.as_ref()?;
            Some((url.clone(), queue.waiting()))
        });
        let mut queues: Vec<_> = queues.collect();
        queues.sort();
        queues
    }
}

#[cfg(test)]
mod tests {
    use crate::forward::connect::Trust;
    use crate::forward::pool::Limits;
    use crate::model::application::Application;
    use crate::model::application::Backend;
    use crate::model::application::balance::Policy;

    use super::*;

    #[tokio::test]
    async fn who_is_left_out_and_who_is_busy_is_told() {
        let trust = Trust::Authorities(Vec::new());
        let forwarder = Forwarder::new(trust, Limits::default()).unwrap();
        assert!(forwarder.status().is_empty());
        let mut application = Application::sample();
        application.balance.policy = Policy::LeastRequests;
        application.backends = ["http://a/", "http://b/"]
            .map(|url| Backend {
                url: url.parse().unwrap(),
                address: None,
            })
            .to_vec();
        let group = forwarder.group(&application).unwrap();
        let (_, a) = group.each().next().unwrap();
        let (_, b) = group.each().last().unwrap();
        group.refused(a);
        let _busy = b.busy(None);
        let seen: Vec<_> = forwarder
            .status()
            .into_iter()
            .map(|one| (one.backend, one.ejected, one.in_flight, one.waiting))
            .collect();
        assert_eq!(
            seen,
            [
                (String::from("http://a/"), true, Some(0), 0),
                (String::from("http://b/"), false, Some(1), 0),
            ]
        );
    }
}
