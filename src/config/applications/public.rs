//! `pass_through` and `anonymous`: what needs no sign-in.

use crate::config::reader::Section;
use crate::model::application::public::Paths;
use crate::model::application::public::Public;

/// Reads both keys; `prefix` is the application's.
pub(super) fn read(root: &Section<'_>, prefix: Option<&str>) -> Public {
    let pass_through = root.flag("pass_through", false);
    let anonymous = paths(root, "anonymous", prefix);
    if pass_through && !anonymous.is_empty() {
        root.mistake(
            "anonymous",
            "means nothing with pass_through = true, where all paths are; remove one of the two",
        );
    }
    Public {
        pass_through,
        anonymous,
    }
}

/// A list of published paths.
pub(super) fn paths(section: &Section<'_>, key: &'static str, prefix: Option<&str>) -> Paths {
    const WANTED: &str = "a published path such as \"/health\" or \"/public/\"";
    let paths: Vec<String> = section.list(key, WANTED);
    for path in &paths {
        // SECURITY: compared byte by byte with the normalized path; what never occurs there is a mistake,
        // and the root would open everything without saying so.
        let plain = path.starts_with('/')
            && !path.contains("//")
            && !path.contains(['%', ';', '?', '#', '\\', '*'])
            && path.bytes().all(|byte| byte.is_ascii_graphic())
            && !path.split('/').any(|part| matches!(part, "." | ".."));
        let below = prefix.is_none_or(|prefix| path.starts_with(prefix) && path != prefix);
        if !plain || !below {
            section.mistake(
                key,
                &format!(
                    "\"{path}\" is not {WANTED}: plain, as visitors see it, below {}",
                    prefix.unwrap_or("the published URL")
                ),
            );
        }
    }
    Paths::new(paths)
}
