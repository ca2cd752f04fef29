//! Tokens: the claims Entra sends for each kind of person, and signing, rightly or wrongly.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::entra::Emulator;
use crate::entra::client_auth::Proof;
use crate::entra::keys::{b64, random, sha256};
use crate::entra::scope::{Resource, Scope};
use crate::entra::world::{Account, World};
use crate::people::{HOME_TENANT, Origin};

/// JSON object.
pub type Object = Map<String, Value>;

/// On what occasion a person's token is made.
pub struct Occasion<'a> {
    pub account: &'a Account,
    pub scope: &'a Scope,
    pub nonce: Option<&'a str>,
    pub sid: &'a str,
    pub proof: Proof,
}

/// How a token is to differ from a good one.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seal {
    /// Merged over the claims; null removes.
    pub claims: Object,
    /// Merged over the header; null removes.
    pub header: Object,
    pub sign: Sign,
    /// Sign with this key of the ring, published or not.
    pub kid: Option<String>,
    /// RS256 (usual), RS384, RS512, PS256.
    pub alg: Option<String>,
    /// With `"sign":"tampered"`: merged over the claims after signing.
    pub tamper: Object,
}

/// What is wrong with the signature.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// Nothing.
    #[default]
    Right,
    /// A key that was never published, under the right key's id.
    Foreign,
    /// `alg` none and an empty signature.
    None,
    /// HMAC with the public key's PEM as the secret.
    Hs256,
    /// Claims changed after signing.
    Tampered,
    /// A good header and no signature.
    Empty,
    /// The signature in base64url with padding and a line end.
    Garbled,
}

impl World {
    /// Signs `claims`, with the differences of `seal`.
    pub fn seal(&self, claims: Object, header: &Object, seal: &Seal) -> Result<String, String> {
        let key = match &seal.kid {
            Some(kid) => self
                .keys
                .by_kid(kid)
                .ok_or_else(|| format!("no key {kid}"))?,
            None => self.keys.current(),
        };
        let algorithm = seal.alg.as_deref().unwrap_or("RS256");
        let claims = merged(claims, &seal.claims);
        let mut head = Object::new();
        head.insert("typ".into(), json!("JWT"));
        head.insert("alg".into(), json!(algorithm));
        head.insert("kid".into(), json!(key.kid));
        let mut head = merged(head, header);
        match seal.sign {
            Sign::None => {
                head.insert("alg".into(), json!("none"));
            }
            Sign::Hs256 => {
                head.insert("alg".into(), json!("HS256"));
            }
            Sign::Right | Sign::Foreign | Sign::Tampered | Sign::Empty | Sign::Garbled => {}
        }
        let head = merged(head, &seal.header);
        let signed = format!("{}.{}", part(&head), part(&claims));
        let by = |key: &crate::entra::keys::SigningKey| {
            key.sign(algorithm, signed.as_bytes())
                .map(b64)
                .ok_or_else(|| format!("cannot sign with {algorithm}"))
        };
        Ok(match seal.sign {
            Sign::Right => format!("{signed}.{}", by(key)?),
            Sign::Foreign => format!("{signed}.{}", by(&self.keys.foreign)?),
            Sign::None | Sign::Empty => format!("{signed}."),
            Sign::Hs256 => {
                format!(
                    "{signed}.{}",
                    b64(key.sign_hs256_with_public_key(signed.as_bytes()))
                )
            }
            Sign::Tampered => {
                let mut tamper = seal.tamper.clone();
                if tamper.is_empty() {
                    tamper.insert("name".into(), json!("Somebody Else"));
                }
                let claims = merged(claims, &tamper);
                format!("{}.{}.{}", part(&head), part(&claims), by(key)?)
            }
            Sign::Garbled => format!("{signed}.{}==\r\n", by(key)?),
        })
    }
}

fn part(object: &Object) -> String {
    b64(Value::from(object.clone()).to_string())
}

/// `over` laid over `under`; null removes.
pub fn merged(mut under: Object, over: &Object) -> Object {
    for (name, value) in over {
        if value.is_null() {
            under.remove(name);
        } else {
            under.insert(name.clone(), value.clone());
        }
    }
    under
}

/// A token with how long it lasts.
pub struct Token {
    pub text: String,
    pub seconds: i64,
}

