//! The `scope` parameter: OpenID scopes and at most one resource.

use crate::entra::Emulator;
use crate::entra::error::AadError;

/// Whom an access token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Microsoft Graph.
    Graph,
    /// The API, whose registration asks for v2 tokens.
    ApiV2,
    /// The API's older sister, whose registration asks for v1 tokens.
    ApiV1,
}

/// A checked `scope`.
#[derive(Clone, Debug)]
pub struct Scope {
    pub openid: bool,
    pub profile: bool,
    pub email: bool,
    pub offline: bool,
    pub resource: Resource,
    /// Permissions at the resource, without its prefix.
    pub permissions: Vec<String>,
    /// As asked for.
    pub text: String,
}

impl Scope {
    /// Splits and checks.
    pub fn parse(emulator: &Emulator, text: &str) -> Result<Self, AadError> {
        let mut scope = Self {
            openid: false,
            profile: false,
            email: false,
            offline: false,
            resource: Resource::Graph,
            permissions: Vec::new(),
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let mut resources = Vec::new();
        for word in text.split_whitespace() {
            match word {
                "openid" => scope.openid = true,
                "profile" => scope.profile = true,
                "email" => scope.email = true,
                "offline_access" => scope.offline = true,
                _ => {
                    let (resource, permission) = emulator
                        .resource(word)
                        .ok_or_else(|| invalid(&emulator.tenant, word))?;
                    resources.push(resource);
                    scope.permissions.push(permission);
                }
            }
        }
        resources.dedup();
        if let [one] = resources.as_slice() {
            scope.resource = *one;
        } else if resources.len() > 1 {
            let told = "Provided value for the input parameter scope is not valid because it \
                        contains more than one resource.";
            return Err(AadError::new(28_000, "invalid_request", told));
        }
        if !scope.openid && scope.permissions.is_empty() {
            return Err(invalid(&emulator.tenant, text));
        }
        Ok(scope)
    }

    /// As the token response tells it.
    pub fn granted(&self) -> String {
        match self.resource {
            Resource::Graph => {
                let mut words = vec!["openid", "profile", "email"];
                words.extend(self.permissions.iter().map(String::as_str));
                words.join(" ")
            }
            Resource::ApiV2 | Resource::ApiV1 => {
                let openid = ["openid", "profile", "email", "offline_access"];
                let words = self.text.split(' ').filter(|word| !openid.contains(word));
                words.collect::<Vec<_>>().join(" ")
            }
        }
    }
}

impl Emulator {
    fn resource(&self, word: &str) -> Option<(Resource, String)> {
        let graph_here = format!("{}/graph/", self.public_url);
        let host = format!("{}/", self.public_url);
        let own = format!("{}/", self.client_id);
        let v2 = format!("{}/", self.api_audience);
        let v1 = format!("{}-v1/", self.api_audience);
        let prefixes = [
            ("https://graph.microsoft.com/", Resource::Graph),
            (graph_here.as_str(), Resource::Graph),
            (host.as_str(), Resource::Graph),
            (own.as_str(), Resource::ApiV2),
            (v2.as_str(), Resource::ApiV2),
            (v1.as_str(), Resource::ApiV1),
        ];
        for (prefix, resource) in prefixes {
            if let Some(permission) = word.strip_prefix(prefix) {
                return Some((resource, permission.to_owned()));
            }
        }
        // A bare permission name is Graph's.
        let bare = word.starts_with(|first: char| first.is_ascii_uppercase())
            && word
                .chars()
                .all(|other| other.is_ascii_alphanumeric() || other == '.');
        bare.then(|| (Resource::Graph, word.to_owned()))
    }
}

fn invalid(tenant: &str, word: &str) -> AadError {
    let text = format!(
        "The provided request must include a 'scope' input parameter. The provided value for the \
         input parameter 'scope' is not valid. The scope '{word}' does not exist in the tenant \
         '{tenant}'."
    );
    AadError::new(70_011, "invalid_scope", text)
}
