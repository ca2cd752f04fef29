//! Change notifications: Graph is asked to tell a URL of ours when something about people or groups has changed.
//!
//! Specification: Microsoft Graph v1.0, `subscription` (create, update). Graph asks the URL to prove itself before it answers.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;
use uuid::Uuid;

use super::Graph;
use super::budget::Priority;
use super::error::Error;
use super::exchange::About;
use super::exchange::Call;
use super::question;
use super::question::Question;

/// What Graph is to tell of.
#[derive(Clone, Debug)]
pub struct Subscription<'a> {
    /// `users` or `groups`.
    pub resource: &'a str,
    /// Where to.
    pub url: &'a Url,
    /// What proves that it comes from Graph, at most 128 characters.
    pub state: &'a str,
    /// Until when, Unix seconds; Graph allows 29 days for people and groups.
    pub until: i64,
}

/// A subscription that Graph keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscribed {
    /// Its id.
    pub id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    expiration_date_time: OffsetDateTime,
}

impl Subscribed {
    /// When it ends, Unix seconds.
    #[must_use]
    pub const fn until(&self) -> i64 {
        self.expiration_date_time.unix_timestamp()
    }
}

impl Graph {
    /// Subscribes. Needs `User.Read.All` for people, `Group.Read.All` for groups.
    ///
    /// # Errors
    /// Graph refused, among other things because the URL did not answer it, or gave no answer.
    pub async fn subscribe(&self, wanted: &Subscription<'_>) -> Result<Subscribed, Error> {
        let body = json!({
            "changeType": "updated,deleted",
            "resource": wanted.resource,
            "notificationUrl": wanted.url,
            "lifecycleNotificationUrl": wanted.url,
            "clientState": wanted.state,
            "expirationDateTime": moment(wanted.until),
        });
        let url = self.url(&["subscriptions"])?;
        let question = match wanted.resource {
            "groups" => &question::SUBSCRIBE_GROUPS,
            _ => &question::SUBSCRIBE_USERS,
        };
        self.written(question, &url, About::List, body).await
    }

    /// Lets a subscription to `resource` go on until then. Needs what subscribing needs.
    ///
    /// # Errors
    /// It is not there any more ([`Error::ObjectUnknown`]), or Graph refused or gave no answer.
    pub async fn prolong_subscription(
        &self,
        resource: &str,
        id: Uuid,
        until: i64,
    ) -> Result<Subscribed, Error> {
        let body = json!({ "expirationDateTime": moment(until) });
        let url = self.url(&["subscriptions", &id.to_string()])?;
        let question = match resource {
            "groups" => &question::PROLONG_GROUPS,
            _ => &question::PROLONG_USERS,
        };
        self.written(question, &url, About::Object(id), body).await
    }

    async fn written<T: DeserializeOwned>(
        &self,
        question: &Question,
        url: &Url,
        about: About,
        body: Value,
    ) -> Result<T, Error> {
        let call = Call {
            question,
            url,
            body: Some(body),
            about,
            priority: Priority::Sync,
        };
        let body = self.ask(&call).await?;
        serde_json::from_slice(&body).map_err(|_| Error::Answer(question.name))
    }
}

fn moment(unix: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(unix).ok()?;
    time.format(&Rfc3339).ok()
}
