//! The way to the issuer and back: application's host, central host, issuer, central host, application's host.

use std::sync::Arc;

use http::HeaderMap;
use http::Response;
use http::request::Parts;
use url::Url;
use uuid::Uuid;

use super::Inner;
use super::OwnPath;
use super::answer;
use super::cookie;
use super::params::Params;
use super::random;
use super::reason;
use super::seal::Purpose;
use super::session::Found;
use super::session::Standing;
use crate::model::application::Application;
use crate::model::body::Body;
use crate::model::claims::Claims;
use crate::model::names::HostName;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;
use crate::oidc::code_flow::AuthorizeRequest;
use crate::oidc::code_flow::Tokens;
use crate::oidc::code_flow::entra_codes;
use crate::oidc::error::bounded;
use crate::store::records::EndReason;
use crate::store::records::HandOver;
use crate::store::records::IdHash;
use crate::store::records::Login;
use crate::store::records::Pending;
use crate::store::records::Session;
use crate::store::records::SignIn;
use crate::store::records::TakenLogin;
use crate::store::records::Whose;

impl Inner {
    /// Step 1, on the application's host: remembers where to come back to and sends the browser to the central host.
    ///
    /// # Errors
    /// `sign-in-loop`, `cookie-duplicate`, `store-unavailable`.
    pub(super) async fn begin(
        &self,
        head: &Parts,
        app: &Application,
        target: &str,
    ) -> Result<Stop, Stop> {
        if let (Some(sign_ins), Some(key)) = (&self.sign_ins, super::client(head)) {
            sign_ins.take(key).map_err(|after| {
                let detail = format!("{key} has begun too many sign-ins");
                Stop::later(Code::TooManyRequests, detail, after)
            })?;
        }
        let browser = self.binding(&head.headers)?;
        let place = (IdHash::of(&browser), app.host.clone());
        let in_a_row = self.loops.get(&place).unwrap_or(0);
        if in_a_row >= MOST_IN_A_ROW {
            self.loops.invalidate(&place);
            let detail = format!("{in_a_row} sign-ins on {} led to no session", app.host);
            return Err(Stop::deny(Code::SignInLoop, detail));
        }
        let id = random::id()?;
        let now = self.clock.unix();
        let pending = Pending {
            hash: IdHash::of(&id),
            browser: place.0,
            host: app.host.clone(),
            origin: answer::origin(&app.published_url),
            target: safe_target(target).to_owned(),
            attempt: in_a_row + 1,
            created: now,
            expires: self.clock.unix_after(self.settings.sign_in),
        };
        let settings = &self.settings;
        self.store
            .add_pending(
                &pending,
                settings.pending_per_browser,
                settings.pending_overall,
            )
            .await
            .map_err(|e| reason::store(&e))?;
        let mut to = self.central(OwnPath::SignIn);
        to.query_pairs_mut().append_pair("id", &id);
        let cookie = cookie::binding(&browser, settings.sign_in)?;
        let away = self.leave(head, &pending, to.as_str(), vec![cookie])?;
        Ok(Stop::reply(away))
    }

    /// `/.kerbgate/signin`: step 2 on the central host, step 4 on an application's host.
    pub(super) async fn sign_in(
        self: &Arc<Self>,
        head: &Parts,
        host: &HostName,
        central: bool,
    ) -> Result<Response<Body>, Stop> {
        let params = Params::of(head);
        let (id, code) = (params.one("id")?, params.one("code")?);
        match (id, code) {
            (Some(id), None) if central => self.to_issuer(head, id).await,
            (None, Some(code)) => self.redeem_hand_over(head, code, host).await,
            // A bookmark, or "sign in again": the front page knows what to do.
            (None, None) => answer::redirect("/", Vec::new()),
            (Some(_), _) => Err(unknown_state("`id` belongs to the central host alone")),
        }
    }

