//! The other resources that a request names: `Destination` and the tags in `If` (RFC 4918 10.3 and 10.4).
//!
//! In: a request's headers and the application it is for. Out: [`Named`], the same resources as [`Target`]s of this very
//! application; the headers are taken out, and `forward` writes them anew, as the chosen server knows the resources.
//!
//! # Why like this
//! - SECURITY: a backend that speaks WebDAV acts on them as on the target of the request. So they go through the one
//!   reading of a target, and [`super::entrance`] looks at them as well: what needs a sign-in needs it here, too.
//! - What lies elsewhere (another application, another address of this one, another server) is refused with 502, the
//!   answer of RFC 4918 9.8.5 for a destination on another server: clients then copy by GET and PUT, where somebody looks at
//!   each of the two. 403 would say that nothing helps.
//! - What could be read in two ways is a 400. That is more than RFC 4918 forbids: within a list no character of its
//!   syntax, since some servers look for the next `)`, `]` or `>` without regard to quotes.

use http::HeaderMap;
use http::HeaderName;
use http::Uri;

use crate::listener::authority::HostPort;
use crate::model::application::Application;
use crate::model::application::public::Paths;
use crate::model::stop::Code;
use crate::model::stop::Stop;
use crate::route::Matched;
use crate::route::Routes;
use crate::route::target::BadTarget;
use crate::route::target::Target;

/// Where the second resource of COPY and MOVE is.
pub const DESTINATION: HeaderName = HeaderName::from_static("destination");
/// What has to hold of resources.
pub const IF: HeaderName = HeaderName::from_static("if");

/// Resources of the application besides the one that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// `Destination`.
    pub destination: Option<Target>,
    /// `If`; empty for none.
    pub conditions: Vec<Condition>,
}

/// A part of `If`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The lists behind it are about this resource.
    About(Target),
    /// A list, with its parentheses.
    List(String),
}

/// What a request is for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Everything published.
    pub routes: &'a Routes,
    /// The application.
    pub application: &'a Application,
    /// The host, as the client called it.
    pub host: &'a HostPort,
}

impl Named {
    /// Takes them out of `headers`; `None` for what nearly all requests are.
    ///
    /// # Errors
    /// `resource-elsewhere`; `bad-request` and `target-refused` for what has no reading, or two.
    pub fn take(headers: &mut HeaderMap, place: &Place<'_>) -> Result<Option<Box<Self>>, Stop> {
        if !headers.contains_key(&DESTINATION) && !headers.contains_key(&IF) {
            return Ok(None);
        }
        let destination = one(headers, &DESTINATION)?;
        let conditions = one(headers, &IF)?;
        let mut named = Self::default();
        if let Some(text) = destination {
            named.destination = Some(place.resource(&DESTINATION, text.trim_matches(WHITE))?);
        }
        if let Some(text) = conditions {
            let bad = || Stop::deny(Code::BadRequest, "If holds no sound lists of conditions");
            for part in parts(text.trim_matches(WHITE)).ok_or_else(bad)? {
                named.conditions.push(match part {
                    Part::Tag(tag) => Condition::About(place.resource(&IF, tag)?),
                    Part::List(list) => Condition::List(list.to_owned()),
                });
            }
        }
        Ok(Some(Box::new(named)))
    }

    /// All of them.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let about = self.conditions.iter().filter_map(|part| match part {
            Condition::About(target) => Some(target),
            Condition::List(_) => None,
        });
        self.destination.iter().chain(about)
    }
}

/// True when `target` and everything that is named besides it lies in `paths`.
#[must_use]
pub fn all_in(paths: &Paths, target: &Target, named: Option<&Named>) -> bool {
    let others = named.into_iter().flat_map(Named::targets);
    let mut all = std::iter::once(target).chain(others);
    all.all(|target| paths.holds(target.path()))
}

/// How much of an address the log shows.
const SHOWN: usize = 200;
const WHITE: [char; 2] = [' ', '\t'];

/// Takes out the header `name`, which comes once.
fn one(headers: &mut HeaderMap, name: &HeaderName) -> Result<Option<String>, Stop> {
    // SECURITY: two programs would pick two of them.
    if headers.get_all(name).iter().nth(1).is_some() {
        return Err(Stop::deny(Code::BadRequest, format!("two headers {name}")));
    }
    let Some(value) = headers.remove(name) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(Stop::deny(
            Code::BadRequest,
            format!("{name} holds bytes that no URL does"),
        )),
    }
}

