//! Links in HTML: attributes that hold references, inline styles, and data in scripts.
//!
//! `lol_html` parses while it streams, within a bound of memory; beyond it, the rest passes as it came. The
//! document is read byte for byte (`x-user-defined` maps every byte to one character and back), so that
//! what is not translated is not touched in any charset that contains ASCII.
//!
//! Left alone on purpose: `integrity` (the hash of a translated file no longer fits; such an application
//! needs translation off for that kind of file), `on…` handlers, `srcdoc`, text that people read.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use encoding_rs::X_USER_DEFINED;
use lol_html::AsciiCompatibleEncoding;
use lol_html::MemorySettings;
use lol_html::Selector;
use lol_html::errors::RewritingError;
use lol_html::html_content::ContentType;
use lol_html::html_content::Element;
use lol_html::html_content::TextChunk;
use lol_html::send::HtmlRewriter;
use lol_html::send::SendHandlerTypes;
use lol_html::send::Settings;

use crate::model::application::links::Translation;
use crate::rewrite::body::Guide;
use crate::rewrite::references::Context;
use crate::rewrite::scan::Scanner;

/// Memory that one document may take, in bytes: a tag with all its attributes, and the open elements.
const MEMORY: usize = 256 * 1024;

type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// A document on its way.
pub struct Html {
    rewriter: Option<HtmlRewriter<'static, Sink>>,
    out: Arc<Mutex<Vec<u8>>>,
}

impl Html {
    /// Begins a document.
    #[must_use]
    pub fn new(guide: &Guide) -> Self {
        let out = Arc::new(Mutex::new(Vec::new()));
        let sink: Sink = {
            let out = Arc::clone(&out);
            Box::new(move |bytes: &[u8]| lock(&out).extend_from_slice(bytes))
        };
        let rewriter = settings(guide).map(|settings| HtmlRewriter::new(settings, sink));
        Self { rewriter, out }
    }

    /// Takes the next piece; what is certain goes to `out`.
    pub fn write(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let Some(rewriter) = &mut self.rewriter else {
            out.extend_from_slice(data);
            return;
        };
        let written = rewriter.write(data);
        out.append(&mut lock(&self.out));
        if let Err(error) = written {
            // Everything up to here has been passed on; from here on, it passes as it comes.
            tracing::info!(%error, "links in the rest of a page are not translated");
            self.rewriter = None;
        }
    }

    /// Nothing comes after this.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        if let Some(rewriter) = self.rewriter.take()
            && let Err(error) = rewriter.end()
        {
            tracing::info!(%error, "links at the end of a page are not translated");
        }
        out.append(&mut lock(&self.out));
    }
}

/// The raw text that is being read, if it is translated.
type Inline = Arc<Mutex<Option<Scanner>>>;

fn settings(guide: &Guide) -> Option<Settings<'static, 'static>> {
    let every: Selector = "*".parse().ok()?;
    let raw: Selector = "style, script".parse().ok()?;
    let inline: Inline = Arc::default();
    let (of_tags, of_text, of_end) = (guide.clone(), guide.clone(), Arc::clone(&inline));
    let text = Arc::clone(&inline);
    let element = move |element: &mut Element<'_, '_, SendHandlerTypes>| {
        attributes(element, &of_tags.context());
        let begun = begun(element, of_tags.application.links);
        if element.can_have_content() && RAW.contains(&element.tag_name().as_str()) {
            *lock(&inline) = begun;
        }
        Ok(())
    };
    let text = move |chunk: &mut TextChunk<'_>| {
        raw_text(chunk, &mut lock(&text), &of_text.context());
        Ok(())
    };
    let memory = MemorySettings::new()
        .with_max_allowed_memory_usage(MEMORY)
        .with_graceful_bail_out_on_memory_limit_exceeded(true);
    let settings = Settings::new_send()
        .with_encoding(AsciiCompatibleEncoding::new(X_USER_DEFINED)?)
        .with_memory_settings(memory)
        .with_strict(false)
        .append_element_content_handler((
            Cow::Owned(every),
            lol_html::ElementContentHandlers::default().element(element),
        ))
        .append_element_content_handler((
            Cow::Owned(raw),
            lol_html::ElementContentHandlers::default().text(text),
        ))
        .append_bail_out_handler(lol_html::bail_out!(move |_: &RewritingError, end| {
            let held = lock(&of_end).as_mut().map(Scanner::take_held);
            if let Some(held) = held.and_then(|held| String::from_utf8(held).ok()) {
                end.append(&held, ContentType::Html);
            }
        }));
    Some(settings)
}