impl Emulator {
    /// Claims of a v2 ID token.
    pub fn id_claims(&self, world: &World, occasion: &Occasion<'_>) -> Object {
        let Occasion {
            account,
            scope,
            nonce,
            sid,
            ..
        } = occasion;
        let person = &account.person;
        let mut claims = self.common(world, home(account), "2.0");
        claims.insert("aud".into(), json!(self.client_id));
        let exp = world.token_time() + world.registration.id_token_seconds;
        claims.insert("exp".into(), json!(exp));
        claims.insert(
            "sub".into(),
            json!(self.pairwise(&person.oid, &self.client_id)),
        );
        claims.insert("acct".into(), json!(u8::from(person.guest)));
        claims.insert("sid".into(), json!(sid));
        claims.insert("login_hint".into(), json!(login_hint(&person.oid)));
        if scope.profile {
            claims.insert("oid".into(), json!(person.oid));
            claims.insert("name".into(), json!(person.name));
        }
        if person.named_in_tokens {
            // Guests' tokens have the address by default, employees' only on request.
            if person.guest || scope.email {
                claims.insert("email".into(), json!(person.mail));
            }
            if scope.profile {
                claims.insert("preferred_username".into(), json!(person.mail));
                claims.insert("upn".into(), json!(person.upn()));
            }
        }
        if let Some(nonce) = nonce {
            claims.insert("nonce".into(), json!(nonce));
        }
        if let Some(sid) = &account.onprem_sid {
            claims.insert("onprem_sid".into(), json!(sid));
        }
        self.assignments(account, &mut claims);
        merged(claims, &account.claims)
    }

    /// An access token for the scope's resource.
    pub fn access_token(&self, world: &World, occasion: &Occasion<'_>) -> Token {
        let seconds = access_seconds(world);
        let claims = match occasion.scope.resource {
            Resource::ApiV2 => self.access_claims_v2(world, occasion, seconds),
            Resource::ApiV1 => {
                let audience = format!("{}-v1", self.api_audience);
                self.access_claims_v1(world, occasion, &audience, seconds)
            }
            Resource::Graph => self.access_claims_v1(world, occasion, GRAPH_ID, seconds),
        };
        Token {
            text: self.signed_for(world, occasion.scope.resource, claims),
            seconds,
        }
    }

    /// An access token for the application itself.
    pub fn app_token(&self, world: &World, resource: Resource, proof: Proof) -> Token {
        let seconds = access_seconds(world);
        let claims = self.app_claims(world, resource, proof, seconds);
        Token {
            text: self.signed_for(world, resource, claims),
            seconds,
        }
    }

    /// Signs an access token with the header its resource's tokens have.
    fn signed_for(&self, world: &World, resource: Resource, claims: Object) -> String {
        let mut header = Object::new();
        if resource != Resource::ApiV2 {
            header.insert("x5t".into(), json!(world.keys.current().kid));
        }
        let seal = Seal::default();
        if resource != Resource::Graph {
            return world.seal(claims, &header, &seal).unwrap_or_default();
        }
        // Graph's tokens are nobody else's to check: the nonce is hashed before signing, so
        // the signature does not verify over what is sent.
        let nonce = random(24);
        header.insert("nonce".into(), json!(sha256(&nonce)));
        let token = world.seal(claims, &header, &seal).unwrap_or_default();
        let (_, rest) = token.split_once('.').unwrap_or_default();
        let mut sent = Object::new();
        sent.insert("typ".into(), json!("JWT"));
        sent.insert("nonce".into(), json!(nonce));
        sent.insert("alg".into(), json!("RS256"));
        sent.insert("x5t".into(), json!(world.keys.current().kid));
        sent.insert("kid".into(), json!(world.keys.current().kid));
        format!("{}.{rest}", part(&sent))
    }