impl Place<'_> {
    /// The resource that `text`, from the header `name`, leads to: an absolute URL, or a path from the root
    /// (RFC 4918 8.3, `Simple-ref`).
    fn resource(&self, name: &HeaderName, text: &str) -> Result<Target, Stop> {
        // What is no address may hold a password, and a query whatever opens something: neither is for the log.
        let bad = || Stop::deny(Code::BadRequest, format!("{name} names no resource"));
        let elsewhere = || {
            let shown: String = text.chars().take_while(|c| *c != '?').take(SHOWN).collect();
            let detail = format!("{name}: {shown} is not in {}", self.application.id);
            Stop::deny(Code::ResourceElsewhere, detail)
        };
        // Our parser would take a fragment off, others would not.
        if text.contains('#') || text.starts_with("//") {
            return Err(bad());
        }
        let path = if text.starts_with('/') {
            text
        } else {
            let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at_checked(end).ok_or_else(bad)?;
            let host: HostPort = authority.parse().map_err(|_| bad())?;
            if !scheme.eq_ignore_ascii_case("https") || !self.is_here(&host) {
                return Err(elsewhere());
            }
            if path.is_empty() { "/" } else { path }
        };
        if !path.starts_with('/') {
            return Err(bad());
        }
        let uri: Uri = path.parse().map_err(|_| bad())?;
        let target = match Target::parse(&uri) {
            Err(BadTarget::Disguised(b'/')) => self.routes.with_slashes(&self.host.host, &uri)?,
            read => {
                read.map_err(|bad| Stop::deny(Code::TargetRefused, format!("{name}: {bad}")))?
            }
        };
        match self.routes.find(&self.host.host, &target) {
            Ok(Matched::Application(app))
                if app.published_url == self.application.published_url =>
            {
                Ok(target)
            }
            Ok(Matched::Application(_) | Matched::Own(_) | Matched::AddSlash(_)) | Err(_) => {
                Err(elsewhere())
            }
        }
    }

    /// The server of the request: as the client called it, or as it is published.
    fn is_here(&self, host: &HostPort) -> bool {
        let port = host.port.unwrap_or(443);
        let published = self.application.published_url.port_or_known_default();
        host.host == self.host.host
            && (port == self.host.port.unwrap_or(443) || Some(port) == published)
    }
}

/// A part of `If`, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    /// What stood in angle brackets outside of a list.
    Tag(&'a str),
    /// With its parentheses.
    List(&'a str),
}

/// RFC 4918 10.4.2: `1*No-tag-list | 1*Tagged-list`, a tag being followed by at least one list.
fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    let tagged = text.starts_with('<');
    let mut parts = Vec::new();
    let mut rest = text;
    let mut awaits_list = true;
    while !rest.is_empty() {
        let after = if rest.starts_with('<') {
            if !tagged || (awaits_list && !parts.is_empty()) {
                return None;
            }
            let (tag, after) = bracketed(rest)?;
            parts.push(Part::Tag(tag));
            awaits_list = true;
            after
        } else {
            let (list, after) = list(rest)?;
            parts.push(Part::List(list));
            awaits_list = false;
            after
        };
        rest = after.trim_start_matches(WHITE);
    }
    (!awaits_list).then_some(parts)
}

/// `"(" 1*Condition ")"`, and what follows.
fn list(text: &str) -> Option<(&str, &str)> {
    let mut rest = text.strip_prefix('(')?.trim_start_matches(WHITE);
    loop {
        let not = rest
            .get(..3)
            .is_some_and(|word| word.eq_ignore_ascii_case("not"));
        if not {
            rest = rest.get(3..)?.trim_start_matches(WHITE);
        }
        let (_, after) = if rest.starts_with('<') {
            bracketed(rest)?
        } else {
            entity_tag(rest)?
        };
        rest = after.trim_start_matches(WHITE);
        if let Some(after) = rest.strip_prefix(')') {
            return text.split_at_checked(text.len() - after.len());
        }
    }
}

/// `"<" URI ">"`: what is in it, and what follows.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let (uri, after) = text.strip_prefix('<')?.split_once('>')?;
    is_quiet(uri).then_some((uri, after))
}

