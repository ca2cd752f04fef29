//! Links in bodies: what becomes of them, however the bytes are cut.

use std::sync::Arc;

use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use proptest::prelude::*;
use url::Url;

use super::body::Guide;
use super::body::ask;
use super::body::translate;
use super::table::Links;
use crate::model::application::Application;
use crate::model::application::Backend;
use crate::model::application::links::Translation;
use crate::model::body::Body;

fn application(id: &str, published: &str, backend: &str) -> Application {
    let published_url = Url::parse(published).unwrap();
    Application {
        id: id.parse().unwrap(),
        host: published_url.host_str().unwrap().parse().unwrap(),
        prefix: published_url.path().to_owned(),
        published_url,
        backends: vec![Backend {
            url: Url::parse(backend).unwrap(),
            address: None,
        }],
        links: Translation {
            html: true,
            css: true,
            json: true,
            javascript: false,
            xml: true,
        },
        ..Application::sample()
    }
}

fn guide() -> Guide {
    let own = application("own", "https://apps.example.com/w/", "http://b.corp/app/");
    let shop = application("shop", "https://shop.example.com/", "https://shop.corp/");
    Guide {
        links: Arc::new(Links::new([&own, &shop])),
        application: Arc::new(own),
    }
}

fn stream(pieces: Vec<Vec<u8>>) -> Body {
    let frames = pieces
        .into_iter()
        .map(|piece| Ok(http_body::Frame::data(bytes::Bytes::from(piece))));
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

fn answer(kind: &str, pieces: Vec<Vec<u8>>) -> Response<Vec<u8>> {
    let response = Response::builder()
        .header("content-type", kind)
        .header("content-length", "1")
        .header("content-md5", "x")
        .header("accept-ranges", "bytes")
        .header("etag", "\"a\"")
        .body(stream(pieces))
        .unwrap();
    collected(translate(response, &guide()))
}

fn collected(response: Response<Body>) -> Response<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (head, body) = response.into_parts();
    let body = runtime.block_on(body.collect()).unwrap().to_bytes();
    Response::from_parts(head, body.to_vec())
}

fn whole(kind: &str, text: &str) -> String {
    String::from_utf8(answer(kind, vec![text.as_bytes().to_vec()]).into_body()).unwrap()
}

fn by_the_byte(kind: &str, text: &[u8]) -> Vec<u8> {
    answer(kind, text.iter().map(|byte| vec![*byte]).collect()).into_body()
}

const HTML: [(&str, &str); 26] = [
    (
        "<a href=\"http://b.corp/app/x?y#z\">",
        "<a href=\"https://apps.example.com/w/x?y#z\">",
    ),
    ("<a href='/app/x'>", "<a href=\"/w/x\">"),
    ("<a href=/app/x class=q>", "<a href=\"/w/x\" class=q>"),
    (
        "<A HREF=\"HTTPS://SHOP.corp/A\">",
        "<A HREF=\"https://shop.example.com/A\">",
    ),
    (
        "<img src=\"//shop.corp/a.png\">",
        "<img src=\"https://shop.example.com/a.png\">",
    ),
    (
        "<img srcset=\"/app/a.png 1x,/app/b.png 2x, https://shop.corp/c.png 3x\">",
        "<img srcset=\"/w/a.png 1x,/w/b.png 2x, https://shop.example.com/c.png 3x\">",
    ),
    (
        "<form action=\"/app/save\"><button formaction=/app/no>",
        "<form action=\"/w/save\"><button formaction=\"/w/no\">",
    ),
    (
        "<base href=\"http://b.corp/app/\">",
        "<base href=\"https://apps.example.com/w/\">",
    ),
    (
        "<meta http-equiv=Refresh content=\"0; url=/app/x\">",
        "<meta http-equiv=Refresh content=\"0; url=/w/x\">",
    ),
    (
        "<meta property=og:url content=\"https://shop.corp/\">",
        "<meta property=og:url content=\"https://shop.example.com/\">",
    ),
    (
        "<object data=\"/app/x\" codebase=\"http://b.corp/app/\">",
        "<object data=\"/w/x\" codebase=\"https://apps.example.com/w/\">",
    ),
    (
        "<input value=\"https://shop.corp/x\">",
        "<input value=\"https://shop.example.com/x\">",
    ),
    ("<input value=\"/app/x\">", "<input value=\"/app/x\">"),
    (
        "<a href=\"/app/go?to=https%3A%2F%2Fshop.corp%2Fa&b=1\">",
        "<a href=\"/w/go?to=https%3A%2F%2Fshop.example.com%2Fa&b=1\">",
    ),
    (
        "<a href=\"https://login.example/?r=http%3a%2f%2fb.corp%2fapp%2fx\">",
        "<a href=\"https://login.example/?r=https%3A%2F%2Fapps.example.com%2Fw%2fx\">",
    ),
    (
        "<a href=\"https://evil@shop.corp/\">",
        "<a href=\"https://evil@shop.corp/\">",
    ),
    (
        "<a href=\"https://shop.corp.evil/\">",
        "<a href=\"https://shop.corp.evil/\">",
    ),
    ("<a href=\"/application/x\">", "<a href=\"/application/x\">"),
    (
        "<a href=\"/app//evil.example/\">",
        "<a href=\"/w//evil.example/\">",
    ),
    (
        "<div style=\"background: url('/app/a.png')\">",
        "<div style=\"background: url('/w/a.png')\">",
    ),
    (
        "<style>@import \"/app/a.css\"; p { background: url( https://shop.corp/b ) }</style>",
        "<style>@import \"/w/a.css\"; p { background: url( https://shop.example.com/b ) }</style>",
    ),
    (
        "<script type=\"application/json\">{\"a\":\"https:\\/\\/shop.corp\\/x\"}</script>",
        "<script type=\"application/json\">{\"a\":\"https:\\/\\/shop.example.com\\/x\"}</script>",
    ),
    (
        "<script>var a = 'https://shop.corp/'</script>",
        "<script>var a = 'https://shop.corp/'</script>",
    ),
    (
        "<link href=/app/a.css integrity=\"sha256-https://\">",
        "<link href=\"/w/a.css\" integrity=\"sha256-https://\">",
    ),
    (
        "<p>https://shop.corp/ & <!-- <a href=/app/x> --></p>",
        "<p>https://shop.corp/ & <!-- <a href=/app/x> --></p>",
    ),
    ("<a href=\"/app/x", "<a href=\"/app/x"),
];

