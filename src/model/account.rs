//! The on-premises account as whom a request goes on.

use uuid::Uuid;

use super::names::Principal;
use super::names::Sid;

/// An account of the directory, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `sAMAccountName@REALM`.
    pub principal: Principal,
    /// `objectSid`.
    pub sid: Sid,
    /// `objectGUID`.
    pub guid: Uuid,
    /// The distinguished name at the time of reading.
    pub dn: String,
    /// `userPrincipalName`, where there is one.
    pub upn: Option<String>,
    /// The domain controller that answered, or on which the account was just made.
    pub dc: String,
}
