//! In whose name the backends are tried: an account that a visitor might have, and that passes the fence.

use crate::assembly;
use crate::ldap;
use crate::ldap::Dn;
use crate::ldap::Entry;
use crate::ldap::Filter;
use crate::ldap::Scope;
use crate::ldap::Search;
use crate::mapping::fence;
use crate::model::names::Principal;

use super::directory::Held;
use super::world::World;

/// The account named with `--as`, or the first under `account_bases` that passes the fence: one that Kerbgate made or adopted, if there
/// is any, for what other tools have left may have an expired password.
pub(super) async fn choose(world: &World, held: &Held) -> Result<Principal, String> {
    let settings = assembly::mapping_settings(&world.config).map_err(|error| error.to_string())?;
    let settings = settings.ok_or_else(|| String::from("there is no [mapping] section"))?;
    let bases = &settings.account_bases;
    let mut refusals = Vec::new();
    let ours = Filter::present(&settings.anchor);
    let kinds: &[Option<&Filter>] = match world.act_as {
        Some(_) => &[None],
        None => &[Some(&ours), None],
    };
    for (base, which) in bases
        .iter()
        .flat_map(|base| kinds.iter().map(move |which| (base, *which)))
    {
        let dns = candidates(held, base, (world.act_as.as_deref(), which))
            .await
            .map_err(|error| error.to_string())?;
        for dn in dns {
            let read = held.session.read(&dn, &fence::ATTRIBUTES).await;
            let Some(entry) = read.map_err(|error| error.to_string())? else {
                continue;
            };
            match pass(world, &entry, bases) {
                Ok(principal) => return Ok(principal),
                Err(refusal) => refusals.push(refusal),
            }
        }
    }
    let tried = if refusals.is_empty() {
        String::from("there is none")
    } else {
        refusals.join("; ")
    };
    Err(match &world.act_as {
        Some(sam) => format!("no account {sam} under account_bases that passes the fence: {tried}"),
        None => format!("no account under account_bases passes the fence: {tried}"),
    })
}

fn pass(world: &World, entry: &Entry, bases: &[Dn]) -> Result<Principal, String> {
    fence::judge(entry, bases, world.clock.unix())
        .map_err(|denial| format!("{} [{}]", denial.detail, denial.code))?;
    let realm = world
        .config
        .directory
        .as_ref()
        .map(|directory| &directory.realm);
    let realm = realm.ok_or_else(|| String::from("there is no [directory] section"))?;
    let sam = entry.text("sAMAccountName").unwrap_or_default();
    Principal::new(sam, realm).map_err(|bad| bad.to_string())
}

async fn candidates(
    held: &Held,
    base: &Dn,
    (sam, which): (Option<&str>, Option<&Filter>),
) -> Result<Vec<Dn>, ldap::Error> {
    /// Enough to find one that is neither disabled nor privileged.
    const MOST: u32 = 20;
    let mut wanted = vec![
        Filter::equals(&"objectCategory".parse()?, "person"),
        Filter::equals(&"objectClass".parse()?, "user"),
    ];
    if let Some(sam) = sam {
        wanted.push(Filter::equals(&"sAMAccountName".parse()?, sam));
    }
    wanted.extend(which.cloned());
    let filter = Filter::all(&wanted);
    let search = Search {
        base: base.clone(),
        scope: Scope::Subtree,
        filter,
        attributes: vec![String::from("1.1")],
        limit: MOST,
    };
    let found = held.session.search(&search).await?;
    Ok(found.entries.into_iter().map(|entry| entry.dn).collect())
}
