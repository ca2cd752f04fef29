//! A directory that refuses an account for its quota, its schema or a value's size is told from one that is down: that step of
//! `kerbgate sync guests` fails once, with the directory's words and what an administrator can do; the others are taken, and the
//! next run does what was left.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use kerbgate::ldap::Error;
use kerbgate::ldap::ResultCode;
use kerbgate::ldap::client_config;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;

use crate::directory::unique;
use crate::guests_are_kept_in_step::Company;

/// LDAPMessage, AddRequest, AddResponse (RFC 4511 4.1.1, 4.7).
const MESSAGE: u8 = 0x30;
const ADD: u8 = 0x68;
const ADDED: u8 = 0x69;

/// What a controller answers, and what an administrator is told. Samba has no quotas, and its schema has all that is written; so
/// these come from a line to it. MS-ADTS 3.1.1.5.2.5 gives the code of the first; the texts are of Active Directory's form.
const REFUSALS: [(u8, &str, &str); 3] = [
    (
        11,
        "00000718: SvcErr: DSID-031A1254, problem 5008 (ADMIN_LIMIT_EXCEEDED)",
        "how many objects the gateway's account may own",
    ),
    (
        16,
        "00000057: LdapErr: DSID-0C090D8A, comment: Error in attribute conversion operation",
        "the schema lacks an attribute",
    ),
    (
        19,
        "00002082: AtrErr: DSID-031519A0, #1: 0: 00002082: problem 1005 (CONSTRAINT_ATT_TYPE)",
        "a value breaks a rule of the directory",
    ),
];

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    let mut out = vec![tag];
    if length >= 0x80 {
        out.push(0x81);
    }
    out.push(length);
    out.extend_from_slice(content);
    out
}

/// One message with its header, and where its content begins.
async fn message(from: &mut (impl AsyncRead + Unpin)) -> Option<(Vec<u8>, usize)> {
    let mut all = vec![from.read_u8().await.ok()?, from.read_u8().await.ok()?];
    let mut length = usize::from(all[1]);
    if length >= 0x80 {
        let mut bytes = vec![0; length & 0x7f];
        from.read_exact(&mut bytes).await.ok()?;
        length = bytes
            .iter()
            .fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        all.extend(bytes);
    }
    let begin = all.len();
    all.resize(begin + length, 0);
    from.read_exact(&mut all[begin..]).await.ok()?;
    Some((all, begin))
}

/// A line to the lab's controller, with a certificate of its own, that answers some adds by itself.
struct Censor {
    /// The place in [`REFUSALS`]; beyond it everything is passed on.
    refusal: AtomicUsize,
    refused: AtomicUsize,
    /// Whose account is refused.
    sam: String,
}

impl Censor {
    /// The line between this company's gateway and its controller.
    async fn between(company: &Company, sam: &str) -> Arc<Self> {
        let facts = &company.stage.lab.facts;
        let made = rcgen::generate_simple_self_signed(vec![facts.dc.clone()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let authority = std::fs::read(&facts.ca).unwrap();
        let connector = TlsConnector::from(client_config(Some(&authority)).unwrap());
        let name = ServerName::try_from(facts.dc.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stage = &company.stage;
        std::fs::write(stage.path("censor.pem"), made.cert.pem()).unwrap();
        let password = &facts.accounts.passwords["svc-gateway"];
        let secret = stage.path("bind-password");
        std::fs::write(&secret, password).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let boot = "kerbgate.toml";
        let before = format!("ca_file = \"{}\"\nbind = \"kerberos\"", facts.ca.display());
        let after = format!(
            "ca_file = \"censor.pem\"\nport = {port}\nbind = \"simple\"\n\
             bind_name = \"svc-gateway@contoso.test\"\nbind_password_file = \"bind-password\""
        );
        stage.replace(boot, &before, &after);
        let there = format!("\"{}\" = \"{}\"", facts.dc, facts.address);
        stage.replace(boot, &there, &format!("\"{}\" = \"127.0.0.1\"", facts.dc));
        let censor = Arc::new(Self {
            refusal: AtomicUsize::new(REFUSALS.len()),
            refused: AtomicUsize::default(),
            sam: sam.to_owned(),
        });
        let (shared, controller) = (Arc::clone(&censor), facts.ldaps);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let client = acceptor.accept(client);
                let (connector, name) = (connector.clone(), name.clone());
                let censor = Arc::clone(&shared);
                tokio::spawn(async move {
                    let server = TcpStream::connect(controller).await.unwrap();
                    let server = connector.connect(name, server).await.unwrap();
                    censor.join(client.await.unwrap(), server).await;
                });
            }
        });
        censor
    }

