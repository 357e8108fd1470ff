//! What each incident is: its class, and who caused it.

/// One script and what it does.
#[derive(Debug)]
pub(crate) struct Truth {
    /// Name of the script.
    pub(crate) script: &'static str,
    /// Classes that are right; none: nothing is wrong.
    pub(crate) classes: &'static [&'static str],
    /// The culprit's unit without `.service`; `NAME` stands for the varied name.
    pub(crate) unit: &'static str,
    /// Smallest and largest of what varies: MiB or MiB per second, and a number of processes.
    pub(crate) size: (u64, u64),
    pub(crate) count: (u64, u64),
}

const fn incident(
    script: &'static str,
    classes: &'static [&'static str],
    unit: &'static str,
    size: (u64, u64),
    count: (u64, u64),
) -> Truth {
    Truth { script, classes, unit, size, count }
}

const fn healthy(script: &'static str) -> Truth {
    Truth { script, classes: &[], unit: "", size: (0, 0), count: (0, 0) }
}

/// All incidents.
pub(crate) const TRUTHS: &[Truth] = &[
    incident("pool", &["memory-pool"], "NAME", (14, 30), (60, 90)),
    incident("leak", &["memory-growth"], "app", (14, 30), (0, 0)),
    incident("tmpfs", &["memory-shared"], "NAME", (18, 40), (0, 0)),
    incident("unit-limit", &["memory-unit-limit"], "NAME", (4, 12), (0, 0)),
    incident("runaway", &["cpu-runaway"], "app", (0, 0), (0, 0)),
    incident("storm", &["cpu-storm"], "NAME", (0, 0), (0, 0)),
    incident("many", &["cpu-many"], "app", (0, 0), (0, 0)),
    incident("writer", &["io-writer"], "NAME", (400, 900), (0, 0)),
    incident("tasks-limit", &["tasks-limit"], "NAME", (0, 0), (24, 90)),
    incident("throttled", &["cpu-unit-limit"], "NAME", (0, 0), (0, 0)),
    incident("spike", &["memory-spike", "memory-growth"], "NAME", (0, 0), (0, 0)),
    healthy("healthy-idle"),
    healthy("healthy-busy"),
    healthy("healthy-periodic"),
    healthy("healthy-warm-up"),
    healthy("healthy-cache"),
    healthy("healthy-constant"),
];
