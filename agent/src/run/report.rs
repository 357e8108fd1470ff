//! Puppet's report, format 12 as JSON: the authoritative result of a run that applied its catalog. It lacks one thing:
//! refreshes that Puppet skips under noop, which only the log has.

use std::collections::{BTreeMap, BTreeSet};

use proto::pb::{self, ResourceStatus};
use serde::Deserialize;
use serde_json::Value;

use super::{log::is_built_in, origin::Origin};

/// The parts of the report that are used; unknown keys are ignored, missing ones are empty.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    puppet_version: String,
    #[serde(default)]
    metrics: BTreeMap<String, Value>,
    resource_statuses: BTreeMap<String, Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    file: Option<String>,
    line: Option<u32>,
    time: Option<String>,
    failed: bool,
    failed_to_restart: bool,
    changed: bool,
    skipped: bool,
    tags: Vec<String>,
    events: Vec<Event>,
}

impl Status {
    /// Whether Puppet skipped the resource because it has none of these tags. Puppet compares tags in lower case, and
    /// checks them before anything else (Puppet::Transaction#skip?, `missing_tags?`).
    fn is_untagged(&self, tags: &[String]) -> bool {
        let has = |tag: &String| self.tags.iter().any(|own| own.eq_ignore_ascii_case(tag.trim()));
        self.skipped && !tags.is_empty() && !tags.iter().any(has)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    message: Option<String>,
    status: Option<String>,
}

/// A report in Magpie's terms.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Resources that are not unchanged, in the order in which Puppet evaluated them; refreshes from the log come last.
    pub resources: Vec<pb::Resource>,
    /// Counts, version, compile time, and the first failure; a report has no exit code and no duration.
    pub summary: pb::Summary,
}

impl Report {
    /// Adds resources whose refresh Puppet skipped ([`super::log::Interpreter::refreshes`]), as pending: a refresh that
    /// Puppet makes is a change in the report. Resources that are listed already do not count again.
    pub fn with_refreshes(mut self, refreshes: &[pb::Resource]) -> Self {
        let listed: BTreeSet<&str> =
            self.resources.iter().map(|resource| resource.resource.as_str()).collect();
        let is_new = |resource: &&pb::Resource| !listed.contains(resource.resource.as_str());
        let new: Vec<_> = refreshes.iter().filter(is_new).cloned().collect();
        self.summary.pending += new.len() as u32;
        self.resources.extend(new);
        self
    }
}

/// Parses the report of a run. If `tags` is not empty, the run was limited to resources with one of these tags.
///
/// # Errors
/// If the text is not JSON or has no resources.
pub fn parse(bytes: &[u8], origin: &Origin, tags: &[String]) -> Result<Report, serde_json::Error> {
    let document: Document = serde_json::from_slice(bytes)?;
    let mut statuses: Vec<_> =
        document.resource_statuses.iter().filter(|(name, _)| !is_built_in(name)).collect();
    statuses.sort_by(|(_, a), (_, b)| a.time.cmp(&b.time));
    let total = statuses.len();
    statuses.retain(|(_, status)| !status.is_untagged(tags));
    let untagged = total - statuses.len();
    let resources: Vec<_> =
        statuses.into_iter().filter_map(|(name, status)| resource(name, status, origin)).collect();
    let count = |wanted| resources.iter().filter(|resource| resource.status() == wanted).count() as u32;
    let summary = pb::Summary {
        total: total as u32,
        changed: count(ResourceStatus::Changed),
        failed: count(ResourceStatus::Failed),
        skipped: count(ResourceStatus::Skipped),
        pending: count(ResourceStatus::Pending),
        compile_ms: seconds(&document.metrics, "config_retrieval").map_or(0, |s| (s * 1_000.0) as u64),
        failure: first_failure(&resources),
        puppet_version: document.puppet_version,
        untagged: untagged as u32,
        ..pb::Summary::default()
    };
    Ok(Report { resources, summary })
}

fn resource(name: &str, status: &Status, origin: &Origin) -> Option<pb::Resource> {
    let event = |wanted: &str| status.events.iter().find(|event| event.status.as_deref() == Some(wanted));
    let (outcome, event) = if status.failed || status.failed_to_restart {
        (ResourceStatus::Failed, event("failure"))
    } else if status.skipped {
        (ResourceStatus::Skipped, None)
    } else if let Some(pending) = event("noop") {
        (ResourceStatus::Pending, Some(pending))
    } else if status.changed {
        (ResourceStatus::Changed, event("success"))
    } else {
        return None;
    };
    let message = event.and_then(|event| event.message.as_deref()).unwrap_or_default();
    Some(pb::Resource {
        resource: name.to_owned(),
        status: outcome.into(),
        file: status.file.as_deref().map(|file| origin.shorten(file)).unwrap_or_default(),
        line: status.line.unwrap_or_default(),
        message: origin.shorten(message),
    })
}

