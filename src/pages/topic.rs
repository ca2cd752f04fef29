//! What a visitor is told: several codes may share one topic, no code is without.
//!
//! An administrator needs to know which of two checks failed; a visitor needs to know what to do next.
//! The `match` has no wildcard, so a new code does not compile until somebody chose its words.

use crate::model::stop::Code;

/// One thing that can be said to a visitor; each language has its sentences for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    RequestUnclear,
    NothingHere,
    WrongHost,
    NotPossible,
    TooLarge,
    CookiesInTheWay,
    Incomplete,
    SignInNeeded,
    SignInOver,
    FormOfAnother,
    SignedOut,
    SignInInterrupted,
    SignInRefused,
    SignInLoop,
    SignInServiceDown,
    SignInServiceUnfit,
    SignInUnconfirmed,
    NotForPrograms,
    PersonInactive,
    Busy,
    Maintenance,
    NoAccess,
    NoGuests,
    NotFromHere,
    TooFast,
    OtherOrganization,
    AccessUnknown,
    ForeignOrigin,
    AccountMissing,
    AccountUnclear,
    AccountDisabled,
    AccountLocked,
    AccountExpired,
    AccountSpecial,
    AccountNotMade,
    DirectoryDown,
    AccountNew,
    SignOnDown,
    SignOnUnset,
    Mismatch,
    ApplicationDown,
    ApplicationSlow,
    Internal,
}

/// The one thing offered as a button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing the visitor could click helps.
    None,
    /// The same address again.
    Retry,
    /// A new sign-in, where its address is known.
    SignIn,
    /// The end of this sign-in, for whoever came with the wrong account: it would go on for hours.
    SignOut,
}

/// Who can change something about it, apart from the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Helper {
    /// Whoever decides who may use the application.
    Owner,
    /// The same, but only where it is said who that is: whoever invited somebody opens no closed application.
    OwnerIfNamed,
    /// The people who run the gateway.
    Support,
}

impl Topic {
    pub(super) const fn of(code: Code) -> Self {
        match code {
            Code::BadRequest | Code::ClientGone | Code::TargetRefused | Code::ForwardedRefused => {
                Self::RequestUnclear
            }
            Code::AddressDenied => Self::NotFromHere,
            Code::TooManyRequests | Code::TooManyConcurrent => Self::TooFast,
            Code::HostUnknown | Code::PathUnknown => Self::NothingHere,
            Code::HostMismatch => Self::WrongHost,
            Code::MethodRefused | Code::UpgradeRefused | Code::ResourceElsewhere => {
                Self::NotPossible
            }
            Code::BodyTooLarge => Self::TooLarge,
            Code::HeaderTooLarge | Code::CookieDuplicate => Self::CookiesInTheWay,
            Code::RequestTimeout => Self::Incomplete,
            Code::SignInRequired => Self::SignInNeeded,
            Code::SessionExpired | Code::FormNotKept | Code::TokenExpired => Self::SignInOver,
            Code::FormOfAnother => Self::FormOfAnother,
            Code::SessionEnded => Self::SignedOut,
            Code::SignInStateUnknown
            | Code::SignInParameterDuplicate
            | Code::SignInCodeRefused
            | Code::HandoverRefused
            | Code::TokenNonceWrong => Self::SignInInterrupted,
            Code::SignInRefused => Self::SignInRefused,
            Code::SignInLoop => Self::SignInLoop,
            Code::IssuerUnreachable => Self::SignInServiceDown,
            Code::IssuerMisconfigured => Self::SignInServiceUnfit,
            Code::TokenMalformed
            | Code::TokenAlgorithmRefused
            | Code::TokenKeyUnknown
            | Code::TokenSignatureBad
            | Code::TokenIssuerWrong
            | Code::TokenAudienceWrong
            | Code::TokenNotYetValid
            | Code::TokenClaimMissing => Self::SignInUnconfirmed,
            Code::TokenWithoutPerson | Code::BearerNotAccepted => Self::NotForPrograms,
            Code::PersonDisabled => Self::PersonInactive,
            Code::StoreUnavailable
            | Code::Overloaded
            | Code::KdcBusy
            | Code::BackendQueueFull
            | Code::BackendQueueTimeout => Self::Busy,
            Code::Maintenance => Self::Maintenance,
            Code::NotAllowed | Code::DenyRule => Self::NoAccess,
            Code::GuestsDenied => Self::NoGuests,
            Code::TenantDenied => Self::OtherOrganization,
            Code::GroupsUnknown => Self::AccessUnknown,
            Code::ForeignOrigin => Self::ForeignOrigin,
            Code::AccountMissing | Code::ProvisioningDenied => Self::AccountMissing,
            Code::AccountAmbiguous | Code::AccountConflict => Self::AccountUnclear,
            Code::AccountDisabled => Self::AccountDisabled,
            Code::AccountLocked => Self::AccountLocked,
            Code::AccountExpired => Self::AccountExpired,
            Code::AccountOutsideFence
            | Code::AccountPrivileged
            | Code::AccountProtected
            | Code::AccountNotDelegable => Self::AccountSpecial,
            Code::ProvisioningFailed | Code::GroupOutsideOu => Self::AccountNotMade,
            Code::DirectoryUnreachable | Code::DirectoryRefused => Self::DirectoryDown,
            Code::PrincipalUnknown => Self::AccountNew,
            Code::KdcUnreachable | Code::ClockSkew | Code::KeytabUnusable => Self::SignOnDown,
            Code::SpnUnknown | Code::DelegationRefused | Code::KdcRefused | Code::TicketRefused => {
                Self::SignOnUnset
            }
            Code::IdentityMismatch => Self::Mismatch,
            Code::BackendUnreachable | Code::BackendTls | Code::BackendProtocol => {
                Self::ApplicationDown
            }
            Code::BackendTimeout | Code::TotalTimeout => Self::ApplicationSlow,
            Code::Internal => Self::Internal,
        }
    }