const CSS: [(&str, &str); 8] = [
    ("a{b:url(/app/x)}", "a{b:url(/w/x)}"),
    (
        "a{b:URL( \"//shop.corp/x\" )}",
        "a{b:URL( \"https://shop.example.com/x\" )}",
    ),
    ("@import '/app/x.css';", "@import '/w/x.css';"),
    (
        "@import url(http://b.corp/app);",
        "@import url(https://apps.example.com/w);",
    ),
    ("a{b:curl(/app/x)}", "a{b:curl(/app/x)}"),
    ("a{b:url(/app/x", "a{b:url(/w/x"),
    // Read as one reference, and so again when it is translated.
    ("url(/app/url(/app/", "url(/w/url(/app/"),
    ("url(/w/url(/app/", "url(/w/url(/app/"),
];

const JSON: [(&str, &str); 9] = [
    (
        "{\"a\":\"http://b.corp/app/x\"}",
        "{\"a\":\"https://apps.example.com/w/x\"}",
    ),
    (
        "[\"http:\\/\\/b.corp\\/app\\/x\"]",
        "[\"https:\\/\\/apps.example.com\\/w\\/x\"]",
    ),
    ("[\"https://shop.corp\"]", "[\"https://shop.example.com\"]"),
    (
        "[\"ws://b.corp/app/s\"]",
        "[\"wss://apps.example.com/w/s\"]",
    ),
    ("[\"news://b.corp/app/s\"]", "[\"news://b.corp/app/s\"]"),
    ("[\"http://b.corp/apple\"]", "[\"http://b.corp/apple\"]"),
    ("[\"/app/x\"]", "[\"/app/x\"]"),
    (
        "[\"https://shop.corp:80@evil/\"]",
        "[\"https://shop.corp:80@evil/\"]",
    ),
    (
        "\"http://apps.example.com/w/x",
        "\"https://apps.example.com/w/x",
    ),
];

#[test]
fn links_lead_to_where_they_are_published() {
    for (kind, table) in [
        ("text/html; charset=iso-8859-1", &HTML[..]),
        ("text/css", &CSS),
        ("application/problem+json", &JSON),
    ] {
        for (text, wanted) in table {
            assert_eq!(whole(kind, text), *wanted, "{text}");
            let cut = by_the_byte(kind, text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&cut), *wanted, "{text}, cut");
            assert_eq!(whole(kind, wanted), *wanted, "{text}, twice");
        }
    }
}

#[test]
fn what_is_said_of_the_bytes_is_taken_back() {
    let answer = answer("text/html", vec![b"<a href=/app/x>".to_vec()]);
    for gone in ["content-length", "content-md5", "accept-ranges"] {
        assert!(!answer.headers().contains_key(gone), "{gone}");
    }
    assert_eq!(answer.headers()["etag"], "W/\"a\"");
}

