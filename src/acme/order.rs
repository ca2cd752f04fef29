//! One order, from wherever it stands to a certificate (RFC 8555 7.4, 7.5).
//!
//! In: an account and a host. Out: a certificate in the store. The order's address and the certificate's key are kept
//! before anything hangs on them, so whoever comes after a crash goes on at the same place.

use std::time::Duration;
use std::time::Instant;

use instant_acme::Account;
use instant_acme::AuthorizationStatus;
use instant_acme::ChallengeStatus;
use instant_acme::ChallengeType;
use instant_acme::Error;
use instant_acme::Identifier;
use instant_acme::NewOrder;
use instant_acme::Order;
use instant_acme::OrderStatus;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use rcgen::KeyPair;

use crate::acme::LOOK_EVERY;
use crate::acme::authority::Failure;
use crate::acme::book;
use crate::acme::book::KeptAnswer;
use crate::acme::book::KeptCertificate;
use crate::acme::book::KeptOrder;
use crate::acme::round::Round;
use crate::acme::round::Stop;
use crate::config::acme::Challenge;
use crate::listener::ordered;
use crate::model::secret::Secret;
use crate::store::records::AcmeKind;

/// How long an authority may take in all; then the order is left and gone on with later.
const LONGEST: Duration = Duration::from_secs(120);
/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

impl Round<'_> {
    /// Brings `host` a certificate.
    pub(super) async fn order(&self, account: &Account, host: &str) -> Result<(), Stop> {
        let (mut kept, mut order) = self.open(account, host).await?;
        let begun = Instant::now();
        let mut proved = false;
        loop {
            match order.state().status {
                OrderStatus::Pending if !proved => {
                    self.prove(&mut order, &mut kept, host).await?;
                    proved = true;
                }
                OrderStatus::Pending | OrderStatus::Processing => {}
                OrderStatus::Ready => {
                    let request = request(host, &kept)?;
                    let sent = order.finalize_csr(&request).await;
                    sent.map_err(|error| self.failure(&error))?;
                    if order.state().status != OrderStatus::Processing {
                        continue;
                    }
                }
                OrderStatus::Valid => {
                    let chain = order.certificate().await;
                    let chain = chain.map_err(|error| self.failure(&error))?;
                    let chain = chain.ok_or_else(|| {
                        Failure::later(String::from("the order is done and has no certificate"))
                    })?;
                    return self.keep_certificate(host, kept, chain).await;
                }
                OrderStatus::Invalid => return Err(self.why(&mut order).await.into()),
            }
            if begun.elapsed() > LONGEST {
                let took = LONGEST.as_secs();
                let problem = format!("the authority has not finished within {took} s");
                return Err(Failure::later(problem).into());
            }
            tokio::time::sleep(ASK_EVERY).await;
            let asked = order.refresh().await.map(drop);
            asked.map_err(|error| self.failure(&error))?;
        }
    }

    fn failure(&self, error: &Error) -> Failure {
        self.keeper.http.failure(error)
    }

    /// The order that is open, or a new one.
    async fn open(&self, account: &Account, host: &str) -> Result<(KeptOrder, Order), Stop> {
        let kept = {
            let book = self.keeper.book.lock().await;
            book.orders.get(host).map(|open| open.kept.clone())
        };
        if let Some(kept) = kept {
            match account.order(kept.url.clone()).await {
                Ok(order) => {
                    tracing::info!(host, "going on with the order that is open");
                    return Ok((kept, order));
                }
                // The authority has forgotten it: a new one takes its place.
                Err(Error::Api(problem)) if problem.status != Some(429) => {}
                Err(error) => return Err(self.failure(&error).into()),
            }
        }
        let identifiers = [Identifier::Dns(host.to_owned())];
        let placed = account.new_order(&NewOrder::new(&identifiers)).await;
        let order = placed.map_err(|error| self.failure(&error))?;
        let key = KeyPair::generate().map_err(|error| Failure::later(error.to_string()))?;
        let kept = KeptOrder {
            directory: self.keeper.settings.directory.clone(),
            url: order.url().to_owned(),
            key: Secret::new(key.serialize_pem()),
            answer: None,
        };
        let record = self.sealed(AcmeKind::Order, host, &kept)?;
        self.put(&[record]).await?;
        tracing::info!(host, "the order is placed");
        Ok((kept, order))
    }

    /// Keeps the answer where every replica finds it, then has the authority ask for it.
    async fn prove(&self, order: &mut Order, kept: &mut KeptOrder, host: &str) -> Result<(), Stop> {
        let wanted = self.keeper.settings.challenge;
        let mut authorizations = order.authorizations();
        while let Some(found) = authorizations.next().await {
            let mut authorization = found.map_err(|error| self.failure(&error))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(kind(wanted)) else {
                let problem = format!("the authority offers no {} here", name(wanted));
                return Err(Failure::refused(problem).into());
            };
            kept.answer = Some(KeptAnswer {
                token: challenge.token.clone(),
                authorization: challenge.key_authorization().as_str().to_owned(),
            });
            let record = self.sealed(AcmeKind::Order, host, kept)?;
            self.put(&[record]).await?;
            if wanted == Challenge::TlsAlpn01 {
                // A handshake cannot wait for the store: every replica has looked before the authority comes.
                tokio::time::sleep(LOOK_EVERY * 3).await;
            }
            if challenge.status == ChallengeStatus::Pending {
                let ready = challenge.set_ready().await;
                ready.map_err(|error| self.failure(&error))?;
            }
        }
        Ok(())
    }

    async fn keep_certificate(
        &self,
        host: &str,
        order: KeptOrder,
        chain: String,
    ) -> Result<(), Stop> {
        let issued = ordered::issued(&chain, order.key.expose(), host).map_err(|problem| {
            Failure::refused(format!(
                "the authority's certificate is unusable: {problem}"
            ))
        })?;
        let kept = KeptCertificate {
            directory: order.directory,
            chain,
            key: order.key,
        };
        let certificate = self.sealed(AcmeKind::Certificate, host, &kept)?;
        let order = book::gone(AcmeKind::Order, host);
        let trouble = book::gone(AcmeKind::Trouble, host);
        self.put(&[certificate, order, trouble]).await?;
        let now = self.keeper.tools.clock.unix();
        let seconds = issued.end.saturating_sub(now);
        tracing::info!(host, seconds, "a new certificate serves");
        Ok(())
    }

    /// The reason of an order that came to nothing: it stands at the challenge.
    async fn why(&self, order: &mut Order) -> Failure {
        if let Some(problem) = &order.state().error {
            return Failure::of(problem, None);
        }
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else {
                continue;
            };
            let mut errors = state.challenges.iter().filter_map(|one| one.error.as_ref());
            if let Some(problem) = errors.next() {
                return Failure::of(problem, None);
            }
        }
        Failure::refused(String::from("the order became invalid without a reason"))
    }
}

const fn kind(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

const fn name(challenge: Challenge) -> &'static str {
    match challenge {
        Challenge::Http01 => "http-01",
        Challenge::TlsAlpn01 => "tls-alpn-01",
    }
}

/// The signing request (RFC 2986, RFC 8555 7.4): the host as subjectAltName, no common name.
fn request(host: &str, kept: &KeptOrder) -> Result<Vec<u8>, Failure> {
    let wrong = |error: rcgen::Error| Failure::refused(error.to_string());
    let key = KeyPair::from_pem(kept.key.expose()).map_err(wrong)?;
    let mut params = CertificateParams::new([host.to_owned()]).map_err(wrong)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(wrong)?;
    Ok(request.der().to_vec())
}