    pub(super) const fn action(self) -> Action {
        match self {
            Self::SignInNeeded
            | Self::SignInOver
            | Self::SignedOut
            | Self::SignInInterrupted
            | Self::SignInRefused
            | Self::SignInLoop
            | Self::SignInUnconfirmed
            | Self::Mismatch => Action::SignIn,
            Self::WrongHost
            | Self::Incomplete
            | Self::SignInServiceDown
            | Self::Busy
            | Self::TooFast
            | Self::Maintenance
            | Self::AccessUnknown
            | Self::AccountNotMade
            | Self::DirectoryDown
            | Self::AccountNew
            | Self::SignOnDown
            | Self::ApplicationDown
            | Self::FormOfAnother
            | Self::ForeignOrigin => Action::Retry,
            Self::RequestUnclear
            | Self::NothingHere
            | Self::NotPossible
            | Self::TooLarge
            | Self::CookiesInTheWay
            | Self::SignInServiceUnfit
            | Self::NotForPrograms
            | Self::PersonInactive
            | Self::NotFromHere
            | Self::SignOnUnset
            | Self::ApplicationSlow
            | Self::Internal => Action::None,
            Self::NoAccess
            | Self::NoGuests
            | Self::OtherOrganization
            | Self::AccountMissing
            | Self::AccountUnclear
            | Self::AccountDisabled
            | Self::AccountLocked
            | Self::AccountExpired
            | Self::AccountSpecial => Action::SignOut,
        }
    }

    pub(super) const fn helper(self) -> Helper {
        match self {
            Self::NoAccess
            | Self::NoGuests
            | Self::OtherOrganization
            | Self::AccountMissing
            | Self::AccountExpired
            | Self::PersonInactive => Helper::Owner,
            Self::Maintenance => Helper::OwnerIfNamed,
            Self::RequestUnclear
            | Self::NothingHere
            | Self::WrongHost
            | Self::NotPossible
            | Self::TooLarge
            | Self::CookiesInTheWay
            | Self::Incomplete
            | Self::SignInNeeded
            | Self::SignInOver
            | Self::FormOfAnother
            | Self::SignedOut
            | Self::SignInInterrupted
            | Self::SignInRefused
            | Self::SignInLoop
            | Self::SignInServiceDown
            | Self::SignInServiceUnfit
            | Self::SignInUnconfirmed
            | Self::NotForPrograms
            | Self::Busy
            | Self::NotFromHere
            | Self::TooFast
            | Self::AccessUnknown
            | Self::ForeignOrigin
            | Self::AccountUnclear
            | Self::AccountDisabled
            | Self::AccountLocked
            | Self::AccountSpecial
            | Self::AccountNotMade
            | Self::DirectoryDown
            | Self::AccountNew
            | Self::SignOnDown
            | Self::SignOnUnset
            | Self::Mismatch
            | Self::ApplicationDown
            | Self::ApplicationSlow
            | Self::Internal => Helper::Support,
        }
    }
}
