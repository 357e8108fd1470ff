# Targets for people and continuous integration. Everything else is cargo.

CARGO ?= cargo
export CARGO_TERM_COLOR ?= never
target = $(or $(CARGO_TARGET_DIR),target)

# Clippy is the compiler of the tests' build: a separate lint pass would compile all dependencies twice.
linted = RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__

.PHONY: demo test check build release package gen bench fuzz soak deny prerequisites prerequisites-test prerequisites-package prerequisites-bench

# From a fresh machine to a running, configured database host. The build leaves out slow parts that the demo does not need.
demo:
	CARGO='$(CARGO)' sh deploy/demo.sh $(target)

# All checks and tests, from a clean clone.
test: prerequisites-test check
	$(linted) $(CARGO) test --workspace --locked --no-fail-fast --lib --bins --tests

check: prerequisites-test
	$(CARGO) fmt --all --check
	sh tests/borders.sh
	sh puppet/check.sh
	$(linted) $(CARGO) build --workspace --all-targets --locked

# With the same features as the tests, so that the tests need not rebuild the binaries.
build:
	$(linted) $(CARGO) build --workspace --locked

# agent, recorder and ctl, complete and optimised, in target/release.
release: prerequisites
	$(CARGO) build --release --locked

# agent and ctl as .deb and .rpm, in target/packages.
package: prerequisites-package
	$(CARGO) build --release --locked
	sh deploy/packages/build.sh $(target)/release $(target)/packages

# Rewrites the committed generated code from proto/magpie/v1 and agent/recorder/bpf.
gen:
	sh agent/recorder/bpf/build.sh
	MAGPIE_REGENERATE=1 $(CARGO) test -p proto --locked --test generated

# Benchmarks Magpie and its peers in the same run; rewrites tests/bench/RESULTS.md.
bench: prerequisites-bench
	$(CARGO) build --release --locked --workspace --bins
	CARGO='$(CARGO)' sh tests/bench/run.sh

# Fuzzes every parser of untrusted bytes, FUZZ_SECONDS (20) each, with coverage from the toolchain's own flags.
fuzz: prerequisites
	CARGO="$(CARGO)" sh tests/fuzz/run.sh

# Tests that are too slow for every change: a controller killed at every step, repeated power cuts and kills.
soak: prerequisites-test build
	$(linted) $(CARGO) test --workspace --locked --test ec2 --test identity --test incidents --test outage -- --ignored --nocapture

# Checks licences, sources and bans of all dependencies.
deny:
	command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked
	cargo-deny --locked check bans licenses sources

# Install what is needed to use Magpie; to check and test it (Puppet and packaged modules, on this machine); to benchmark it;
# and to package it.
prerequisites:
	sh deploy/prerequisites.sh

prerequisites-test: prerequisites
	sh deploy/prerequisites.sh test

prerequisites-bench: prerequisites
	sh deploy/prerequisites.sh bench

prerequisites-package: prerequisites
	sh deploy/prerequisites.sh package