fn first_failure(resources: &[pb::Resource]) -> String {
    let Some(first) = resources.iter().find(|resource| resource.status() == ResourceStatus::Failed) else {
        return String::new();
    };
    let place =
        if first.file.is_empty() { String::new() } else { format!(" ({}:{})", first.file, first.line) };
    let message = if first.message.is_empty() { "failed" } else { &first.message };
    format!("{}{place}: {message}", first.resource)
}

/// One value of the `time` metric; each is `[name, label, value]`.
fn seconds(metrics: &BTreeMap<String, Value>, name: &str) -> Option<f64> {
    let values = metrics.get("time")?.get("values")?.as_array()?;
    values.iter().find(|value| value[0] == name)?.get(2)?.as_f64()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::run::log::{Interpreter, Tail};

    fn report(case: &str) -> Report {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/puppet-7.23");
        let origin = Origin::new([format!("/var/lib/magpie/runs/{case}/environments/production")]);
        parse(&std::fs::read(fixtures.join(case).join("report.json")).unwrap(), &origin, &[]).unwrap()
    }

    fn counts(summary: &pb::Summary) -> [u32; 5] {
        [summary.total, summary.changed, summary.failed, summary.skipped, summary.pending]
    }

    #[test]
    fn changes_are_counted_without_puppets_own_resources() {
        let report = report("changed");
        assert_eq!(counts(&report.summary), [5, 4, 0, 0, 0]);
        assert_eq!(report.summary.compile_ms, 137);
        assert_eq!(report.summary.puppet_version, "7.23.0");
        assert_eq!(report.summary.failure, "");
    }

    #[test]
    fn failures_come_with_place_and_reason_and_what_they_kept_from_happening() {
        let report = report("failed");
        assert_eq!(counts(&report.summary), [6, 1, 3, 2, 0]);
        let failure = &report.summary.failure;
        assert!(
            failure.starts_with("Exec[migrate] (modules/profile/manifests/base.pp:6): change from"),
            "{failure}"
        );
        let of = |wanted| {
            let chosen = report.resources.iter().filter(|resource| resource.status() == wanted);
            chosen.map(|resource| resource.resource.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(of(ResourceStatus::Skipped), ["File[/tmp/fx2-after]", "Notify[done]"]);
        assert_eq!(of(ResourceStatus::Failed), ["Exec[migrate]", "Exec[restart]", "File[/proc/nope/x]"]);
    }

    /// The refreshes of a fixture's log.
    fn refreshes(case: &str) -> Vec<pb::Resource> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/puppet-7.23");
        let mut interpreter = Interpreter::new(Origin::new([]), case == "noop");
        for line in Tail::default().lines(&fixtures.join(case).join("log.jsonl")).unwrap() {
            interpreter.line(&line);
        }
        interpreter.refreshes().to_vec()
    }

    #[test]
    fn noop_finds_what_the_apply_changes_and_changes_nothing() {
        let (alone, refreshes) = (report("noop"), refreshes("noop"));
        assert_eq!(counts(&alone.summary), [5, 0, 0, 0, 3]);
        let plan = alone.with_refreshes(&refreshes);
        assert_eq!(counts(&plan.summary), [5, 0, 0, 0, 4]);
        assert_eq!(plan.summary.pending, report("changed").summary.changed);
        assert_eq!(plan.resources.last().map(|last| last.resource.as_str()), Some("Exec[reload]"));
        assert_eq!(plan.clone().with_refreshes(&refreshes), plan, "counted twice");
    }

    #[test]
    fn a_refresh_that_puppet_made_is_a_change_of_the_report_alone() {
        assert!(refreshes("changed").is_empty() && refreshes("failed").is_empty());
    }

    #[test]
    fn unknown_keys_and_missing_values_are_no_reason_to_fail() {
        let text =
            br#"{"new": 1, "resource_statuses": {"File[/x]": {"changed": true, "novel": [], "file": null}}}"#;
        let report = parse(text, &Origin::new([]), &[]).unwrap();
        assert_eq!(counts(&report.summary), [1, 1, 0, 0, 0]);
    }

    #[test]
    fn resources_without_the_tags_are_counted_but_not_listed() {
        let text = br#"{"resource_statuses": {
            "File[/a]": {"skipped": true, "tags": ["file", "class", "web"]},
            "File[/b]": {"changed": true, "tags": ["file", "class", "db"]},
            "File[/c]": {"skipped": true, "tags": ["file", "class", "db"]}}}"#;
        let report = |tags: &[&str]| {
            let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
            parse(text, &Origin::new([]), &tags).unwrap()
        };
        let (db, none) = (report(&["DB", "mail"]), report(&["nosuchtag"]));
        assert_eq!((counts(&db.summary), db.summary.untagged), ([3, 1, 0, 1, 0], 1));
        let told: Vec<&str> = db.resources.iter().map(|resource| resource.resource.as_str()).collect();
        assert_eq!(told, ["File[/b]", "File[/c]"]);
        assert_eq!((none.summary.skipped, none.summary.untagged), (0, 2));
        assert_eq!(report(&[]).summary.untagged, 0);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes, &Origin::new([]), &["web".to_owned()]);
        }
    }
}