    /// Step 2, on the central host: hand over at once where there is a sign-in, otherwise off to the issuer.
    async fn to_issuer(self: &Arc<Self>, head: &Parts, id: &str) -> Result<Response<Body>, Stop> {
        let pending = self.pending(&IdHash::of(id)).await?;
        if let Some(standing) = self.central_sign_in(&head.headers).await? {
            return self.hand_over(&pending, standing.id, Vec::new()).await;
        }
        let browser = self.binding(&head.headers)?;
        let (state, nonce, verifier) = (random::id()?, random::id()?, random::id()?);
        let redirect_uri = self.central(OwnPath::Callback);
        let url = self
            .issuer
            .authorize_url(&AuthorizeRequest {
                redirect_uri: &redirect_uri,
                state: &state,
                nonce: &nonce,
                verifier: &verifier,
                login_hint: None,
            })
            .await
            .map_err(|e| reason::issuer(&e))?;
        let sealed = self
            .keyring
            .seal(Purpose::Verifier, &state, &verifier)
            .map_err(|e| reason::internal(&e.to_string()))?;
        let login = Login {
            hash: IdHash::of(&state),
            pending: pending.hash,
            browser: IdHash::of(&browser),
            nonce,
            verifier: sealed,
            issuer: self.issuer.name().to_owned(),
            expires: self.clock.unix_after(self.settings.sign_in),
        };
        self.store
            .add_login(&login)
            .await
            .map_err(|e| reason::store(&e))?;
        let cookie = cookie::binding(&browser, self.settings.sign_in)?;
        answer::redirect(url.as_str(), vec![cookie])
    }

    /// Step 3, on the central host: the issuer sends the browser back.
    pub(super) async fn callback(self: &Arc<Self>, head: &Parts) -> Result<Response<Body>, Stop> {
        let params = Params::of(head);
        let state = params.one("state")?;
        let (code, error) = (params.one("code")?, params.one("error")?);
        let (iss, description) = (params.one("iss")?, params.one("error_description")?);
        let state = state.ok_or_else(|| unknown_state("no state"))?;
        let login = match self.take_login(head, state).await? {
            Taken::Ours(login) => login,
            Taken::Again(answer) => return Ok(answer),
        };
        // RFC 9207: the response must come from the issuer that this sign-in went to.
        self.issuer
            .check_response_issuer(iss)
            .await
            .map_err(|e| reason::issuer(&e))?;
        if let Some(error) = error {
            return Err(refused(error, description.unwrap_or_default()));
        }
        let code = code.ok_or_else(|| Stop::deny(Code::BadRequest, "neither code nor error"))?;
        let verifier = self
            .keyring
            .open(Purpose::Verifier, state, &login.verifier)
            .map_err(|e| unknown_state(&e.to_string()))?;
        let redirect_uri = self.central(OwnPath::Callback);
        let tokens = self
            .issuer
            .redeem(code, verifier.expose(), &redirect_uri)
            .await
            .map_err(|e| reason::issuer(&e))?;
        let claims = self
            .issuer
            .validate_id_token(tokens.id_token.expose(), Some(&login.nonce))
            .await
            .map_err(|e| reason::issuer(&e))?;
        self.signed_in(head, &login, claims, &tokens).await
    }