    /// Claims of a v2 access token for the API.
    pub fn access_claims_v2(&self, world: &World, occasion: &Occasion<'_>, seconds: i64) -> Object {
        let account = occasion.account;
        let person = &account.person;
        let audience = self.api_client_id.as_ref().unwrap_or(&self.api_audience);
        let mut claims = self.common(world, home(account), "2.0");
        claims.insert("aud".into(), json!(audience));
        claims.insert("exp".into(), json!(world.token_time() + seconds));
        claims.insert("azp".into(), json!(self.client_id));
        claims.insert("azpacr".into(), json!(occasion.proof.level()));
        claims.insert("acct".into(), json!(u8::from(person.guest)));
        claims.insert("name".into(), json!(person.name));
        if person.named_in_tokens {
            claims.insert("preferred_username".into(), json!(person.mail));
        }
        claims.insert("oid".into(), json!(person.oid));
        claims.insert("sid".into(), json!(occasion.sid));
        claims.insert("scp".into(), json!(permissions(occasion.scope)));
        claims.insert("sub".into(), json!(self.pairwise(&person.oid, audience)));
        claims.insert("xms_cc".into(), json!(["cp1"]));
        if let Some(sid) = &account.onprem_sid {
            claims.insert("onprem_sid".into(), json!(sid));
        }
        self.assignments(account, &mut claims);
        merged(claims, &account.claims)
    }

    /// Claims of a v1 access token.
    pub fn access_claims_v1(
        &self,
        world: &World,
        occasion: &Occasion<'_>,
        audience: &str,
        seconds: i64,
    ) -> Object {
        let account = occasion.account;
        let person = &account.person;
        let puid = puid(&person.oid);
        let mut claims = self.common(world, home(account), "1.0");
        claims.insert("aud".into(), json!(audience));
        claims.insert("exp".into(), json!(world.token_time() + seconds));
        claims.insert("acr".into(), json!("1"));
        claims.insert("acct".into(), json!(u8::from(person.guest)));
        claims.insert("aio".into(), json!(random(40)));
        claims.insert("amr".into(), json!(["pwd", "mfa"]));
        claims.insert("appid".into(), json!(self.client_id));
        claims.insert("appidacr".into(), json!(occasion.proof.level()));
        claims.insert("ipaddr".into(), json!("203.0.113.5"));
        claims.insert("name".into(), json!(person.name));
        claims.insert("oid".into(), json!(person.oid));
        claims.insert("puid".into(), json!(puid));
        claims.insert("scp".into(), json!(permissions(occasion.scope)));
        claims.insert("sub".into(), json!(self.pairwise(&person.oid, audience)));
        let altsecid = match person.origin {
            Origin::Own => None,
            Origin::EntraTenant => Some(format!("5::{puid}")),
            Origin::MicrosoftAccount => Some(format!("1:live.com:{puid}")),
            Origin::OneTimePasscode => Some(format!("1:mail:{puid}")),
        };
        if let Some(altsecid) = altsecid {
            claims.insert("altsecid".into(), json!(altsecid));
        }
        if person.named_in_tokens {
            let prefix = match person.origin {
                Origin::Own | Origin::EntraTenant => "",
                Origin::MicrosoftAccount => "live.com#",
                Origin::OneTimePasscode => "mail#",
            };
            claims.insert(
                "unique_name".into(),
                json!(format!("{prefix}{}", person.mail)),
            );
            if person.origin == Origin::Own {
                claims.insert("upn".into(), json!(person.upn()));
            } else {
                claims.insert("email".into(), json!(person.mail));
            }
        }
        if let Some(sid) = &account.onprem_sid {
            claims.insert("onprem_sid".into(), json!(sid));
        }
        if let Some((given, family)) = person.name.split_once(' ') {
            claims.insert("given_name".into(), json!(given));
            claims.insert("family_name".into(), json!(family));
        }
        self.assignments(account, &mut claims);
        merged(claims, &account.claims)
    }

    /// Claims of an app-only access token: there is no user in it.
    pub fn app_claims(
        &self,
        world: &World,
        resource: Resource,
        proof: Proof,
        seconds: i64,
    ) -> Object {
        let principal = "cccccccc-0000-4000-8000-0000000000cc";
        let v2_audience = self
            .api_client_id
            .as_ref()
            .unwrap_or(&self.api_audience)
            .clone();
        let (version, audience, roles) = match resource {
            Resource::Graph => (
                "1.0",
                GRAPH_URI.to_owned(),
                world.registration.graph_roles.clone(),
            ),
            // A role that people have too: whoever looks at roles only lets the program in.
            Resource::ApiV1 => (
                "1.0",
                format!("{}-v1", self.api_audience),
                vec!["Intranet.User".to_owned()],
            ),
            Resource::ApiV2 => ("2.0", v2_audience, vec!["Intranet.User".to_owned()]),
        };
        let idp = (version == "1.0").then(|| self.issuer_v1());
        let mut claims = self.common(world, idp, version);
        let (client, level) = if version == "1.0" {
            ("appid", "appidacr")
        } else {
            ("azp", "azpacr")
        };
        claims.insert("aud".into(), json!(audience));
        claims.insert("exp".into(), json!(world.token_time() + seconds));
        claims.insert("aio".into(), json!(random(40)));
        claims.insert(client.into(), json!(self.client_id));
        claims.insert(level.into(), json!(proof.level()));
        claims.insert("idtyp".into(), json!("app"));
        claims.insert("oid".into(), json!(principal));
        claims.insert("sub".into(), json!(principal));
        claims.insert("roles".into(), json!(roles));
        claims
    }

