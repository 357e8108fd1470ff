//! What `ctl diagnose` says, compared with the truth.

use std::{fmt, path::Path, process::Command};

use serde_json::Value;
use tests::binary;

use crate::truth::Truth;

/// The verdicts on a record, the first one first; none if nothing is wrong.
pub(crate) fn diagnose(directory: &Path) -> Vec<Value> {
    let output = Command::new(binary("ctl"))
        .args(["--output", "json", "diagnose", "--since", "start", "--from-dir"])
        .arg(directory)
        .output()
        .expect("ctl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let objects =
        text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object on each line"));
    objects.filter(|object| object["type"] == "verdict").collect()
}

/// One comparison.
#[derive(Debug)]
pub(crate) struct Outcome {
    script: &'static str,
    expected: String,
    said: String,
    right: bool,
}

impl Outcome {
    pub(crate) fn of(truth: &Truth, name: &str, verdicts: &[Value]) -> Self {
        let unit = format!("{}.service", truth.unit.replace("NAME", name));
        let expected = match truth.classes {
            [] => "nothing".to_owned(),
            classes => format!("{} by {unit}", classes.join(" or ")),
        };
        let said = verdicts.iter().map(|verdict| {
            let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
            format!(
                "{} by {}: {}",
                text(&verdict["class"]),
                culprit(verdict).unwrap_or_else(|| "nobody".to_owned()),
                text(&verdict["sentence"])
            )
        });
        let is_right = |verdict: &Value| {
            truth.classes.iter().any(|class| verdict["class"] == **class)
                && culprit(verdict) == Some(unit.clone())
        };
        let right = match truth.classes {
            [] => verdicts.is_empty(),
            _ => verdicts.first().is_some_and(is_right),
        };
        Self { script: truth.script, expected, said: said.collect::<Vec<_>>().join("\n      "), right }
    }

    pub(crate) fn is_right(&self) -> bool {
        self.right
    }
}

/// The unit that a verdict names: of its process or processes, or its own limit.
fn culprit(verdict: &Value) -> Option<String> {
    let cause = &verdict["cause"];
    let named = ["process", "processes"].into_iter().find_map(|key| cause[key]["unit"].as_str());
    let scope = verdict["scope"].as_str().and_then(|path| path.rsplit('/').next());
    let alone = cause["unit"].as_str();
    // A process that no sample saw has no unit, but its name.
    let unseen = || cause["name"].as_str().map(|name| format!("{name}.service"));
    named.or(alone).or(scope).map(str::to_owned).or_else(unseen)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.right { "right" } else { "WRONG" };
        write!(f, "{mark} {}: expected {}, said\n      {}", self.script, self.expected, self.said)
    }
}