    /// Takes the state of this trip; only for the browser that began it, and only once.
    async fn take_login(self: &Arc<Self>, head: &Parts, state: &str) -> Result<Taken, Stop> {
        let now = self.clock.unix();
        let taken = self
            .store
            .take_login(&IdHash::of(state), now)
            .await
            .map_err(|e| reason::store(&e))?;
        let browser = cookie::read(&head.headers, cookie::BINDING)?.map(IdHash::of);
        // RFC 9700 4.7: SECURITY: without this line an attacker's own response would sign the victim in as the attacker.
        let same_browser = |login: &Login| browser == Some(login.browser);
        match taken {
            TakenLogin::Fresh(login) if login.issuer != self.issuer.name() => {
                Err(unknown_state("the sign-in began at another issuer"))
            }
            TakenLogin::Fresh(login) if same_browser(&login) => Ok(Taken::Ours(login)),
            TakenLogin::Fresh(_) => Err(unknown_state("the sign-in began in another browser")),
            // Reload, or "back": nothing is redeemed again; who is signed in goes on to where they wanted.
            TakenLogin::Used(login) if same_browser(&login) => {
                let standing = self.central_sign_in(&head.headers).await?;
                let standing = standing.ok_or_else(|| unknown_state("used before"))?;
                let pending = self.pending(&login.pending).await?;
                let answer = self.hand_over(&pending, standing.id, Vec::new()).await?;
                Ok(Taken::Again(answer))
            }
            TakenLogin::Used(_) => Err(unknown_state("used before, by another browser")),
            TakenLogin::Unknown => Err(unknown_state("never issued, or too old")),
        }
    }

    async fn signed_in(
        self: &Arc<Self>,
        head: &Parts,
        login: &Login,
        claims: Claims,
        tokens: &Tokens,
    ) -> Result<Response<Body>, Stop> {
        let pending = self.pending(&login.pending).await?;
        self.leave_earlier(&head.headers, &claims).await?;
        let person = claims.person;
        // Tabs that signed in side by side share one sign-in, so that one sign-out ends them all.
        let shared = (login.browser, person);
        let made = self.shared.try_get_with(shared, async {
            self.add_sign_in(claims.clone(), tokens).await
        });
        let mut id = made.await.map_err(|stop| again(&stop))?;
        if !self.is_live(id).await? {
            id = self
                .add_sign_in(claims, tokens)
                .await
                .map_err(|stop| again(&stop))?;
            self.shared.insert(shared, id).await;
        }
        let host = self.settings.sign_in_host.clone();
        let cookie = self.add_session(id, host).await?;
        self.hand_over(&pending, id, vec![cookie]).await
    }

    /// A browser that changes person leaves the earlier one everywhere; the old central cookie dies in any case.
    async fn leave_earlier(&self, headers: &HeaderMap, claims: &Claims) -> Result<(), Stop> {
        let host = &self.settings.sign_in_host;
        let Found::Live(live, standing) = self.sessions.find(headers, host).await? else {
            return Ok(());
        };
        if standing.claims.person == claims.person {
            self.remove_session(live.key()).await
        } else {
            let whose = Whose::SignIn(standing.id);
            self.end(&whose, EndReason::SignOut).await.map(drop)
        }
    }

    async fn add_sign_in(&self, claims: Claims, tokens: &Tokens) -> Result<Uuid, Failure> {
        let id = Uuid::new_v4();
        let refresh_token = match &tokens.refresh_token {
            Some(token) => Some(
                self.keyring
                    .seal(Purpose::RefreshToken, &id.to_string(), token.expose())
                    .map_err(|e| Failure::Defect(e.to_string()))?,
            ),
            None => None,
        };
        let now = self.clock.unix();
        let record = SignIn {
            id,
            claims,
            refresh_token,
            created: now,
            checked: now,
            expires: self.clock.unix_after(self.settings.absolute),
            ended: None,
        };
        self.store
            .add_sign_in(&record)
            .await
            .map_err(Failure::Store)?;
        tracing::info!(
            target: "audit",
            event = "sign-in",
            person = %record.claims.person,
            name = record.claims.shown_name(),
            guest = record.claims.is_guest(),
            external = record.claims.is_external(),
            sign_in = %id,
        );
        Ok(id)
    }

    /// Adds a session with a new id on `host`; returns its cookie.
    async fn add_session(&self, sign_in: Uuid, host: HostName) -> Result<http::HeaderValue, Stop> {
        let id = random::id()?;
        let now = self.clock.unix();
        let session = Session {
            hash: IdHash::of(&id),
            sign_in,
            host,
            created: now,
            last_seen: now,
            idle_until: self.clock.unix_after(self.settings.idle),
            expires: self.clock.unix_after(self.settings.absolute),
        };
        self.store
            .add_session(&session)
            .await
            .map_err(|e| reason::store(&e))?;
        cookie::session(&id)
    }

