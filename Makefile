# What README and continuous integration call. Everything else is cargo.

CARGO ?= cargo
export CARGO_TERM_COLOR ?= never
target = $(or $(CARGO_TARGET_DIR),target)

# Lints come from the compiler that builds what the tests use: a pass of their own would compile all dependencies twice.
linted = RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__ CARGO='$(CARGO)'

.PHONY: demo test check build release package gen bench fuzz soak deny prerequisites prerequisites-test prerequisites-package prerequisites-bench

# From a fresh machine to a running, configured database host. The build leaves out what takes long and is not needed here.
demo: prerequisites
	$(CARGO) build --profile demo --locked --no-default-features
	@echo "This ctl has no provider ec2 and is not optimised: 'make release' builds all of it."
	sh deploy/demo.sh $(target)/demo/ctl

# Everything that must hold, from a clean clone.
test: prerequisites-test check
	$(linted) sh tests/run.sh

check: prerequisites-test
	$(CARGO) fmt --all --check
	sh tests/borders.sh
	sh puppet/check.sh
	$(linted) $(CARGO) build --workspace --all-targets --locked

# With the same features as the tests, so that these find the binaries as they are.
build:
	$(linted) $(CARGO) build --workspace --locked

# agent, recorder and ctl with everything in them, optimised, in target/release.
release: prerequisites
	$(CARGO) build --release --locked

# agent and ctl as .deb and .rpm, in target/packages.
package: prerequisites-package
	$(CARGO) build --release --locked
	sh deploy/packages/build.sh $(target)/release $(target)/packages

# Generated code is committed; this rewrites it from proto/magpie/v1 and agent/recorder/bpf.
gen:
	sh agent/recorder/bpf/build.sh
	MAGPIE_REGENERATE=1 $(CARGO) test -p proto --locked --test generated

# Measures against peers in the same run; rewrites tests/bench/RESULTS.md.
bench: prerequisites-bench
	$(CARGO) build --release --locked --workspace --bins
	CARGO='$(CARGO)' sh tests/bench/run.sh

# Every parser of foreign bytes, FUZZ_SECONDS (20) each, with coverage from the toolchain's own flags.
fuzz: prerequisites
	CARGO="$(CARGO)" sh tests/fuzz/run.sh

# What takes too long for every time: a controller killed at every step, power cuts and kills, again and again.
soak: prerequisites-test build
	$(linted) $(CARGO) test --workspace --locked --test ec2 --test identity --test outage -- --ignored --nocapture

# Licences, sources and bans of all dependencies; advisories where their database can be reached.
deny:
	command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked
	cargo-deny --locked check bans licenses sources

# For using Magpie; for checking and testing it, which needs Puppet and its packaged modules here; for measuring it; and
# for packing it.
prerequisites:
	sh deploy/prerequisites.sh

prerequisites-test: prerequisites
	sh deploy/prerequisites.sh test

prerequisites-bench: prerequisites
	sh deploy/prerequisites.sh bench

prerequisites-package: prerequisites
	sh deploy/prerequisites.sh package
