# Coretex: the few things one does with it. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TOOLS := target/tools
BUF := $(TOOLS)/node_modules/.bin/buf
BUF_VERSION := 1.75.0
SEEDS ?= 2000
EVIDENCE := $(CURDIR)/target/evidence

.PHONY: help demo test check fmt lint unit sim model e2e bench docs tools clean soak

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s $$'\t'

demo: ## build, start a server with the embedded store and real workers, run a real load, check every result
	$(CARGO) build --release --bin coretex
	./target/release/coretex demo $(DIR)

test: ## everything: checks, unit and property tests, simulation, models, crash and end-to-end suites
	@rm -rf $(EVIDENCE) && mkdir -p $(EVIDENCE)
	$(MAKE) check
	$(MAKE) sim
	$(MAKE) model
	$(MAKE) e2e
	$(CARGO) run -q -p xtask -- evidence $(EVIDENCE)

check: tools ## format, lints, house rules, contract lint, unit tests; no services
	$(MAKE) fmt lint unit

fmt:
	$(CARGO) fmt --all -- --check

lint: tools
	$(BUF) lint
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) run -q --locked -p xtask -- codegen --check
	$(CARGO) run -q --locked -p xtask -- docs --check
	$(CARGO) run -q --locked -p xtask -- tidy

unit: ## unit, property, conformance and store crash tests
	CORETEX_EVIDENCE=$(EVIDENCE) $(CARGO) test --workspace --locked --exclude coretex-e2e --exclude coretex-simulation --exclude coretex-model

sim: ## the simulator on $(SEEDS) seeds, then every planted mutant
	@mkdir -p $(EVIDENCE)
	$(CARGO) run --locked --profile sim -p coretex-simulation -- --seeds $(SEEDS) | tee $(EVIDENCE)/simulation.txt
	$(CARGO) run --locked --profile sim -p coretex-simulation --features mutants -- --mutants | tee $(EVIDENCE)/mutants.txt

model: ## exhaust the lease and ownership model
	@mkdir -p $(EVIDENCE)
	$(CARGO) test --locked --profile sim -p coretex-model --test exhaust -- --nocapture | tee $(EVIDENCE)/model.txt

e2e: tools ## the real binary: protocol conformance, kills, foreign clients, examples, demo
	@mkdir -p $(EVIDENCE)
	$(CARGO) build --locked --bin coretex
	$(CARGO) build --locked --workspace --bins
	CORETEX_EVIDENCE=$(EVIDENCE) BUF=$(CURDIR)/$(BUF) $(CARGO) test --locked -p coretex-e2e

bench: ## rates and latencies beside the empty path, alternating, in one run
	$(CARGO) build --release --locked --bin coretex
	$(CARGO) run -q --release -p xtask -- bench

docs: ## regenerate generated documents and code
	$(CARGO) run -q -p xtask -- codegen
	$(CARGO) run -q -p xtask -- docs

tools: $(BUF)

$(BUF):
	@mkdir -p $(TOOLS)
	npm install --silent --no-fund --no-audit --prefix $(TOOLS) @bufbuild/buf@$(BUF_VERSION)

soak: ## an hour of load with kills; not part of the tests
	$(CARGO) build --release --locked --bin coretex
	CORETEX_SOAK_SECONDS=3600 $(CARGO) test --release --locked -p coretex-e2e --test crash -- --nocapture --ignored soak

clean: ## remove everything that was built
	$(CARGO) clean