    async fn remove_session(&self, hash: IdHash) -> Result<(), Stop> {
        self.sessions.forget_session(&hash);
        self.store
            .remove_session(&hash)
            .await
            .map_err(|e| reason::store(&e))
    }

    /// Sends the browser to the application's host with a code that only it can redeem there.
    async fn hand_over(
        &self,
        pending: &Pending,
        sign_in: Uuid,
        cookies: Vec<http::HeaderValue>,
    ) -> Result<Response<Body>, Stop> {
        let code = random::id()?;
        let hand_over = HandOver {
            hash: IdHash::of(&code),
            sign_in,
            pending: pending.hash,
            expires: self.clock.unix_after(self.settings.hand_over),
        };
        self.store
            .add_hand_over(&hand_over)
            .await
            .map_err(|e| reason::store(&e))?;
        let to = format!("{}{}?code={code}", pending.origin, OwnPath::SignIn.as_str());
        answer::redirect(&to, cookies)
    }

    /// Step 4, on the application's host: the code becomes this host's session.
    async fn redeem_hand_over(
        &self,
        head: &Parts,
        code: &str,
        host: &HostName,
    ) -> Result<Response<Body>, Stop> {
        let refused = |why: &str| Stop::deny(Code::HandoverRefused, why);
        let browser = cookie::read(&head.headers, cookie::BINDING)?.map(IdHash::of);
        let here = self.sessions.find(&head.headers, host).await?;
        let taken = self
            .store
            .take_hand_over(&IdHash::of(code), self.clock.unix())
            .await
            .map_err(|e| reason::store(&e))?;
        let Some(hand_over) = taken else {
            // A reload by somebody who is in: on to the front page instead of a puzzle.
            return match here {
                Found::Live(..) => answer::redirect("/", Vec::new()),
                Found::Expired(_) | Found::Ended(_) | Found::Nothing => {
                    Err(refused("never issued, used, or too old"))
                }
            };
        };
        let pending = self
            .store
            .pending(&hand_over.pending, self.clock.unix())
            .await
            .map_err(|e| reason::store(&e))?
            .ok_or_else(|| refused("the sign-in it belongs to is too old"))?;
        // SECURITY: without these two lines a code made for the attacker would sign a victim in as the attacker, and a
        // code that leaks from one host would open another.
        if browser != Some(pending.browser) {
            return Err(refused("the sign-in began in another browser"));
        }
        if pending.host != *host {
            return Err(refused("the code is for another host"));
        }
        let place = (pending.browser, host.clone());
        let in_a_row = self.loops.get(&place).unwrap_or(0).max(pending.attempt);
        self.loops.insert(place, in_a_row);
        let target = safe_target(&pending.target);
        if let Found::Live(live, standing) = here {
            if standing.id == hand_over.sign_in {
                return self.arrive(head, &pending, target, Vec::new()); // another tab was faster
            }
            self.remove_session(live.key()).await?;
        }
        if !self.is_live(hand_over.sign_in).await? {
            return Err(Stop::deny(Code::SessionEnded, "ended during the hand-over"));
        }
        let cookie = self.add_session(hand_over.sign_in, host.clone()).await?;
        self.arrive(head, &pending, target, vec![cookie])
    }

    /// A session was shown: whatever went in circles here goes no more.
    pub(super) fn not_in_a_loop(&self, head: &Parts, host: &HostName) -> Result<(), Stop> {
        if self.loops.entry_count() > 0
            && cookie::may_hold(&head.headers, &cookie::BINDING_FINDER)
            && let Some(browser) = cookie::read(&head.headers, cookie::BINDING)?
        {
            self.loops.invalidate(&(IdHash::of(browser), host.clone()));
        }
        Ok(())
    }

