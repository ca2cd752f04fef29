//! Both sides as one run sees them: partners' accounts on premises, and whoever in the cloud may be one of them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use aws_lc_rs::digest;
use uuid::Uuid;

use super::super::journal::Making;
use super::super::world::hex;
use super::record::Recorded;
use crate::model::names::Sid;

/// Properties that follow the directory, by Graph's name; empty ones left out.
pub type Values = BTreeMap<String, String>;

/// Both sides at one time.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The tenant that was asked.
    pub tenant: Uuid,
    /// When, in seconds since 1970.
    pub now: i64,
    /// Accounts in scope, and those elsewhere under the account bases that carry an anchor.
    pub locals: Vec<Local>,
    /// Accounts that were not read and may be on another domain controller all the same: why, by `objectGUID`.
    pub elsewhere: BTreeMap<Uuid, String>,
    /// Whoever of the tenant may be one of them.
    pub people: BTreeMap<Uuid, Person>,
    /// The same of the deleted and restorable.
    pub deleted: BTreeMap<Uuid, Person>,
    /// Direct members of each group that partners are put into.
    pub members: BTreeMap<Uuid, BTreeSet<Uuid>>,
    /// Who is assigned, by application and role.
    pub assigned: BTreeMap<(Uuid, String), BTreeSet<Uuid>>,
    /// Invitations that earlier runs set out to send, by the account they were for.
    pub making: BTreeMap<Uuid, Making>,
    /// How many people the tenant told of.
    pub told: usize,
}

/// An account on premises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// `objectGUID`.
    pub guid: Uuid,
    /// `objectSid`.
    pub sid: Option<Sid>,
    /// `sAMAccountName`.
    pub sam: String,
    /// The distinguished name.
    pub dn: String,
    /// With what the person signs in, if it is an address.
    pub address: Option<String>,
    /// Not disabled, not expired.
    pub enabled: bool,
    /// Among those that were asked for.
    pub in_scope: bool,
    /// What the anchor says.
    pub anchor: Anchor,
    /// `employeeID`.
    pub employee_id: Option<String>,
    /// `Guest` or `Member`, by the rule.
    pub user_type: &'static str,
    /// What the cloud should hold.
    pub values: Values,
    /// Why nothing is done for it, if so.
    pub untouchable: Option<String>,
}

/// What an account's anchor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Nothing.
    None,
    /// `User_<oid>`.
    Of(Uuid),
    /// Something else.
    Other(String),
}

/// Somebody in the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The object id.
    pub oid: Uuid,
    /// Signs in elsewhere.
    pub external: bool,
    /// False when disabled.
    pub enabled: bool,
    /// `Guest` or `Member`.
    pub user_type: String,
    /// What the record says.
    pub recorded: Recorded,
    /// Kept by Entra Connect: nothing of it can be written.
    pub synced: bool,
    /// `onPremisesUserPrincipalName` is filled: conversion is refused.
    pub has_onprem_upn: bool,
    /// When it was made, in seconds since 1970.
    pub created: Option<i64>,
    /// Made by an invitation.
    pub invited: bool,
    /// `onPremisesImmutableId`.
    pub immutable_id: Option<String>,
    /// `onPremisesSecurityIdentifier`.
    pub sid: Option<String>,
    /// Everything by which the person may be addressed, in lower case.
    pub addresses: BTreeSet<String>,
    /// Properties that may follow the directory, `employeeId` among them.
    pub values: Values,
}

impl World {
    /// What names this world: a hash of all that a plan may depend on, times aside.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut locals: Vec<&Local> = self.locals.iter().collect();
        locals.sort_by_key(|local| local.guid);
        for part in [
            format!("{} {:?} {:?}", self.tenant, self.members, self.assigned),
            format!("{:?}", self.elsewhere.keys()),
            format!("{locals:?}"),
            format!("{:?} {:?}", self.people, self.deleted),
        ] {
            hash.update(part.as_bytes());
            hash.update(b"\n");
        }
        hex(hash.finish().as_ref())
    }
}