/// `"[" entity-tag "]"`: the tag, and what follows.
fn entity_tag(text: &str) -> Option<(&str, &str)> {
    let (tag, after) = text.strip_prefix('[')?.split_once(']')?;
    let opaque = tag.strip_prefix("W/").unwrap_or(tag);
    let opaque = opaque.strip_prefix('"')?.strip_suffix('"')?;
    is_quiet(opaque).then_some((tag, after))
}

/// Nothing in it that a careless server would take for the end of something, or the beginning.
fn is_quiet(text: &str) -> bool {
    let loud = |byte: u8| !byte.is_ascii_graphic() || b"<>()[]\"".contains(&byte);
    !text.bytes().any(loud)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    fn files(id: &str, url: &str) -> Arc<Application> {
        let url: Url = url.parse().unwrap();
        Arc::new(Application {
            id: id.parse().unwrap(),
            host: url.host_str().unwrap().parse().unwrap(),
            prefix: url.path().to_owned(),
            published_url: url,
            ..Application::sample()
        })
    }

    fn take(headers: &[(&HeaderName, &str)]) -> Result<Option<Box<Named>>, Code> {
        let app = files("files", "https://files.example.com:8443/dav/");
        let other = files("other", "https://files.example.com:8443/other/");
        let routes = Routes::new(
            "login.example.com".parse().unwrap(),
            [Arc::clone(&app), other],
        );
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let host = "files.example.com".parse().unwrap();
        let place = Place {
            routes: &routes,
            application: &app,
            host: &host,
        };
        let named = Named::take(&mut map, &place);
        assert!(named.is_err() || map.is_empty(), "both are taken out");
        named.map_err(|stop| match stop {
            Stop::Deny(denial) => denial.code,
            other @ (Stop::Reply(_) | Stop::Fail(_) | Stop::Later { .. } | Stop::Wait { .. }) => {
                panic!("{other:?}")
            }
        })
    }

    fn destination(value: &str) -> Result<String, Code> {
        let named = take(&[(&DESTINATION, value)])?.unwrap();
        Ok(named.destination.as_ref().unwrap().as_str().to_owned())
    }

    #[test]
    fn a_destination_has_one_reading_and_lies_here() {
        for (value, wanted) in [
            ("https://files.example.com:8443/dav/a%20b?c", "/dav/a%20b?c"),
            ("https://FILES.example.com/dav/", "/dav/"),
            ("HTTPS://files.example.com:443/dav/a", "/dav/a"),
            ("/dav/a", "/dav/a"),
            (" /dav/a\t", "/dav/a"),
            ("/x/../dav/./a/", "/dav/a/"),
            ("/dav//a", "/dav/a"),
            ("/dav/%2e%2e/dav/a", "/dav/a"),
        ] {
            assert_eq!(destination(value), Ok(wanted.to_owned()), "{value}");
        }
        use Code::BadRequest as Bad;
        use Code::ResourceElsewhere as Elsewhere;
        use Code::TargetRefused as Refused;
        for (value, why) in [
            ("/other/a", Elsewhere),
            ("/dav/../other/a", Elsewhere),
            ("/dav/%2e%2e/other/a", Elsewhere),
            ("/dav", Elsewhere),
            ("/", Elsewhere),
            ("/.kerbgate/signout", Elsewhere),
            ("https://files.example.com", Elsewhere),
            ("http://files.example.com/dav/a", Elsewhere),
            ("https://files.example.com:9/dav/a", Elsewhere),
            ("https://files.example.com.evil/dav/a", Elsewhere),
            ("https://login.example.com/dav/a", Elsewhere),
            ("https://127.0.0.1/dav/a", Elsewhere),
            ("file://files.example.com/dav/a", Elsewhere),
            ("https://files.example.com@evil/dav/a", Bad),
            ("https://evil@files.example.com/dav/a", Bad),
            ("https://files.example.com\\dav/a", Bad),
            ("https:///dav/a", Bad),
            ("https://files.example.com?/dav/a", Bad),
            ("https:/dav/a", Bad),
            ("//files.example.com/dav/a", Bad),
            ("dav/a", Bad),
            ("", Bad),
            ("/dav/a#b", Bad),
            ("/dav/a b", Bad),
            ("/dav/a\\b", Refused),
            ("/dav/..;/other/a", Refused),
            ("/dav/%2e%2e%2fother", Refused),
            ("/dav/a%00", Refused),
            ("/dav/a%", Refused),
            ("/../dav/a", Refused),
        ] {
            assert_eq!(destination(value), Err(why), "{value}");
        }
        let twice = [(&DESTINATION, "/dav/a"), (&DESTINATION, "/dav/a")];
        assert_eq!(take(&twice), Err(Bad));
        assert_eq!(take(&[]), Ok(None));
    }

    fn condition(value: &str) -> Result<String, Code> {
        let named = take(&[(&IF, value)])?.unwrap();
        let shown = named.conditions.iter().map(|part| match part {
            Condition::About(target) => format!("{{{}}}", target.as_str()),
            Condition::List(list) => list.clone(),
        });
        Ok(shown.collect())
    }

    #[test]
    fn only_what_lists_are_about_is_read_as_a_resource() {
        for (value, wanted) in [
            ("(<urn:uuid:1> [\"e\"])", "(<urn:uuid:1> [\"e\"])"),
            (
                "( Not<DAV:no-lock>\t[W/\"e\"] )(<a:b>)",
                "( Not<DAV:no-lock>\t[W/\"e\"] )(<a:b>)",
            ),
            (
                "<https://files.example.com/dav/x/../a> (<opaquelocktoken:1>) ([\"e\"]) </dav/b>(<a:/other/>)",
                "{/dav/a}(<opaquelocktoken:1>)([\"e\"]){/dav/b}(<a:/other/>)",
            ),
        ] {
            assert_eq!(condition(value), Ok(wanted.to_owned()), "{value}");
        }
        for value in [
            "</other/a> (<a:b>)",
            "</dav/a> (<a:b>) <https://files.example.com/other/> (<a:b>)",
            "<http://evil.example/> (<a:b>)",
        ] {
            assert_eq!(condition(value), Err(Code::ResourceElsewhere), "{value}");
        }
        for value in [
            "",
            "</dav/a>",
            "</dav/a> </dav/b> (<a:b>)",
            "(<a:b>) </dav/a> (<a:b>)",
            "(<a:b>) </dav/a>",
            "()",
            "( )",
            "(",
            "(<a:b>",
            "(<a:b>))",
            "(a:b)",
            "(<a:b>) x",
            "([e])",
            "([\"e)(<a:b>\"])",
            "([\"e]\"])",
            "(<a:)</other/a>(<b>)",
            "(Not)",
            "(Not Not <a:b>)",
            "<urn:uuid:1>",
            "<urn:uuid:1> (<a:b>)",
        ] {
            assert_eq!(condition(value), Err(Code::BadRequest), "{value}");
        }
        assert_eq!(
            take(&[(&IF, "(<a:b>)"), (&IF, "(<a:b>)")]),
            Err(Code::BadRequest)
        );
    }

    proptest! {
        #[test]
        fn no_text_panics_or_leads_out(value in "[ -~]{0,60}") {
            for value in [value.clone(), format!("/dav/{value}"), format!("https://files.example.com{value}")] {
                if let Ok(path) = destination(&value) {
                    prop_assert!(path.starts_with("/dav/"), "{} {}", value, path);
                    prop_assert_eq!(destination(&path), Ok(path.clone()), "{}", value);
                }
            }
        }

        /// However it is put together: a careless server that only looks for brackets sees the same resources.
        #[test]
        fn a_condition_has_one_reading(
            value in r#"( |\(|\)|<|>|\[|\]|"|Not|W/|</dav/a>|</other/b>|<a:b>|\["e"\]|/dav/c){0,12}"#,
        ) {
            let Ok(Some(named)) = take(&[(&IF, &value)]) else { return Ok(()) };
            let mut outside = String::new();
            let mut depth = 0_i32;
            for c in value.chars() {
                depth += i32::from(c == '(');
                if depth == 0 {
                    outside.push(c);
                }
                depth -= i32::from(c == ')');
                prop_assert!((0..=1).contains(&depth), "{}", value);
            }
            prop_assert_eq!(outside.matches('<').count(), named.targets().count(), "{}", value);
            prop_assert!(!outside.contains("other"), "{}", value);
        }
    }
}
