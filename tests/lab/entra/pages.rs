//! The emulator's pages: plain HTML that works without script, and says on each page what it is.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::HeaderValue;

use crate::echo::escape;
use crate::entra::Emulator;
use crate::entra::authorize::hinted;
use crate::entra::error::{AadError, Trace};
use crate::entra::world::Account;

/// The list of people, each with a button.
pub fn sign_in(
    action: &str,
    people: &[&Account],
    hint: Option<&str>,
    cancel: &str,
    more: Option<&str>,
) -> Response {
    let is_hinted = |account: &Account| hint.is_some_and(|hint| hinted(account, hint));
    let (first, others): (Vec<&Account>, Vec<&Account>) =
        people.iter().partition(|account| is_hinted(account));
    let mut list = String::new();
    for account in first.into_iter().chain(others) {
        let person = &account.person;
        let shown: String = person.name.chars().take(80).collect();
        list.push_str(&format!(
            "<li><button type=\"submit\" name=\"login\" value=\"{login}\">\
             <strong>{name}</strong><span>{login}</span><span>{what}</span></button></li>\n",
            login = escape(&person.login),
            name = escape(&shown),
            what = escape(&person.what),
        ));
    }
    let more = more.map(|url| {
        format!(
            "<a href=\"{}\">Show the people for load, too</a> ",
            escape(url)
        )
    });
    let body = format!(
        "<h1>Pick an account</h1>\n<p>to continue to Kerbgate. There are no passwords here.</p>\n\
         <form method=\"post\" action=\"{}\"><ul>\n{list}</ul></form>\n\
         <p class=\"foot\">{}<a href=\"{}\">Cancel</a></p>",
        escape(action),
        more.unwrap_or_default(),
        escape(cancel),
    );
    page("Sign in", "", &body)
}

/// Where a sign-in ends that must not go back to the application.
pub fn error(error: &AadError, trace: &Trace) -> Response {
    let body = format!(
        "<h1>Sorry, but we’re having trouble signing you in.</h1>\n\
         <p id=\"error\">AADSTS{}: {}</p>\n<dl><dt>Request Id</dt><dd>{}</dd>\
         <dt>Correlation Id</dt><dd>{}</dd><dt>Timestamp</dt><dd>{}</dd></dl>",
        error.number,
        escape(&error.text),
        trace.trace_id,
        trace.correlation_id,
        trace.timestamp,
    );
    let mut response = page("Sign in", "", &body);
    *response.status_mut() = error.status;
    if let Ok(id) = HeaderValue::from_str(&trace.trace_id) {
        response.headers_mut().insert("x-ms-request-id", id);
    }
    response
}

/// OAuth 2.0 Form Post Response Mode: a form that sends itself.
pub fn form_post(action: &str, fields: &[(&'static str, String)]) -> Response {
    let mut inputs = String::new();
    for (name, value) in fields {
        inputs.push_str(&format!(
            "<input type=\"hidden\" name=\"{name}\" value=\"{}\">\n",
            escape(value)
        ));
    }
    let body = format!(
        "<h1>Working…</h1>\n<form method=\"post\" name=\"hiddenform\" action=\"{}\">\n{inputs}\
         <noscript><p>Script is off. Press the button to go on.</p></noscript>\
         <button type=\"submit\">Continue</button></form>\n\
         <script>document.forms[0].submit()</script>",
        escape(action),
    );
    page("Working…", "", &body)
}

/// Asks before it signs somebody out that the application did not mean.
pub fn choose_sign_out(action: &str, account: &Account) -> Response {
    let body = format!(
        "<h1>Which account do you want to sign out of?</h1>\n\
         <form method=\"post\" action=\"{}\"><ul><li><button type=\"submit\">\
         <strong>{}</strong><span>{}</span></button></li></ul></form>",
        escape(action),
        escape(&account.person.name),
        escape(&account.person.login),
    );
    page("Sign out", "", &body)
}

/// Loads the applications' sign-out addresses in hidden frames, then goes back.
pub fn signed_out(frames: &[String], back: Option<&str>) -> Response {
    let mut body = String::from(
        "<h1>You signed out of your account</h1>\n<p>It’s a good idea to close all browser \
         windows.</p>\n",
    );
    for frame in frames {
        body.push_str(&format!(
            "<iframe hidden title=\"Signing out of an application\" src=\"{}\"></iframe>\n",
            escape(frame)
        ));
    }
    let Some(back) = back else {
        return page("Signed out", "", &body);
    };
    let back = escape(back);
    body.push_str(&format!(
        "<p><a id=\"continue\" href=\"{back}\">Continue</a></p>\n"
    ));
    body.push_str(GO_ON);
    // Without script the frames get a moment, then the page goes on by itself.
    let head =
        format!("<noscript><meta http-equiv=\"refresh\" content=\"3;url={back}\"></noscript>");
    page("Signed out", &head, &body)
}

/// `/`: what this is.
pub async fn front(State(emulator): State<Arc<Emulator>>) -> Response {
    let metadata = format!("/{}/v2.0/.well-known/openid-configuration", emulator.tenant);
    let body = format!(
        "<h1>Nothing to sign in to here</h1>\n<p>Open a published application; it sends you here. \
         For programs: <a href=\"{0}\">metadata</a>, <a href=\"/_control/\">control API</a>.</p>",
        escape(&metadata),
    );
    page("Emulator", "", &body)
}

fn page(title: &str, head: &str, body: &str) -> Response {
    let text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title} – Entra ID emulator</title><link rel=\"icon\" href=\"data:,\">{head}\
         <style>{STYLE}</style></head>\n<body>\
         <p class=\"mark\" role=\"note\">Emulator of Microsoft Entra ID, development only</p>\n\
         <main>\n{body}\n</main></body></html>\n"
    );
    let mut response = Html(text).into_response();
    let headers = response.headers_mut();
    headers.insert(
        "cache-control",
        HeaderValue::from_static("no-store, no-cache"),
    );
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// Goes on once all frames have loaded, or after three seconds.
const GO_ON: &str = "<script>(function(){var frames=document.querySelectorAll('iframe');\
var left=frames.length,gone=false;function go(){if(!gone){gone=true;\
location.href=document.getElementById('continue').href}}\
frames.forEach(function(f){f.addEventListener('load',function(){if(--left<=0)go()})});\
if(!left)go();setTimeout(go,3000)})()</script>";

const STYLE: &str = "*{box-sizing:border-box}body{font:1rem/1.5 system-ui,sans-serif;margin:0;\
background:#eef1f5;color:#1b1f24}.mark{margin:0;padding:.5rem 1rem;background:#5b2d00;color:#fff;\
text-align:center;font-weight:600}main{max-width:34rem;margin:2rem auto;padding:1.5rem;\
background:#fff;border:1px solid #d3d9e0;border-radius:.5rem}h1{font-size:1.4rem;margin:0 0 .5rem}\
ul{list-style:none;margin:1rem 0;padding:0}li{margin:0 0 .5rem}button{display:block;width:100%;\
padding:.6rem .8rem;text-align:left;font:inherit;color:inherit;background:#f7f9fb;\
border:1px solid #8a94a0;border-radius:.4rem;cursor:pointer;overflow-wrap:anywhere}\
button:hover{background:#e5eefb}button:focus-visible,a:focus-visible{outline:3px solid #0b5cad;\
outline-offset:2px}button strong,button span{display:block}button span{font-size:.875rem;\
color:#4a5460}a{color:#0b5cad}.foot{margin:0}dt{font-weight:600}dd{margin:0 0 .5rem}\
#error{overflow-wrap:anywhere}";
