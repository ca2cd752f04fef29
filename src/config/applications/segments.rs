//! `[[segments]]`: further addresses of one application, each with backends of its own.
//!
//! Each becomes an [`Application`] with the id, the policy and the limits of the file: people are admitted
//! to the application, and where they asked for it decides only who answers. Nothing is published that
//! has no address here (elsewhere, an application without segments is open under a wildcard).

use crate::config::applications::backends;
use crate::config::applications::is_pattern;
use crate::config::applications::public;
use crate::config::applications::published_url;
use crate::config::applications::spns;
use crate::config::reader::Hosts;
use crate::config::reader::Section;
use crate::model::application::Application;
use crate::model::application::Sso;
use crate::model::application::public::Public;

/// What one segment says.
pub(super) struct Segments<'a> {
    sections: Vec<Section<'a>>,
    template: Option<String>,
}

impl<'a> Segments<'a> {
    /// Takes them out of an application's file.
    pub(super) fn take(root: &Section<'a>) -> Self {
        Self {
            sections: root.sections("segments"),
            template: root.section("sso").section("kerberos").text("spn"),
        }
    }

    /// `first`, and what the segments make of it.
    pub(super) fn publish(self, first: Application, hosts: &Hosts) -> Vec<Application> {
        let template = self.template.unwrap_or_default();
        let more: Vec<_> = self
            .sections
            .iter()
            .filter_map(|section| segment(section, &first, &template, hosts))
            .collect();
        std::iter::once(first).chain(more).collect()
    }
}

fn segment(
    section: &Section<'_>,
    first: &Application,
    template: &str,
    hosts: &Hosts,
) -> Option<Application> {
    let published = published_url(section);
    let backends = backends(section, hosts);
    let prefix = published.as_ref().map(|(_, _, prefix)| prefix.as_str());
    // SECURITY: a path that is open at one address says nothing about the same path at another.
    let anonymous = public::paths(section, "anonymous", prefix);
    let own = section.text("spn");
    let sso = match &first.sso {
        Sso::Kerberos(kerberos) => {
            let mut kerberos = kerberos.clone();
            let template = own.as_deref().unwrap_or(template);
            kerberos.spns = spns(section, template, &backends)?;
            Sso::Kerberos(kerberos)
        }
        other @ (Sso::Headers(_) | Sso::None) => {
            if own.is_some() {
                section.mistake("spn", "means nothing without [sso.kerberos]; remove it");
            }
            other.clone()
        }
    };
    section.finish();
    let (published_url, host, prefix) = published?;
    Some(Application {
        host,
        prefix,
        pattern: is_pattern(&published_url).then(|| published_url.clone()),
        published_url,
        backends,
        sso,
        public: Public {
            pass_through: first.public.pass_through,
            anonymous,
        },
        ..first.clone()
    })
}