const RAW: [&str; 2] = ["style", "script"];

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the text of `element` is read, if it is.
fn begun(element: &Element<'_, '_, SendHandlerTypes>, wanted: Translation) -> Option<Scanner> {
    if element.tag_name() == "style" {
        return Some(Scanner::css());
    }
    let kind = element.get_attribute("type").unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    let data = kind.contains("json") || kind == "importmap" || kind == "speculationrules";
    let on = if data { wanted.json } else { wanted.javascript };
    on.then(Scanner::new)
}

fn raw_text(chunk: &mut TextChunk<'_>, inline: &mut Option<Scanner>, context: &Context<'_>) {
    let Some(scanner) = inline else {
        return;
    };
    let mut out = Vec::with_capacity(chunk.as_str().len());
    scanner.write(chunk.as_str().as_bytes(), context, &mut out);
    if chunk.last_in_text_node() {
        scanner.end(context, &mut out);
    }
    // Only ASCII is exchanged for ASCII.
    if let Ok(out) = String::from_utf8(out)
        && out != chunk.as_str()
    {
        chunk.replace(&out, ContentType::Html);
    }
}

fn attributes(element: &mut Element<'_, '_, SendHandlerTypes>, context: &Context<'_>) {
    let mut better: Vec<(String, String)> = Vec::new();
    for attribute in element.attributes() {
        let value = attribute.value();
        // Most attributes hold neither a host nor a path.
        if !value.contains('/') && !value.contains('%') {
            continue;
        }
        let name = attribute.name();
        let found = match what(&name) {
            What::Reference => reference(&value, context),
            What::References => references(&value, context),
            What::Style => Scanner::css().whole(&value, context),
            What::Content => content(element, &value, context),
            What::Other => whole(&value, context),
            What::Never => None,
        };
        better.extend(found.map(|found| (name, found)));
    }
    for (name, value) in better {
        if element.set_attribute(&name, &value).is_err() {
            tracing::debug!(name, "an attribute with an unusual name is not translated");
        }
    }
}

/// What an attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Reference,
    /// Several, between spaces or commas, perhaps with descriptors.
    References,
    Style,
    Content,
    /// Perhaps a whole URL.
    Other,
    Never,
}

fn what(name: &str) -> What {
    match name {
        "href" | "src" | "action" | "formaction" | "poster" | "data" | "cite" | "longdesc"
        | "background" | "manifest" | "icon" | "profile" | "codebase" | "dynsrc" | "lowsrc"
        | "xlink:href" | "data-src" | "data-href" | "data-url" | "data-background"
        | "data-original" | "data-action" => What::Reference,
        "srcset" | "imagesrcset" | "data-srcset" | "ping" | "archive" => What::References,
        "style" => What::Style,
        "content" => What::Content,
        // Namespaces are names, whatever they look like; titles and labels are for people.
        "integrity" | "srcdoc" | "alt" | "title" | "placeholder" | "class" | "id" | "name" => {
            What::Never
        }
        _ if name.starts_with("on") || name.starts_with("xmlns") => What::Never,
        _ => What::Other,
    }
}

fn reference(value: &str, context: &Context<'_>) -> Option<String> {
    let moved = context.published(value);
    let inner = Scanner::new().whole(moved.as_deref().unwrap_or(value), context);
    inner.or(moved)
}

fn references(value: &str, context: &Context<'_>) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    for word in value.split_inclusive(|c: char| c.is_ascii_whitespace()) {
        // `/a.png 1x,/b.png 2x`: what follows the comma is the next one.
        let at = match word.find(',') {
            Some(at) if !word.starts_with('/') && !word.contains("://") => at + 1,
            Some(_) | None => 0,
        };
        let (before, rest) = word.split_at_checked(at)?;
        let bare = rest.trim_end_matches([',', ' ', '\t', '\r', '\n', '\u{c}']);
        let after = rest.get(bare.len()..).unwrap_or_default();
        out.push_str(before);
        out.push_str(context.published(bare).as_deref().unwrap_or(bare));
        out.push_str(after);
    }
    (out != value).then_some(out)
}

/// `<meta content>` is what its other attributes say.
fn content(
    element: &Element<'_, '_, SendHandlerTypes>,
    value: &str,
    context: &Context<'_>,
) -> Option<String> {
    let says = element.get_attribute("http-equiv").unwrap_or_default();
    match says.to_ascii_lowercase().as_str() {
        "refresh" => context.refresh(value),
        "content-security-policy" => context.policy(value),
        _ => whole(value, context),
    }
}

/// A value that is one whole URL, as in `<input value>` and `data-…`.
fn whole(value: &str, context: &Context<'_>) -> Option<String> {
    let text = value.trim_start();
    let whole = text.get(..4).is_some_and(|start| {
        start.eq_ignore_ascii_case("http")
            || start
                .get(..2)
                .is_some_and(|ws| ws.eq_ignore_ascii_case("ws"))
    });
    whole
        .then(|| Scanner::new().whole(value, context))
        .flatten()
}
