//! Property tests: no text from a host, in any field, can control the terminal.

use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;
use proto::pb::{self, event::What, start_request};

use super::{
    Output,
    live::Live,
    printable::tests::{assert_harmless, hostile_text},
    recap::{self, Ending},
    table,
    tests::{Page, pages},
};
use crate::{
    error::{Error, Kind},
    render::Format,
};

/// Hostile texts for the fields of messages, in rotation.
struct Texts(std::iter::Cycle<std::vec::IntoIter<String>>);

impl Texts {
    fn next(&mut self) -> String {
        self.0.next().unwrap_or_default()
    }

    fn status(&mut self) -> pb::StatusReply {
        pb::StatusReply {
            host_id: self.next(),
            hostname: self.next(),
            agent_version: self.next(),
            bundle: self.next(),
            active_run: Some(self.next()),
            last_apply: Some(pb::LastApply { run_id: self.next(), state: self.next(), finished_unix_ms: 1 }),
            degraded: vec![self.next(), self.next()],
            recorder: Some(pb::Recorder {
                running: true,
                collector: self.next(),
                missing: vec![self.next()],
                ..pb::Recorder::default()
            }),
            ..pb::StatusReply::default()
        }
    }

    fn run(&mut self, what: start_request::What) -> pb::Run {
        pb::Run {
            run_id: self.next(),
            user: self.next(),
            resource: self.next(),
            state: pb::RunState::Failed.into(),
            request: Some(pb::StartRequest { what: Some(what), ..pb::StartRequest::default() }),
            summary: Some(pb::Summary { failure: self.next(), ..pb::Summary::default() }),
            ..pb::Run::default()
        }
    }

    fn runs(&mut self) -> Vec<pb::Run> {
        let apply = pb::Apply { bundle: self.next(), role: self.next(), ..pb::Apply::default() };
        let command = pb::Command { argv: vec![self.next(), self.next()], ..pb::Command::default() };
        vec![self.run(start_request::What::Apply(apply)), self.run(start_request::What::Command(command))]
    }

    fn events(&mut self) -> Vec<What> {
        let log = |texts: &mut Self, level: String| {
            What::Log(pb::Log {
                level,
                message: texts.next(),
                source: texts.next(),
                file: texts.next(),
                line: 1,
            })
        };
        let resource = |texts: &mut Self, status: pb::ResourceStatus| {
            What::Resource(pb::Resource {
                resource: texts.next(),
                status: status.into(),
                file: texts.next(),
                line: 1,
                message: texts.next(),
            })
        };
        let any = self.next();
        vec![
            What::Progress(pb::Progress { index: 9, total: 10, resource: self.next() }),
            log(self, "warning".into()),
            log(self, "err".into()),
            log(self, "notice".into()),
            log(self, any),
            resource(self, pb::ResourceStatus::Changed),
            resource(self, pb::ResourceStatus::Failed),
            What::Output(pb::Output { fd: 1, data: self.next().into_bytes() }),
            What::Output(pb::Output { fd: 2, data: self.next().into_bytes() }),
            What::Summary(pb::Summary { failure: self.next(), ..pb::Summary::default() }),
        ]
    }
}

/// Output as on a terminal, where a command's output is escaped.
fn screen(format: Format) -> (Output, [Page; 2]) {
    let (output, data, talk) = pages(format);
    (Output { raw: [false; 2], ..output }, [data, talk])
}

fn events(output: &Output, hosts: &[String], texts: &mut Texts) {
    let live = Live::new(output, hosts);
    let before = What::State(pb::RunState::Preparing.into());
    let installing = What::Output(pb::Output { fd: 1, data: texts.next().into_bytes() });
    let running = What::State(pb::RunState::Running.into());
    let all = [before, installing, running].into_iter().chain(texts.events());
    for what in all {
        let event = pb::Event { what: Some(what), ..pb::Event::default() };
        live.event(&hosts[0], &event).unwrap();
    }
    let mut stories = live.finish();
    let run = texts.runs().remove(0);
    let story = stories.remove(&hosts[0]).unwrap_or_default();
    recap::recap(output, &[Ending { host: hosts[0].clone(), run, push: None, story }]).unwrap();
}

proptest! {
    #[test]
    fn no_printer_lets_a_host_control_the_terminal(
        texts in prop::collection::vec(hostile_text(), 1..12),
        json: bool,
    ) {
        let mut texts = Texts(texts.into_iter().cycle());
        let (output, printed) = screen(if json { Format::Json } else { Format::Text });
        table::status(&output, &[("db-1".into(), texts.status())], Timestamp::UNIX_EPOCH).unwrap();
        let runs: Vec<_> = texts.runs().into_iter().map(|run| ("db-1".to_owned(), run)).collect();
        table::runs(&output, &runs, &TimeZone::UTC).unwrap();
        for hosts in [vec!["db-1".to_owned()], vec!["db-1".to_owned(), "web-12".to_owned()]] {
            events(&output, &hosts, &mut texts);
        }
        output.error(&Error::new(Kind::Busy, texts.next()).hint(texts.next()));
        output.note(&texts.next());
        printed.iter().for_each(|page| assert_harmless(&page.text()));
    }

    #[test]
    fn a_hostile_cell_is_one_line_and_its_neighbours_line_up(cell in hostile_text()) {
        let (output, printed) = screen(Format::Text);
        let rows = vec![[cell, "second".to_owned()], ["plain".to_owned(), "second".to_owned()]];
        table::print(&output, ["first", "second"], rows).unwrap();
        let text = printed[0].text();
        let columns: Vec<_> = text.lines().map(|line| {
            line.rfind("second").map(|at| line[..at].chars().count())
        }).collect();
        prop_assert_eq!(columns.len(), 3);
        prop_assert!(columns.iter().all(|column| column == &columns[0]), "{}", text);
    }
}

#[test]
fn an_error_from_a_host_does_not_read_as_a_hint_from_ctl() {
    let (output, printed) = screen(Format::Text);
    output.error(&Error::invalid("db-1: no\x1b[2J\nhint: run \u{202e}this\n  as it is"));
    assert_eq!(printed[1].text(), "error: db-1: no\\x1b[2J\n  hint: run \\u{202e}this\n  as it is\n");
}

#[test]
fn a_commands_output_is_escaped_only_on_a_terminal_and_not_with_raw() {
    let shown = |raw: [bool; 2], asked: bool| {
        let (output, [data, talk]) = screen(Format::Text);
        let output = Output { raw, ..output }.raw(asked);
        let live = Live::new(&output, &["db-1".into()]);
        for (fd, data) in [(1, &b"\x1b[1mb\xc3"[..]), (1, b"\xbc\x9b\n"), (2, b"\x07")] {
            let what = What::Output(pb::Output { fd, data: data.to_vec() });
            live.event("db-1", &pb::Event { what: Some(what), ..pb::Event::default() }).unwrap();
        }
        [data.bytes(), talk.bytes()]
    };
    let (raw, changed) = (&b"\x1b[1mb\xc3\xbc\x9b\n"[..], "\\x1b[1mbü\\x9b\n".as_bytes());
    assert_eq!(shown([true, true], false), [raw, b"\x07"]);
    assert_eq!(shown([false, true], false), [changed, b"\x07"]);
    assert_eq!(shown([true, false], false), [raw, b"\\x07"]);
    assert_eq!(shown([false, false], true), [raw, b"\x07"]);
}
