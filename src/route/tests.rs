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

fn wildcard(parent: &str, prefix: &str) -> Application {
    let published_url: url::Url = format!("https://*.{parent}{prefix}").parse().unwrap();
    Application {
        host: parent.parse().unwrap(),
        prefix: prefix.to_owned(),
        pattern: Some(published_url.clone()),
        published_url,
        ..Application::sample()
    }
}

#[test]
fn a_wildcard_stands_for_one_label() {
    let apps = [
        wildcard("apps.example.com", "/"),
        wildcard("apps.example.com", "/x/"),
        app("own.apps.example.com", "/only/"),
    ];
    let routes = Routes::new(
        "login.apps.example.com".parse().unwrap(),
        apps.into_iter().map(Arc::new),
    );
    for (host, path, wanted) in [
        ("a.apps.example.com", "/y", "https://a.apps.example.com/"),
        (
            "a.apps.example.com",
            "/x/y",
            "https://a.apps.example.com/x/",
        ),
        ("b-1.apps.example.com", "/", "https://b-1.apps.example.com/"),
    ] {
        let Ok(Matched::Application(found)) = routes.find(host, &target(path).unwrap()) else {
            panic!("{host}");
        };
        assert_eq!(found.published_url.as_str(), wanted);
        assert_eq!(found.host.as_str(), host);
        assert!(!found.is_pattern());
        let again = routes.find(host, &target(path).unwrap());
        assert!(matches!(again, Ok(Matched::Application(again)) if Arc::ptr_eq(&again, &found)));
    }
    for (host, path, wanted) in [
        ("own.apps.example.com", "/only/y", "in /only/"),
        ("own.apps.example.com", "/y", "path-unknown"),
        ("login.apps.example.com", "/", "path-unknown"),
        ("a.apps.example.com", "/x", "before /x/"),
        ("a.apps.example.com", "/.kerbgate/signin", "own signin"),
        ("apps.example.com", "/", "host-unknown"),
        ("a.b.apps.example.com", "/", "host-unknown"),
        ("*.apps.example.com", "/", "host-unknown"),
        ("-a.apps.example.com", "/", "host-unknown"),
        (".apps.example.com", "/", "host-unknown"),
        ("a.example.com", "/", "host-unknown"),
    ] {
        let found = routes.find(host, &target(path).unwrap());
        assert_eq!(shown(&found), wanted, "{host} {path}");
    }
}

#[test]
fn a_slash_in_a_name_is_kept_where_it_cannot_matter() {
    let keeping = |mut app: Application| {
        app.keeps_encoded_slash = true;
        app
    };
    let mut first = keeping(app("a.example.com", "/"));
    first.public.anonymous = Paths::new(vec![String::from("/public/")]);
    let apps = [
        first,
        keeping(app("a.example.com", "/admin/")),
        app("b.example.com", "/"),
    ];
    let routes = Routes::new(
        "login.example.com".parse().unwrap(),
        apps.into_iter().map(Arc::new),
    );
    let read = |host: &str, path: &str| {
        let read = routes.with_slashes(host, &path.parse().unwrap());
        read.map(|target| target.as_str().to_owned()).ok()
    };
    for path in ["/queues/%2F/x", "/admin/a%2fb?c"] {
        assert_eq!(read("a.example.com", path).as_deref(), Some(path));
    }
    for (host, path) in [
        ("b.example.com", "/a%2fb"),
        ("c.example.com", "/a%2fb"),
        // To some backend these are the other application, an open path, or ours.
        ("a.example.com", "/admin%2Fx"),
        ("a.example.com", "/%61dmin%2fx"),
        ("a.example.com", "/public%2fx"),
        ("a.example.com", "/public/a%2fb"),
        ("a.example.com", "/%2fpublic/x"),
        ("a.example.com", "/.kerbgate%2fsignin"),
        ("a.example.com", "/.kerbgate/sign%2fin"),
        ("a.example.com", "/x%2f..%2fadmin/"),
    ] {
        assert_eq!(read(host, path), None, "{host} {path}");
    }
}

#[test]
fn nobody_enters_without_a_person_unless_it_was_said() {
    let mut app = app("a.example.com", "/");
    let open = |app: &Application, path: &str| {
        let head = http::Request::get(path).body(()).unwrap().into_parts().0;
        let target = target(path).unwrap();
        matches!(
            entrance(app, &head, &target, None, true),
            Entrance::Anonymous(_)
        )
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
