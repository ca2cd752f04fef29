//! For an administrator: what the directory holds is read to its end, however much it is, or it is an error. An answer that
//! was cut somewhere would make people look as if they had gone.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kerbgate::ldap::Directory;
use kerbgate::ldap::Dn;
use kerbgate::ldap::Filter;
use kerbgate::ldap::Paging;
use kerbgate::ldap::Scope;
use kerbgate::ldap::Search;
use kerbgate::ldap::Servers;
use kerbgate::ldap::Turn;
use kerbgate::ldap::Values;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::directory::directory;
use crate::directory::dn;
use crate::directory::ldap_settings;
use crate::directory::unique;
use crate::lab::Lab;
use crate::lab::eventually;

const CONTACTS: usize = 2_500;

/// Adds what `ldif` says straight into the domain's database, in one transaction: over LDAP it would take minutes.
fn add(lab: &Lab, ldif: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("add.ldif");
    std::fs::write(&file, ldif).unwrap();
    let database = private(lab).join("sam.ldb");
    let done = Command::new("ldbadd")
        .arg("-H")
        .arg(&database)
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

fn private(lab: &Lab) -> std::path::PathBuf {
    lab.facts.logs.parent().unwrap().join("ad/tree/private")
}

/// A unit with a group that has contacts as members.
fn crowd(lab: &Lab, size: usize) -> Dn {
    let unit = format!("OU={},DC=contoso,DC=test", unique("crowd-"));
    let mut ldif = format!("dn: {unit}\nobjectClass: organizationalUnit\n\n");
    let mut group = format!("dn: CN=everybody,{unit}\nobjectClass: group\n");
    for n in 0..size {
        write!(ldif, "dn: CN=c{n},{unit}\nobjectClass: contact\n\n").unwrap();
        writeln!(group, "member: CN=c{n},{unit}").unwrap();
    }
    add(lab, &format!("{ldif}{group}\n"));
    dn(&unit)
}

fn contacts(unit: &Dn, limit: u32) -> Search {
    Search {
        base: unit.clone(),
        scope: Scope::Subtree,
        filter: Filter::equals(&"objectClass".parse().unwrap(), "contact"),
        attributes: vec![String::from("cn")],
        limit,
    }
}

fn paging(page_size: u32) -> Paging {
    Paging {
        page_size,
        ..Paging::default()
    }
}

#[tokio::test]
async fn a_crowd_is_read_page_by_page_and_a_group_range_by_range() {
    let lab = Lab::get().await;
    let unit = crowd(lab, CONTACTS);
    let ad = directory(lab);

    let mut pages = ad.pages(contacts(&unit, 0), paging(400));
    let (mut names, mut count) = (HashSet::new(), 0);
    while let Some(turn) = pages.next().await.unwrap() {
        let Turn::Page(found) = turn else {
            panic!("{turn:?}")
        };
        assert!(found.entries.len() <= 400 && !found.more);
        count += 1;
        names.extend(found.entries.iter().map(|one| one.dn.to_string()));
    }
    assert_eq!((names.len(), count), (CONTACTS, CONTACTS.div_ceil(400)));

    // As many as wanted and not one more, and it is said that there are more.
    let mut pages = ad.pages(contacts(&unit, 450), paging(400));
    let mut seen = Vec::new();
    while let Some(Turn::Page(found)) = pages.next().await.unwrap() {
        seen.push((found.entries.len(), found.more));
    }
    assert_eq!(seen, [(400, false), (50, true)]);

    // One range after the other to the last member.
    let session = ad.session().await.unwrap();
    let (group, member) = (unit.child("CN", "everybody"), "member".parse().unwrap());
    let mut reading = session.ranged(&group, &member, 999);
    let mut portions = Vec::new();
    let mut members = HashSet::new();
    while let Some(Values::Next(values)) = reading.next().await.unwrap() {
        portions.push(values.len());
        members.extend(values);
    }
    assert_eq!(portions, [999, 999, 502]);
    assert_eq!(members.len(), CONTACTS);
    let all = session.all_values(&group, &member, CONTACTS).await.unwrap();
    assert_eq!(all.len(), CONTACTS);
    let said = session.all_values(&group, &member, CONTACTS - 1).await;
    assert!(said.unwrap_err().to_string().contains("more than 2499"));

    // A cut attribute is known for what it is.
    let cut = session.read(&group, &["member;range=0-9"]).await.unwrap();
    let cut = cut.unwrap();
    assert_eq!(cut.values("member").len(), 10);
    assert_eq!(cut.range("member").unwrap().last, Some(9));

    // A member that comes while they are read: begun again, and whole.
    let mut reading = session.ranged(&group, &member, 1000);
    assert!(matches!(
        reading.next().await.unwrap(),
        Some(Values::Next(_))
    ));
    let late = format!("dn: CN=late,{unit}\nobjectClass: contact\n\n");
    add(lab, &late);
    let change = format!("dn: {group}\nchangetype: modify\nadd: member\nmember: CN=late,{unit}\n");
    ldbmodify(&private(lab).join("sam.ldb"), &change);
    assert_eq!(reading.next().await.unwrap(), Some(Values::Restarted));
    let mut again = 0;
    while let Some(Values::Next(values)) = reading.next().await.unwrap() {
        again += values.len();
    }
    assert_eq!(again, CONTACTS + 1);
}

fn ldbmodify(database: &Path, ldif: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("modify.ldif");
    std::fs::write(&file, ldif).unwrap();
    let done = Command::new("ldbmodify")
        .arg("-H")
        .arg(database)
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Bytes that went to the controller over a [`line`].
static SENT: AtomicUsize = AtomicUsize::new(0);

/// A line to the controller that can be cut at any moment, on an address of its own.
async fn line(lab: &Lab, ip: &str, port: u16) -> (tokio::task::JoinHandle<()>, u16) {
    let listener = TcpListener::bind((ip, port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let controller = lab.facts.ldaps;
    let serving = tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            open.spawn(async move {
                let (mut from, mut to) = client.split();
                let mut server = TcpStream::connect(controller).await.unwrap();
                let (mut answers, mut questions) = server.split();
                let back = tokio::io::copy(&mut answers, &mut to);
                let forth = async {
                    let mut buffer = vec![0; 65_536];
                    while let Ok(n @ 1..) = from.read(&mut buffer).await {
                        SENT.fetch_add(n, Ordering::SeqCst);
                        questions.write_all(&buffer[..n]).await.unwrap();
                    }
                };
                tokio::select! {
                    _ = back => {}
                    () = forth => {}
                }
            });
        }
    });
    (serving, port)
}

#[tokio::test]
async fn a_controller_that_dies_between_two_pages_costs_nobody() {
    let lab = Lab::get().await;
    let unit = crowd(lab, 60);
    let mut settings = ldap_settings(lab);
    // The certificate covers one name only, so both "controllers" are that one, reached on two ways.
    let (first, port) = line(lab, "127.0.0.3", 0).await;
    settings.port = port;
    settings
        .hosts
        .insert(lab.facts.dc.clone(), "127.0.0.3".parse().unwrap());
    settings.servers = Servers::Listed(vec![lab.facts.dc.parse().unwrap()]);
    let ad = Directory::new(settings);
    let mut pages = ad.pages(contacts(&unit, 0), paging(25));
    assert!(matches!(pages.next().await.unwrap(), Some(Turn::Page(_))));
    first.abort();
    drop(first.await);
    let (_second, _) = line(lab, "127.0.0.3", port).await;
    let mut names = Vec::new();
    let mut restarted = 0;
    while let Some(turn) = pages.next().await.unwrap() {
        match turn {
            Turn::Restarted(_) => {
                restarted += 1;
                names.clear();
            }
            Turn::Page(found) => {
                names.extend(found.entries.iter().map(|one| one.dn.to_string()));
            }
        }
    }
    assert_eq!(restarted, 1, "the caller is told");
    let one_each: HashSet<_> = names.iter().collect();
    assert_eq!((names.len(), one_each.len()), (60, 60));
}

#[tokio::test]
async fn who_stops_early_gives_the_cookie_back() {
    let lab = Lab::get().await;
    let unit = crowd(lab, 30);
    let (_line, port) = line(lab, "127.0.0.3", 0).await;
    let mut settings = ldap_settings(lab);
    settings.connections = 1;
    settings.port = port;
    settings
        .hosts
        .insert(lab.facts.dc.clone(), "127.0.0.3".parse().unwrap());
    let ad = Directory::new(settings);
    let mut kept = ad.pages(contacts(&unit, 0), paging(10));
    assert!(kept.next().await.unwrap().is_some());
    // Samba takes no notice of a cookie that is given back, so that what was sent is what counts.
    for turn in 0..12 {
        let mut pages = ad.pages(contacts(&unit, 0), paging(10));
        assert!(pages.next().await.unwrap().is_some());
        let before = SENT.load(Ordering::SeqCst);
        if turn % 2 == 0 {
            pages.close().await;
        } else {
            drop(pages);
        }
        eventually("the cookie is given back", async || {
            SENT.load(Ordering::SeqCst) > before
        })
        .await;
    }
    // Of more than ten searches it throws the oldest away: the caller is told, and gets it all.
    let (mut names, mut restarted) = (Vec::new(), 0);
    while let Some(turn) = kept.next().await.unwrap() {
        match turn {
            Turn::Restarted(_) => {
                restarted += 1;
                names.clear();
            }
            Turn::Page(found) => names.extend(found.entries),
        }
    }
    assert_eq!((names.len(), restarted), (30, 1));
}

#[tokio::test]
async fn what_cannot_be_answered_whole_is_an_error() {
    let lab = Lab::get().await;
    let ad = directory(lab);
    let nowhere = dn("OU=Nowhere,DC=contoso,DC=test");
    let said = ad.pages(contacts(&nowhere, 0), paging(10)).next().await;
    assert!(said.unwrap_err().to_string().contains("noSuchObject (32)"));
    let slow = Paging {
        within: Some(Duration::ZERO),
        ..paging(10)
    };
    let unit = dn("OU=Staff,DC=contoso,DC=test");
    let said = ad.pages(contacts(&unit, 0), slow).next().await;
    let said = said.unwrap_err().to_string();
    assert!(said.contains("not read to its end"), "{said}");
}

/// A directory server that knows nothing itself: what is under `DC=fabrikam` it refers to the lab's controller, what is
/// under `DC=nowhere` to a stranger, and a base of its own it does not have.
async fn liar(lab: &Lab, port: u16) -> Vec<u8> {
    let host = vec![String::from("liar.contoso.test")];
    let made = rcgen::generate_simple_self_signed(host).unwrap();
    let chain = vec![made.cert.der().clone()];
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(tls));
    let listener = TcpListener::bind(("127.0.0.4", port)).await.unwrap();
    let real = format!("ldap://{}/OU=Staff,DC=contoso,DC=test", lab.facts.dc);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let mut stream = acceptor.accept(tcp).await.unwrap();
            let real = real.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    let (id, operation) = (buffer[4], buffer[5]);
                    let asked = String::from_utf8_lossy(&buffer[..n]).into_owned();
                    let answer = match operation {
                        0x60 => message(id, 0x61, &result(0, "")),
                        _ if asked.contains("DC=fabrikam") => {
                            let mut both = message(id, 0x73, &element(4, real.as_bytes()));
                            both.extend(message(id, 0x65, &result(0, "")));
                            both
                        }
                        _ => message(id, 0x65, &result(10, "ldap://dc9.evil.test/DC=x")),
                    };
                    stream.write_all(&answer).await.unwrap();
                }
            });
        }
    });
    made.cert.pem().into_bytes()
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut all = vec![tag, u8::try_from(content.len()).unwrap()];
    all.extend_from_slice(content);
    all
}

