//! Before the first room: which client it is, whether it may come from there, and whether it asks too much.
//!
//! In: the connection's peer and a request's head. Out: the one true client address, and whatever is held while
//! the request is being served. No room behind looks at peers or forwarding headers again. No address
//! ever stands in for a sign-in: these rules only keep out.
//!
//! What is not configured costs one comparison.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;

use crate::listener::Peer;
use crate::listener::buckets::AtOnce;
use crate::listener::buckets::Buckets;
use crate::listener::buckets::Inside;
use crate::listener::buckets::Key;
use crate::listener::forwarded;
use crate::model::addresses::Addresses;
use crate::model::addresses::Trusted;
use crate::model::application::Application;
use crate::model::names::AppId;
use crate::model::rates::Rates;
use crate::model::stop::Code;
use crate::model::stop::Stop;

/// What the gateway and its applications allow to one address and to one person.
#[derive(Debug)]
pub struct Admission {
    trusted: Trusted,
    addresses: Addresses,
    gateway: Option<Arc<Gate>>,
    applications: HashMap<AppId, Arc<Gate>>,
}

impl Admission {
    /// From the configuration; nobody has been counted yet.
    #[must_use]
    pub fn new(
        trusted: Trusted,
        addresses: Addresses,
        rates: &Rates,
        applications: impl IntoIterator<Item = impl AsRef<Application>>,
    ) -> Self {
        let limited = applications.into_iter().filter_map(|app| {
            let app = app.as_ref();
            let gate = Gate::new(&app.rates, format!("application {}", app.id))?;
            Some((app.id.clone(), gate))
        });
        Self {
            trusted,
            addresses,
            gateway: Gate::new(rates, String::from("the gateway")),
            applications: limited.collect(),
        }
    }

    /// The same rules, with what `before` has counted where its limits were these.
    #[must_use]
    pub fn going_on_from(mut self, before: &Self) -> Self {
        if let (Some(gate), Some(old)) = (&mut self.gateway, &before.gateway)
            && old.rates == gate.rates
        {
            *gate = Arc::clone(old);
        }
        for (id, gate) in &mut self.applications {
            if let Some(old) = before.applications.get(id)
                && old.rates == gate.rates
            {
                *gate = Arc::clone(old);
            }
        }
        self
    }

    /// The client, noted in the request's [`Peer`] for the rooms behind.
    pub(super) fn client(&self, head: &mut Parts) -> Result<IpAddr, Stop> {
        let Some(peer) = head.extensions.get::<Peer>() else {
            return Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        };
        let client = peer.client;
        if self.trusted.from.is_empty() {
            return Ok(client);
        }
        let client = forwarded::client(&self.trusted, client, &head.headers)
            .map_err(|bad| Stop::deny(Code::ForwardedRefused, bad.to_string()))?;
        if let Some(peer) = head.extensions.get_mut::<Peer>() {
            peer.comes_from(client);
        }
        Ok(client)
    }

    /// Whether somebody at `client` may come to the gateway at all, now.
    pub(super) fn gateway(&self, client: IpAddr) -> Result<Option<Inside>, Stop> {
        admit(&self.addresses, client, "the gateway")?;
        match &self.gateway {
            Some(gate) => gate.address.pass(Key::address(client), &gate.place),
            None => Ok(None),
        }
    }

    /// Whether somebody at `client` may come to `app`, now.
    pub(super) fn application(
        &self,
        app: &Application,
        client: IpAddr,
    ) -> Result<Option<Inside>, Stop> {
        admit(&app.addresses, client, app.id.as_str())?;
        match self.gate(app) {
            Some(gate) => gate.address.pass(Key::address(client), &gate.place),
            None => Ok(None),
        }
    }

    /// Whether `person` may ask `app` for more, now.
    pub(super) fn person(
        &self,
        app: &Application,
        person: impl FnOnce() -> Key,
    ) -> Result<[Option<Inside>; 2], Stop> {
        let gates = [self.gateway.as_deref(), self.gate(app)];
        if gates.iter().all(Option::is_none) {
            return Ok([None, None]);
        }
        let person = person();
        let [first, second] = gates.map(|gate| match gate {
            Some(gate) => gate.person.pass(person, &gate.place),
            None => Ok(None),
        });
        Ok([first?, second?])
    }

    fn gate(&self, app: &Application) -> Option<&Gate> {
        if app.rates.are_none() {
            return None;
        }
        self.applications.get(&app.id).map(Arc::as_ref)
    }
}

fn admit(addresses: &Addresses, client: IpAddr, place: &str) -> Result<(), Stop> {
    if addresses.admit(client) {
        return Ok(());
    }
    let detail = format!("{client} may not come to {place}");
    Err(Stop::deny(Code::AddressDenied, detail))
}

/// The limits of one place.
#[derive(Debug)]
struct Gate {
    place: String,
    rates: Rates,
    person: Limit,
    address: Limit,
}

impl Gate {
    fn new(rates: &Rates, place: String) -> Option<Arc<Self>> {
        if rates.are_none() {
            return None;
        }
        Some(Arc::new(Self {
            place,
            rates: *rates,
            person: Limit {
                rate: rates.per_person.map(Buckets::new),
                at_once: rates.person_at_once.map(AtOnce::new),
            },
            address: Limit {
                rate: rates.per_address.map(Buckets::new),
                at_once: rates.address_at_once.map(AtOnce::new),
            },
        }))
    }
}

#[derive(Debug)]
struct Limit {
    rate: Option<Buckets>,
    at_once: Option<Arc<AtOnce>>,
}

/// When one of several requests being served may be over: nobody knows, so soon.
const SOON: Duration = Duration::from_secs(1);

impl Limit {
    fn pass(&self, key: Key, place: &str) -> Result<Option<Inside>, Stop> {
        // First the place, then the rate: whoever is refused a place has used nothing up.
        let inside = match &self.at_once {
            Some(at_once) => Some(at_once.enter(key).ok_or_else(|| {
                let detail = format!("{key} has enough requests in progress at {place}");
                Stop::later(Code::TooManyConcurrent, detail, SOON)
            })?),
            None => None,
        };
        if let Some(rate) = &self.rate {
            rate.take(key).map_err(|after| {
                let detail = format!("{key} has used up its rate at {place}");
                Stop::later(Code::TooManyRequests, detail, after)
            })?;
        }
        Ok(inside)
    }
}
