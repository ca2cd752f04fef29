use proptest::prelude::*;

use super::*;
use crate::model::application::public::Paths;

fn app(host: &str, prefix: &str) -> Application {
    Application {
        host: host.parse().unwrap(),
        prefix: prefix.to_owned(),
        published_url: format!("https://{host}{prefix}").parse().unwrap(),
        ..Application::sample()
    }
}

fn target(path: &str) -> Option<Target> {
    Target::parse(&path.parse().ok()?).ok()
}

fn shown(found: &Result<Matched, Stop>) -> String {
    match found {
        Ok(Matched::Application(app)) => format!("in {}", app.prefix),
        Ok(Matched::AddSlash(prefix)) => format!("before {prefix}"),
        Ok(Matched::Own(own)) => format!("own {own}"),
        Err(Stop::Deny(denial)) => denial.code.to_string(),
        Err(other) => format!("{other:?}"),
    }
}

/// What the table has to agree with: every application is tried, the longest prefix first.
fn one_by_one(apps: &[Application], target: &Target) -> String {
    let mut apps: Vec<_> = apps.iter().collect();
    apps.sort_by_key(|app| std::cmp::Reverse(app.prefix.len()));
    for app in apps {
        match target.under(&app.prefix) {
            Some("") => return format!("before {}", app.prefix),
            Some(_) => return format!("in {}", app.prefix),
            None => {}
        }
    }
    Code::PathUnknown.to_string()
}

proptest! {
    #[test]
    fn the_table_finds_what_a_search_one_by_one_finds(
        prefixes in proptest::collection::hash_set("/((a|B|ab|a-b)/){0,3}", 0..8),
        path in "/((a|A|%61|b|a;x|a%3bx|ab|a-b|%42|c)/?){0,5}",
    ) {
        let apps: Vec<_> = prefixes.iter().map(|prefix| app("h.example.com", prefix)).collect();
        let routes = Routes::new("login.example.com".parse().unwrap(), apps.iter().cloned().map(Arc::new));
        let Some(target) = target(&path) else { return Ok(()) };
        let wanted = if apps.is_empty() { Code::HostUnknown.to_string() } else { one_by_one(&apps, &target) };
        prop_assert_eq!(shown(&routes.find("h.example.com", &target)), wanted);
    }
}

#[test]
fn hosts_are_told_apart_and_the_gateways_own_is_known() {
    let apps = [app("a.example.com", "/"), app("b.example.com", "/x/")];
    let routes = Routes::new(
        "login.example.com".parse().unwrap(),
        apps.into_iter().map(Arc::new),
    );
    for (host, path, wanted) in [
        ("a.example.com", "/y", "in /"),
        ("b.example.com", "/x/y", "in /x/"),
        ("b.example.com", "/x", "before /x/"),
        ("b.example.com", "/y", "path-unknown"),
        ("b.example.com", "/.kerbgate/signin", "own signin"),
        ("login.example.com", "/.kerbgate/signin", "own signin"),
        ("login.example.com", "/", "path-unknown"),
        ("c.example.com", "/", "host-unknown"),
        ("example.com", "/", "host-unknown"),
    ] {
        let found = routes.find(host, &target(path).unwrap());
        assert_eq!(shown(&found), wanted, "{host} {path}");
    }
}

#[test]
fn nobody_enters_without_a_person_unless_it_was_said() {
    let mut app = app("a.example.com", "/");
    let open = |app: &Application, path: &str| {
        let head = http::Request::get(path).body(()).unwrap().into_parts().0;
        let target = target(path).unwrap();
        matches!(entrance(app, &head, &target, true), Entrance::Anonymous(_))
    };
    assert!(!open(&app, "/public/x"));
    app.public.anonymous = Paths::new(vec![String::from("/public/")]);
    assert!(open(&app, "/public/x") && open(&app, "/a/../public/x"));
    for path in ["/", "/public/../admin", "/public/%2e%2e/admin", "/Public/x"] {
        assert!(!open(&app, path), "{path}");
    }
    app.public.pass_through = true;
    assert!(open(&app, "/"));
}