#[test]
fn what_cannot_be_translated_passes() {
    let text = "<a href=\"/app/x\">";
    for (name, value) in [
        ("content-encoding", "gzip"),
        ("content-type", "text/html; charset=UTF-16LE"),
        ("content-type", "text/plain"),
        ("content-type", "application/javascript"),
    ] {
        let response = Response::builder()
            .header(name, value)
            .header("content-length", "17")
            .header("content-type", "text/html")
            .body(stream(vec![text.into()]))
            .unwrap();
        let answer = collected(translate(response, &guide()));
        assert_eq!(answer.body(), text.as_bytes(), "{value}");
        assert_eq!(answer.headers()["content-length"], "17", "{value}");
    }
    let part = Response::builder()
        .status(206)
        .header("content-type", "text/html");
    let answer = collected(translate(
        part.body(stream(vec![text.into()])).unwrap(),
        &guide(),
    ));
    assert_eq!(answer.body(), text.as_bytes());
}

#[test]
fn a_page_that_is_too_much_passes_from_there_on() {
    let before = "<a href=\"/app/x\">";
    let long = format!("<a title=\"{}\" href=\"/app/y\">", "x".repeat(1 << 20));
    let pieces = format!("{before}{long}<a href=\"/app/z\">");
    let pieces = pieces.as_bytes().chunks(4096).map(<[u8]>::to_vec).collect();
    let got = String::from_utf8(answer("text/html", pieces).into_body()).unwrap();
    let wanted = format!("<a href=\"/w/x\">{long}<a href=\"/app/z\">");
    assert!(got == wanted, "{} of {} bytes", got.len(), wanted.len());
}

#[test]
fn bytes_of_any_charset_stay() {
    let mut page = b"<p title='".to_vec();
    page.extend(0x80..=0xff_u8);
    page.extend(b"'><a href=/app/x>\xff\xfe\x00<style>\xe4");
    let got = answer("text/html", vec![page.clone()]).into_body();
    let link = b"href=/app/x".as_slice();
    let at = page.windows(link.len()).position(|w| w == link).unwrap();
    let wanted = [&page[..at], b"href=\"/w/x\"", &page[at + link.len()..]].concat();
    assert_eq!(got, wanted);
}

#[test]
fn documents_are_asked_for_as_a_whole() {
    for (name, value, kept) in [
        ("sec-fetch-dest", "document", false),
        ("accept", "text/html,*/*", false),
        ("sec-fetch-dest", "video", true),
        ("accept", "*/*", true),
    ] {
        let mut headers = http::HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers.insert("range", "bytes=5-".parse().unwrap());
        ask(&mut headers);
        assert_eq!(headers.contains_key("range"), kept, "{name}: {value}");
        assert_eq!(headers["accept-encoding"], "identity");
    }
}

/// Pieces of which pages are made, and of which they are not.
fn mess() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "<a href=\"",
        "\">",
        "'",
        "<style>",
        "</style>",
        "<script>",
        "</script>",
        "<!--",
        "-->",
        "url(",
        ")",
        "@import ",
        "http://b.corp",
        "https://shop.corp",
        "/app/",
        "/app",
        "//b.corp/app/",
        "%3A%2F%2F",
        "https",
        "https:\\/\\/shop.corp\\/",
        "x",
        " ",
        "\u{e4}",
        "@",
        "\\",
        "<svg><![CDATA[",
        "]]>",
        "&amp;",
        ":",
        "/",
    ]);
    prop::collection::vec(words, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn cuts_make_no_difference(text in mess(), at in any::<prop::sample::Index>()) {
        for kind in ["text/html", "text/css", "application/json"] {
            let at = at.index(text.len() + 1);
            let (one, two) = text.as_bytes().split_at(at);
            let once = whole(kind, &text);
            let cut = answer(kind, vec![one.to_vec(), two.to_vec()]).into_body();
            prop_assert_eq!(String::from_utf8_lossy(&cut), &*once, "{}", kind);
            // Each URL grows by a bounded length.
            prop_assert!(once.len() <= text.len() * 8 + 64);
        }
    }

    #[test]
    fn translated_text_stays(text in mess()) {
        for kind in ["text/css", "application/json"] {
            let once = whole(kind, &text);
            prop_assert_eq!(whole(kind, &once), once, "{}", kind);
        }
    }

    #[test]
    fn any_bytes_come_through(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for kind in ["text/html", "text/css", "application/json"] {
            prop_assert_eq!(by_the_byte(kind, &bytes), bytes.clone(), "{}", kind);
        }
    }
}
