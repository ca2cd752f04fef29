//! What the audit file tells of a person: the last events, oldest first.
//!
//! In: the gateway's own file of JSON lines (`log.file`). Out: the few lines that name the person. Only the file as it is now is read;
//! what a log rotation took away is not known here.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

/// A line longer than this is nobody's event.
const LONGEST_LINE: u64 = 64 * 1024;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, as the line says it.
    pub time: String,
    /// What happened.
    pub event: String,
    /// The line's other fields.
    pub detail: String,
    /// How often it happened in a row: somebody who is refused tries again.
    pub times: u32,
}

/// The last `most` audit events in `path` about `person` (`tid/oid`).
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path, person: &str, most: usize) -> io::Result<Vec<Event>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut events = VecDeque::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut file)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(events.into());
        }
        let Some(event) = event(&line, person) else {
            continue;
        };
        if let Some(last) = events.back_mut()
            && same_denial(last, &event)
        {
            let times = last.times.saturating_add(1);
            *last = Event { times, ..event };
        } else {
            if events.len() == most {
                events.pop_front();
            }
            events.push_back(event);
        }
    }
}

fn same_denial(one: &Event, other: &Event) -> bool {
    let why = |event: &Event| {
        let why = event
            .detail
            .split(' ')
            .find(|part| part.starts_with("why="));
        why.map(String::from)
    };
    one.event == "denial" && other.event == "denial" && why(one) == why(other)
}

fn event(line: &[u8], person: &str) -> Option<Event> {
    // Access lines by far outnumber events: a look at the bytes is cheaper than reading JSON.
    let text = std::str::from_utf8(line).ok()?;
    if !text.contains("\"audit\"") || !text.contains(person) {
        return None;
    }
    let Value::Object(mut fields) = serde_json::from_str(text).ok()? else {
        return None;
    };
    let mut take = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let of = take("person");
    if take("target") != "audit" || !of.split(", ").any(|one| one == person) {
        return None;
    }
    let (time, event) = (take("timestamp"), take("event"));
    drop(take("level"));
    let detail: Vec<String> = fields
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => format!("{name}={value}"),
        })
        .collect();
    Some(Event {
        time,
        event,
        detail: detail.join(" "),
        times: 1,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_audit_lines_of_the_person_are_told_and_only_the_last() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let line = |n: u32, target: &str, person: &str| {
            format!(
                "{{\"timestamp\":\"t{n}\",\"level\":\"INFO\",\"event\":\"e{n}\",\"person\":\"{person}\",\"sam\":\"kg\",\"target\":\"{target}\"}}\n"
            )
        };
        for n in 0..5 {
            file.write_all(line(n, "audit", "t/o").as_bytes()).unwrap();
        }
        file.write_all(line(8, "access", "t/o").as_bytes()).unwrap();
        file.write_all(line(9, "audit", "t/other").as_bytes())
            .unwrap();
        file.write_all(b"\xff\xfe no text \"audit\" t/o\n{\"audit\" t/o\n")
            .unwrap();
        let events = read(file.path(), "t/o", 2).unwrap();
        let names: Vec<_> = events.iter().map(|one| one.event.as_str()).collect();
        assert_eq!(names, ["e3", "e4"]);
        assert_eq!(events[0].detail, "sam=kg");
        assert_eq!(events[0].time, "t3");
    }

    #[test]
    fn refusals_in_a_row_do_not_push_the_rest_out() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut write = |event: &str, why: &str| {
            writeln!(
                file,
                "{{\"event\":\"{event}\",\"person\":\"p\",\"why\":\"{why}\",\"target\":\"audit\"}}"
            )
            .unwrap();
        };
        write("account-made", "");
        for why in ["a", "a", "a", "b"] {
            write("denial", why);
        }
        let events = read(file.path(), "p", 3).unwrap();
        let times: Vec<_> = events.iter().map(|one| one.times).collect();
        assert_eq!(times, [1, 3, 1]);
    }
}
