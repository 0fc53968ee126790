# The only entry point. Everything that is fetched or built stays in this folder: .parts and target.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run quick test check compat guard bench build parts clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
UNITS ?= 1
# The version that tests/tests/it/older.rs uses.
OLDEST_ENVOY := 1.36.4
BENCHES := request store sync companion tcp traces routing interval

help: ## this text
	@echo 'unitring: make TARGET'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

run: build ## a demo on free ports: Envoy, the companion, four instances; UNITS=2 for two synced units, TCP=1 for a service of TCP connections, NATIVE=1 for the native module
	@PATH="$$PWD/.parts/bin:$$PATH" exec $(TARGET)/unitring demo --units $(UNITS) $(if $(TCP),--tcp) $(if $(NATIVE),--native)

quick: ## format and the unit tests of all crates, in under a minute once they are built; 100 simulated stories
	cargo fmt --all --check
	SEEDS=0..100 cargo test --workspace --lib

# `unitring version` and the metrics show the commit that was built, with -dirty if files had changed. One program is
# linked again when it changes.
build test: export BUILD_COMMIT = $(shell git describe --always --dirty --abbrev=12 2>/dev/null)
# Tests wait for servers more than they compute: one more at a time than there are cores shortens them by a quarter.
test: export RUST_TEST_THREADS ?= $(shell expr $$(nproc) + 1)
# An error says what failed; the frames of the runtime that would follow it hide what was printed before.
test: export RUST_LIB_BACKTRACE ?= 0
test: parts ## every test, with the real Envoy, Redis, RabbitMQ and Chromium; ONLY=links for the integration tests of one module
	@scripts/build-plugin
	@scripts/build-plugin trap
	@scripts/build-native
	@scripts/build-native trap
	@scripts/parts $(OLDEST_ENVOY) browser tcp prometheus
	@# In one build, so that programs and tests share their dependencies.
	cargo build --workspace --bins --tests
	cargo test --workspace --no-fail-fast $(if $(ONLY),--test it -- $(ONLY))

check: parts ## format, lints for both targets, docs, every configuration in envoy/, the scripts, the dependencies, and guard
	@scripts/check

compat: build ## the tests that depend on Envoy, with each version that scripts/envoy*.txt pins; VERSION=1.36.4, SUITE=retries for a part
	@scripts/build-plugin trap
	@scripts/compat

guard: parts ## fails if a choice, a change or a report takes more instructions than before; RENEW=1 writes the limits
	@scripts/guard $(if $(RENEW),renew)

# One build with the same features, so that nothing is compiled twice; without debug information.
bench: export CARGO_PROFILE_RELEASE_DEBUG = false
bench: export CARGO_PROFILE_BENCH_DEBUG = false
bench: parts ## measures and writes the tables of docs/; AREA=request, updates, scale, load, routing, protocol, store, sync, companion, tcp or traces for one
	@scripts/build-plugin
	@scripts/build-plugin nothing
	@scripts/build-plugin lookup
	@scripts/build-native
	cargo build --release --workspace --bins $(addprefix --bench ,$(BENCHES))
	@exec $(TARGET)/release/bench $(AREA)

build: parts ## the filter (target/unitring.wasm), the native module (target/libunitring.so) and the companion (target/unitring)
	@scripts/build-plugin
	@scripts/build-native
	cargo build --package unitring
	@# Without its symbols it has a third of the size. One that runs cannot be written to, but replaced.
	@strip -o $(TARGET)/unitring.new $(TARGET)/debug/unitring
	@mv $(TARGET)/unitring.new $(TARGET)/unitring

parts: ## Envoy, Redis, RabbitMQ and the tools of `make check` into .parts, if they are not there
	@scripts/parts

clean: ## removes what was built; `rm -rf .parts` removes what was fetched
	cargo clean