    /// What all tokens have. Entra dates its tokens five minutes back.
    fn common(&self, world: &World, idp: Option<String>, version: &str) -> Object {
        let begin = world.token_time() - 300;
        let issuer = if version == "2.0" {
            self.issuer_v2()
        } else {
            self.issuer_v1()
        };
        let mut claims = Object::new();
        claims.insert("ver".into(), json!(version));
        claims.insert("iss".into(), json!(issuer));
        claims.insert("iat".into(), json!(begin));
        claims.insert("nbf".into(), json!(begin));
        claims.insert("tid".into(), json!(self.tenant));
        claims.insert("rh".into(), json!(format!("1.{}.", random(32))));
        claims.insert("uti".into(), json!(random(16)));
        if let Some(idp) = idp {
            claims.insert("idp".into(), json!(idp));
        }
        claims
    }

    /// Roles and groups, or the overage form when they are too many for a token.
    fn assignments(&self, account: &Account, claims: &mut Object) {
        let person = &account.person;
        if !person.roles.is_empty() {
            claims.insert("roles".into(), json!(person.roles));
        }
        if person.groups.len() > GROUPS_IN_TOKEN {
            // The old Graph's address, as Entra still sends it: not to be followed.
            let endpoint = format!(
                "https://graph.windows.net/{}/users/{}/getMemberObjects",
                self.tenant, person.oid
            );
            claims.insert("_claim_names".into(), json!({ "groups": "src1" }));
            claims.insert(
                "_claim_sources".into(),
                json!({ "src1": { "endpoint": endpoint } }),
            );
        } else if !person.groups.is_empty() {
            claims.insert("groups".into(), json!(person.groups));
        }
    }

    /// A subject that differs from application to application.
    pub fn pairwise(&self, oid: &str, audience: &str) -> String {
        sha256(&format!("{}|{audience}|{oid}", self.tenant))
    }
}

/// `idp`: absent for the tenant's own people.
fn home(account: &Account) -> Option<String> {
    match account.person.origin {
        Origin::Own => None,
        Origin::EntraTenant => Some(format!("https://sts.windows.net/{HOME_TENANT}/")),
        Origin::MicrosoftAccount => Some("live.com".to_owned()),
        Origin::OneTimePasscode => Some("mail".to_owned()),
    }
}

fn permissions(scope: &Scope) -> String {
    let plain = scope.permissions.iter().map(String::as_str);
    let words: Vec<_> = plain
        .map(|word| if word == ".default" { "access" } else { word })
        .collect();
    if words.is_empty() {
        "openid profile email User.Read".to_owned()
    } else {
        words.join(" ")
    }
}

fn access_seconds(world: &World) -> i64 {
    world.registration.access_token_seconds.unwrap_or_else(|| {
        let mut byte = [0];
        aws_lc_rs::rand::fill(&mut byte).expect("the system has random numbers");
        3600 + i64::from(byte[0]) * 1800 / 255
    })
}

/// The opaque `login_hint` claim: comes back as `logout_hint`.
pub fn login_hint(oid: &str) -> String {
    format!("O.{}", b64(format!("login-hint:{oid}")))
}

fn puid(oid: &str) -> String {
    let digits: String = oid.chars().filter(char::is_ascii_hexdigit).collect();
    format!("10032{}", &digits[digits.len().saturating_sub(11)..]).to_uppercase()
}

/// Most groups that Entra writes into a JWT.
const GROUPS_IN_TOKEN: usize = 200;
/// Graph's application id: the audience of delegated tokens.
const GRAPH_ID: &str = "00000003-0000-0000-c000-000000000000";
/// Graph's URI: the audience of app-only tokens.
const GRAPH_URI: &str = "https://graph.microsoft.com";
