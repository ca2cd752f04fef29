//! May somebody stay? For exchanges that outlive the request that was let in: sockets and long answers.
//!
//! In: a [`Stay`], taken when the request was identified, asked about every few seconds. Out: the person
//! as a request of that moment would be identified, or why it would be refused. So whatever ends a session
//! for requests (sign-out here or on another replica, an administrator, the recheck, its lifetimes) ends it
//! for what is open, too, without a second rule and without anything being noted for each request.

use super::AuthenticatedUser;
use super::Authn;
use super::Via;
use super::session::Found;
use crate::model::stop::Code;
use crate::model::stop::Stop;
use crate::store::records::EndReason;

/// By what right an exchange is open.
#[derive(Clone, Debug)]
pub struct Stay {
    user: AuthenticatedUser,
}

impl Stay {
    /// The right that let `user` in.
    #[must_use]
    pub const fn of(user: AuthenticatedUser) -> Self {
        Self { user }
    }

    /// The person, as [`Authn::still_here`] last found them.
    #[must_use]
    pub fn user(&self) -> AuthenticatedUser {
        self.user.clone()
    }
}

impl Authn {
    /// Would the person still be let in? `used`: something happened since that counts as use of the session.
    ///
    /// Returns the person when what the issuer says of them has changed, so that access can be decided anew.
    ///
    /// # Errors
    /// What a request would be refused with.
    pub async fn still_here(
        &self,
        stay: &mut Stay,
        used: bool,
    ) -> Result<Option<AuthenticatedUser>, Stop> {
        let inner = &self.inner;
        let now = inner.clock.unix();
        match stay.user.via() {
            Via::Bearer { expires } if now < expires => Ok(None),
            Via::Bearer { .. } => Err(Stop::deny(Code::TokenExpired, "while an exchange was open")),
            Via::Session { .. } => {
                let (live, standing) =
                    match inner.sessions.find_again(stay.user.session_hash()).await? {
                        Found::Live(live, standing) => (live, standing),
                        Found::Ended(EndReason::PersonDisabled) => {
                            return Err(Stop::deny(
                                Code::PersonDisabled,
                                "while an exchange was open",
                            ));
                        }
                        Found::Ended(reason) => {
                            return Err(Stop::deny(Code::SessionEnded, reason.as_str()));
                        }
                        Found::Expired(_) => {
                            return Err(Stop::deny(Code::SessionExpired, "its time ran out"));
                        }
                        Found::Nothing => {
                            return Err(Stop::deny(Code::SessionEnded, "it is unknown"));
                        }
                    };
                let standing = inner.still_welcome(standing).await?;
                if used {
                    inner.sessions.touch(&live);
                }
                let user = AuthenticatedUser::by_session(live.key(), &standing);
                if std::sync::Arc::ptr_eq(&user.claims, &stay.user.claims) {
                    return Ok(None);
                }
                stay.user = user.clone();
                Ok(Some(user))
            }
        }
    }
}
