//! The gateway's own paths on every host.

/// A path below `/.kerbgate/` that this room answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPath {
    /// `signin`: on the central host the way to the issuer, on an application's host the way back from it.
    SignIn,
    /// `callback`: where the issuer sends the browser back to (central host).
    Callback,
    /// `signout`: ends the sign-in on all hosts.
    SignOut,
    /// `signed-out`: the page after it.
    SignedOut,
    /// `frontchannel-logout`: the issuer tells that a session ended there (central host).
    FrontChannelLogout,
    /// `session`: for scripts, whether and how long one is signed in.
    Session,
}

impl OwnPath {
    /// The path of that name: what follows `/.kerbgate/`.
    #[must_use]
    pub fn parse(rest: &str) -> Option<Self> {
        match rest {
            "signin" => Some(Self::SignIn),
            "callback" => Some(Self::Callback),
            "signout" => Some(Self::SignOut),
            "signed-out" => Some(Self::SignedOut),
            "frontchannel-logout" => Some(Self::FrontChannelLogout),
            "session" => Some(Self::Session),
            _ => None,
        }
    }

    /// The whole path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "/.kerbgate/signin",
            Self::Callback => "/.kerbgate/callback",
            Self::SignOut => "/.kerbgate/signout",
            Self::SignedOut => "/.kerbgate/signed-out",
            Self::FrontChannelLogout => "/.kerbgate/frontchannel-logout",
            Self::Session => "/.kerbgate/session",
        }
    }

    /// True when the path exists on the central host only.
    #[must_use]
    pub const fn is_central(self) -> bool {
        matches!(self, Self::Callback | Self::FrontChannelLogout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for path in [
            OwnPath::SignIn,
            OwnPath::Callback,
            OwnPath::SignOut,
            OwnPath::SignedOut,
        ] {
            let rest = path.as_str().strip_prefix("/.kerbgate/").unwrap();
            assert_eq!(OwnPath::parse(rest), Some(path));
        }
        for other in ["", "SignIn", "signin/", "signin/x", "callback2"] {
            assert_eq!(OwnPath::parse(other), None, "{other}");
        }
    }
}