    async fn central_sign_in(
        self: &Arc<Self>,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<Standing>>, Stop> {
        let host = &self.settings.sign_in_host;
        match self.sessions.find(headers, host).await? {
            Found::Live(live, standing) => match self.still_welcome(standing).await {
                Ok(standing) => {
                    self.sessions.touch(&live);
                    Ok(Some(standing))
                }
                // The issuer will tell the person itself, or let them in again.
                Err(Stop::Deny(_)) => Ok(None),
                Err(other) => Err(other),
            },
            Found::Expired(_) | Found::Ended(_) | Found::Nothing => Ok(None),
        }
    }

    async fn pending(&self, hash: &IdHash) -> Result<Pending, Stop> {
        self.store
            .pending(hash, self.clock.unix())
            .await
            .map_err(|e| reason::store(&e))?
            .ok_or_else(|| unknown_state("no such sign-in, or it is too old"))
    }

    async fn is_live(&self, sign_in: Uuid) -> Result<bool, Stop> {
        let found = self
            .store
            .sign_in(sign_in)
            .await
            .map_err(|e| reason::store(&e))?;
        let now = self.clock.unix();
        Ok(found.is_some_and(|record| Standing::of(record).is_live(now)))
    }

    /// The browser's binding id: kept if present, so that several tabs share it.
    fn binding(&self, headers: &HeaderMap) -> Result<String, Stop> {
        match cookie::read(headers, cookie::BINDING)? {
            Some(id) => Ok(id.to_owned()),
            None => random::id(),
        }
    }

    /// The address of one of our paths on the central host.
    pub(super) fn central(&self, path: OwnPath) -> Url {
        let mut url = self.settings.sign_in_url.clone();
        url.set_path(path.as_str());
        url.set_query(None);
        url.set_fragment(None);
        url
    }
}

enum Taken {
    Ours(Login),
    Again(Response<Body>),
}

/// What can fail inside the shared creation of a sign-in, cloneable for all who wait.
#[derive(Debug)]
enum Failure {
    Store(crate::store::Error),
    Defect(String),
}

fn again(failure: &Failure) -> Stop {
    match failure {
        Failure::Store(error) => reason::store(error),
        Failure::Defect(detail) => reason::internal(detail),
    }
}

fn unknown_state(why: &str) -> Stop {
    Stop::deny(Code::SignInStateUnknown, why)
}

/// The issuer's refusal, in the callback's query.
fn refused(error: &str, description: &str) -> Stop {
    let codes: String = entra_codes(description)
        .iter()
        .map(|code| format!(" AADSTS{code}"))
        .collect();
    let detail = format!("{}{codes}", bounded(error));
    match error {
        "temporarily_unavailable" | "server_error" => {
            Stop::fail(Code::IssuerUnreachable, Side::Issuer, detail)
        }
        _ => Stop::deny(Code::SignInRefused, detail),
    }
}

/// A path on this host, or the front page.
pub(super) fn safe_target(target: &str) -> &str {
    // SECURITY: `//host`, `/\host` and control characters would lead a browser to another host.
    let mut bytes = target.bytes();
    let safe = bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && target.bytes().all(|b| b.is_ascii_graphic())
        && target.len() <= MAX_TARGET;
    if safe { target } else { "/" }
}

const MOST_IN_A_ROW: u32 = 3;
/// Longer addresses are answered, but not come back to.
const MAX_TARGET: usize = 8000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_on_this_host_is_come_back_to() {
        for good in ["/", "/a/b?c=d%20e&f=//x", "/a//b", "/?u=https://x/"] {
            assert_eq!(safe_target(good), good);
        }
        let long = format!("/{}", "a".repeat(9000));
        for bad in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example/",
            "evil",
            "/\t/evil",
            "/a\r\nSet-Cookie: x",
            "/ä",
            &long,
        ] {
            assert_eq!(safe_target(bad), "/", "{bad:?}");
        }
    }
}