fn message(id: u8, tag: u8, content: &[u8]) -> Vec<u8> {
    let mut all = element(2, &[id]);
    all.extend(element(tag, content));
    element(0x30, &all)
}

fn result(code: u8, referral: &str) -> Vec<u8> {
    let mut all = [element(10, &[code]), element(4, b""), element(4, b"")].concat();
    if !referral.is_empty() {
        all.extend(element(0xa3, &element(4, referral.as_bytes())));
    }
    all
}

#[tokio::test]
async fn a_referral_is_named_and_followed_to_listed_hosts_only() {
    let lab = Lab::get().await;
    // The domain's own partitions make references at its root: no error, nobody's account is there.
    let mut gateway = contacts(&dn("DC=contoso,DC=test"), 0);
    gateway.filter = Filter::equals(&"sAMAccountName".parse().unwrap(), "svc-gateway");
    for listed in [vec![], vec!["dc9.fabrikam.test".parse().unwrap()]] {
        let mut settings = ldap_settings(lab);
        settings.follow_referrals = listed;
        let found = Directory::new(settings).search(&gateway).await.unwrap();
        assert_eq!(found.entries.len(), 1);
    }

    let (_line, port) = line(lab, "127.0.0.3", 0).await;
    let mut authorities = liar(lab, port).await;
    authorities.extend(std::fs::read(&lab.facts.ca).unwrap());
    let asking = |listed: &[&str]| {
        let mut settings = ldap_settings(lab);
        settings.port = port;
        settings.tls = kerbgate::ldap::client_config(Some(&authorities)).unwrap();
        settings.servers = Servers::Listed(vec!["liar.contoso.test".parse().unwrap()]);
        for (host, ip) in [
            ("liar.contoso.test", "127.0.0.4"),
            (&lab.facts.dc, "127.0.0.3"),
        ] {
            settings.hosts.insert(host.to_owned(), ip.parse().unwrap());
        }
        settings.follow_referrals = listed.iter().map(|host| host.parse().unwrap()).collect();
        Directory::new(settings)
    };
    let emma = |base: &str| Search {
        filter: Filter::equals(&"sAMAccountName".parse().unwrap(), "emma.employee"),
        ..contacts(&dn(base), 0)
    };
    let fabrikam = emma("OU=Staff,DC=fabrikam,DC=test");
    let nowhere = emma("DC=nowhere,DC=test");
    let said = |error: kerbgate::ldap::Error| error.to_string();
    let refused = |text: &str| {
        assert!(text.starts_with("liar.contoso.test: search "), "{text}");
        assert!(text.contains("refers to \"ldap://"), "{text}");
        assert!(text.contains("directory.follow_referrals"), "{text}");
    };
    for search in [&fabrikam, &nowhere] {
        refused(&said(asking(&[]).search(search).await.unwrap_err()));
    }
    let listed = asking(&[&lab.facts.dc]);
    let found = listed.search(&fabrikam).await.unwrap();
    assert_eq!(found.entries.len(), 1, "{found:?}");
    assert_eq!(found.entries[0].dn.leaf(), Some("emma.employee"));
    refused(&said(listed.search(&nowhere).await.unwrap_err()));
    // Nothing is written where somebody else points to.
    let session = listed.session().await.unwrap();
    let written = session.delete(&dn("CN=x,DC=nowhere,DC=test")).await;
    assert!(said(written.unwrap_err()).contains("dc9.evil.test"));
}