    async fn join(
        &self,
        client: tokio_rustls::server::TlsStream<TcpStream>,
        server: tokio_rustls::client::TlsStream<TcpStream>,
    ) {
        let (mut questions, mut to_client) = tokio::io::split(client);
        let (mut answers, mut to_server) = tokio::io::split(server);
        loop {
            // A message is read to its end before anything else: an answer of ours comes between two of the controller's.
            let (mut asks, mut says) = ([0; 1], [0; 1]);
            tokio::select! {
                read = questions.read(&mut asks) => {
                    if !matches!(read, Ok(1)) {
                        return;
                    }
                    let mut whole = (&asks[..]).chain(&mut questions);
                    let Some((asked, begin)) = message(&mut whole).await else { return };
                    let sent = match self.answer(&asked, begin) {
                        Some(answer) => to_client.write_all(&answer).await,
                        None => to_server.write_all(&asked).await,
                    };
                    if sent.is_err() || to_client.flush().await.is_err() || to_server.flush().await.is_err() {
                        return;
                    }
                }
                read = answers.read(&mut says) => {
                    if !matches!(read, Ok(1)) {
                        return;
                    }
                    let mut whole = (&says[..]).chain(&mut answers);
                    let Some((said, _)) = message(&mut whole).await else { return };
                    if to_client.write_all(&said).await.is_err() || to_client.flush().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// The refusal, if this is the add that is refused.
    fn answer(&self, asked: &[u8], begin: usize) -> Option<Vec<u8>> {
        let (code, text, _) = REFUSALS.get(self.refusal.load(Ordering::SeqCst))?;
        let content = &asked[begin..];
        let (id, operation) = content.split_at(2 + usize::from(content[1]));
        let name = format!("CN={},", self.sam);
        let named = operation
            .windows(name.len())
            .any(|part| part == name.as_bytes());
        if operation[0] != ADD || !named {
            return None;
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        let mut result = element(0x0a, &[*code]);
        result.extend(element(0x04, b""));
        result.extend(element(0x04, text.as_bytes()));
        let mut whole = id.to_vec();
        whole.extend(element(ADDED, &result));
        Some(element(MESSAGE, &whole))
    }
}

#[tokio::test]
async fn quota_schema_and_size_stop_one_step_and_say_what_to_do() {
    let company = Company::new().await;
    let jane = company.guest("jane", json!({})).await;
    let censor = Censor::between(&company, &jane.sam).await;
    for (number, (code, text, cure)) in REFUSALS.iter().enumerate() {
        let other = company.guest(&format!("other{number}"), json!({})).await;
        censor.refusal.store(number, Ordering::SeqCst);
        let before = censor.refused.load(Ordering::SeqCst);
        let said = company.sync(&["apply", "--yes"], 1).await;
        let told = [jane.sam.as_str(), &format!("({code})"), text, cure];
        for part in told.into_iter().chain(["failed: 1"]) {
            assert!(said.contains(part), "{part}: {said}");
        }
        let refused = censor.refused.load(Ordering::SeqCst) - before;
        assert_eq!(refused, 1, "a refusal is an answer: nobody asks again");
        let made: Vec<_> = company.state().await;
        let has = |sam: &str| made.iter().any(|(dn, _)| dn.contains(sam));
        assert!(has(&other.sam) && !has(&jane.sam), "{code}: {made:?}");
    }
    censor.refusal.store(REFUSALS.len(), Ordering::SeqCst);
    company.sync(&["apply", "--yes"], 0).await;
    assert_eq!(company.planned().await, [""; 0]);
}

#[tokio::test]
async fn what_samba_says_of_schema_and_size_is_understood() {
    let company = Company::new().await;
    let session = company.ad.session().await.unwrap();
    for (attribute, value, code, cure) in [
        (
            "kerbgateAnchor",
            "User_x".to_owned(),
            ResultCode::NO_SUCH_ATTRIBUTE,
            "the schema lacks an attribute",
        ),
        (
            "sn",
            "я".repeat(65),
            ResultCode(21),
            "too long for its attribute",
        ),
    ] {
        let name = company.guests.child("CN", &unique("refused-"));
        let class = ("objectClass".parse().unwrap(), vec![b"user".to_vec()]);
        let odd = (attribute.parse().unwrap(), vec![value.into_bytes()]);
        let said = session.add(&name, vec![class, odd]).await.unwrap_err();
        assert_eq!(said.code(), Some(code), "{said}");
        assert!(!said.is_connection() && !said.outcome_unknown(), "{said}");
        let text = said.to_string();
        assert!(matches!(said, Error::Refused { .. }), "{text}");
        assert!(text.contains(cure), "{text}");
        assert!(text.contains(&name.to_string()), "{text}");
        assert!(session.read(&name, &["cn"]).await.unwrap().is_none());
    }
}
