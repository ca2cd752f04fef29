//! Signing out: here, everywhere, and at the issuer.

use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;

use super::Inner;
use super::OwnPath;
use super::answer;
use super::cookie;
use super::fetch;
use super::params::Params;
use super::session::Found;
use super::session::seconds;
use crate::model::body::Body;
use crate::model::names::HostName;
use crate::model::stop::Code;
use crate::model::stop::Stop;
use crate::pages::Language;
use crate::store::records::EndReason;
use crate::store::records::Whose;

impl Inner {
    /// `/.kerbgate/signout`: ends the sign-in with its sessions on all hosts, then the session at the issuer.
    pub(super) async fn sign_out(
        &self,
        head: &Parts,
        host: &HostName,
    ) -> Result<Response<Body>, Stop> {
        let posts = head.method == Method::POST;
        if posts && fetch::is_foreign(head, &[], || own_origin(head)) {
            return Err(Stop::deny(
                Code::ForeignOrigin,
                "sign-out from another site",
            ));
        }
        // SECURITY: another site's link or image must not sign anybody out; the person is asked.
        if !posts && !is_own_click(head) {
            let language = Language::from_accept(&head.headers);
            let action = OwnPath::SignOut.as_str();
            return Ok(self.pages.sign_out_confirm(action, Some("/"), language));
        }
        let mut hint = None;
        if let Found::Live(_, standing) = self.sessions.find(&head.headers, host).await? {
            let claims = &standing.claims;
            tracing::info!(
                target: "audit",
                event = "sign-out",
                person = %claims.person,
                name = claims.shown_name(),
                sign_in = %standing.id,
                host = %host,
            );
            hint = claims.login_hint.clone();
            self.end(&Whose::SignIn(standing.id), EndReason::SignOut)
                .await?;
            // Whatever else hangs on the same session at the issuer is over with it.
            if let Some(sid) = claims.session_id.clone() {
                let whose = Whose::IssuerSession(sid);
                self.end(&whose, EndReason::SignOut).await?;
            }
        }
        let back = self.central(OwnPath::SignedOut);
        // An issuer that cannot be asked must not keep anybody from signing out here.
        let to = match self.issuer.end_session_url(&back, hint.as_deref()).await {
            Ok(Some(url)) => url,
            Ok(None) => back,
            Err(error) => {
                tracing::warn!(%error, "signed out here, but not at the issuer");
                back
            }
        };
        let cookies = vec![
            cookie::removed(cookie::SESSION)?,
            cookie::removed(cookie::BINDING)?,
        ];
        let mut response = answer::redirect(to.as_str(), cookies)?;
        // After a POST the browser must come back with GET (RFC 9110 15.4.4).
        *response.status_mut() = StatusCode::SEE_OTHER;
        Ok(response)
    }

    /// `/.kerbgate/frontchannel-logout?iss=…&sid=…`: the issuer loads it in a hidden frame, without our cookies.
    /// OpenID Connect Front-Channel Logout 1.0, 3.
    pub(super) async fn front_channel(&self, head: &Parts) -> Result<Response<Body>, Stop> {
        let params = Params::of(head);
        let wrong = |why: &str| Stop::deny(Code::BadRequest, why);
        let iss = params.one("iss")?.ok_or_else(|| wrong("no iss"))?;
        let sid = params.one("sid")?.ok_or_else(|| wrong("no sid"))?;
        if !self.issuer.is_named(iss) {
            return Err(wrong("iss is not our issuer"));
        }
        if sid.len() > MAX_SID {
            return Err(wrong("sid is too long"));
        }
        let whose = Whose::IssuerSession(sid.to_owned());
        self.end(&whose, EndReason::IssuerSignOut).await?;
        Ok(answer::plain(StatusCode::OK))
    }

    /// `/.kerbgate/session`: for scripts; does not count as use.
    pub(super) async fn session_status(
        &self,
        head: &Parts,
        host: &HostName,
    ) -> Result<Response<Body>, Stop> {
        match self.sessions.find(&head.headers, host).await? {
            Found::Live(live, standing) => {
                let now = self.clock.unix();
                let expires = live.expires().min(standing.expires);
                let idle = live.last_used().saturating_add(seconds(self.settings.idle));
                Ok(answer::json(&serde_json::json!({
                    "signed_in": true,
                    "name": standing.claims.shown_name(),
                    "expires_in": expires.saturating_sub(now),
                    "idle_expires_in": idle.min(expires).saturating_sub(now),
                    "sign_out_url": OwnPath::SignOut.as_str(),
                })))
            }
            Found::Expired(_) => Err(Stop::deny(Code::SessionExpired, "asked for its state")),
            Found::Ended(_) => Err(Stop::deny(Code::SessionEnded, "asked for its state")),
            Found::Nothing => Err(Stop::deny(Code::SignInRequired, "asked for its state")),
        }
    }
}

/// A person clicked on a page of this host, or typed the address.
fn is_own_click(head: &Parts) -> bool {
    let is = |name, wanted: &[&str]| {
        fetch::text(&head.headers, name).is_some_and(|value| wanted.contains(&value))
    };
    is("sec-fetch-site", &["same-origin", "none"])
        && is("sec-fetch-mode", &["navigate"])
        && is("sec-fetch-dest", &["document"])
        && !head.headers.contains_key("sec-purpose")
}

/// The origin under which the browser reached us; the host in it was routed, so it is one of ours.
fn own_origin(head: &Parts) -> String {
    let authority = head
        .uri
        .authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| fetch::text(&head.headers, header::HOST.as_str()));
    format!("https://{}", authority.unwrap_or_default())
}

const MAX_SID: usize = 256;
