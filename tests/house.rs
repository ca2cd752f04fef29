//! The plan of the house, kept true: a room imports only rooms to its left.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::PathBuf;

const ROOMS: [&str; 25] = [
    "model",
    "telemetry",
    "config",
    "store",
    "oidc",
    "graph",
    "ldap",
    "kerberos",
    "listener",
    "pages",
    "route",
    "authn",
    "authz",
    "mapping",
    "lifecycle",
    "sync",
    "sso",
    "forward",
    "rewrite",
    "pipeline",
    "acme",
    "assembly",
    "doctor",
    "app",
    "cli",
];
const LONGEST_FILE: usize = 800;

#[test]
fn rooms_import_only_to_the_left() {
    let faults: Vec<String> = (0..ROOMS.len())
        .flat_map(|floor| {
            sources(ROOMS[floor])
                .into_iter()
                .map(move |file| (floor, file))
        })
        .flat_map(|(floor, (file, text))| imports(&text, &file, &ROOMS[..=floor]))
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_module_has_a_place_in_the_order() {
    let lost: Vec<String> = fs::read_dir("src")
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| !["main", "lib"].contains(&name.as_str()) && !ROOMS.contains(&name.as_str()))
        .collect();
    assert!(lost.is_empty(), "give these a place in ROOMS: {lost:?}");
}

#[test]
fn no_file_is_too_long_to_read() {
    let long: Vec<String> = ROOMS
        .iter()
        .flat_map(|room| sources(room))
        .filter(|(_, text)| text.lines().count() > LONGEST_FILE)
        .map(|(file, _)| file)
        .collect();
    assert!(long.is_empty(), "split these: {long:?}");
}

/// The table of attacks in SECURITY.md names tests; a renamed or lost one is noticed here.
#[test]
fn attacks_are_refused_by_tests_that_exist() {
    let text = fs::read_to_string("SECURITY.md").unwrap();
    let (_, table) = text.split_once("| Attack |").unwrap();
    let rows = table
        .lines()
        .take_while(|line| line.starts_with('|') || line.starts_with(" Ref"));
    let named: Vec<&str> = rows
        .flat_map(|row| row.split('`').skip(1).step_by(2))
        .filter(|name| name.contains("::"))
        .collect();
    assert!(named.len() > 40, "the table is gone: {named:?}");
    let lost: Vec<&str> = named
        .into_iter()
        .filter(|name| {
            let (file, test) = name.split_once("::").unwrap();
            let (path, wanted) = match file {
                "fuzz" => (
                    format!("tests/fuzz/targets/{test}.rs"),
                    "fuzz_target!(".into(),
                ),
                _ if file.contains('/') => (file.to_owned(), format!("fn {test}(")),
                _ => (format!("tests/promises/{file}.rs"), format!("fn {test}(")),
            };
            !fs::read_to_string(path).is_ok_and(|text| text.contains(&wanted))
        })
        .collect();
    assert!(
        lost.is_empty(),
        "SECURITY.md names tests that are not there: {lost:?}"
    );
}

/// Every target is built and run by `make test`, and none is empty.
#[test]
fn every_fuzz_target_is_run() {
    let manifest = fs::read_to_string("tests/fuzz/Cargo.toml").unwrap();
    for entry in fs::read_dir("tests/fuzz/targets").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("path = \"targets/{name}\"");
        assert!(
            manifest.contains(&path),
            "tests/fuzz/Cargo.toml lacks {name}"
        );
    }
}

/// Every import in `text` that leaves the rooms in `allowed`.
///
/// `crate::{a, b}` counts as a fault: one room per line keeps the arrows visible.
fn imports(text: &str, file: &str, allowed: &[&str]) -> Vec<String> {
    text.lines()
        .enumerate()
        .flat_map(|(n, line)| {
            let code = line.split("//").next().unwrap_or_default();
            let named = code.split("crate::").skip(1).map(first_name);
            let climbed = code
                .split("super::")
                .skip(1)
                .map(first_name)
                .filter(|x| ROOMS.contains(x));
            named.chain(climbed).map(move |room| (n + 1, room))
        })
        .filter(|(_, room)| !allowed.contains(room))
        .map(|(n, room)| format!("{file}:{n}: may not import crate::{room}"))
        .collect()
}

fn first_name(path: &str) -> &str {
    path.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .unwrap()
}

/// The room's file `src/room.rs` and everything under `src/room/`.
fn sources(room: &str) -> Vec<(String, String)> {
    let mut queue = vec![
        PathBuf::from(format!("src/{room}.rs")),
        PathBuf::from(format!("src/{room}")),
    ];
    let mut found = Vec::new();
    while let Some(path) = queue.pop() {
        if let Ok(entries) = fs::read_dir(&path) {
            queue.extend(entries.map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push((path.display().to_string(), text));
        }
    }
    found
}
