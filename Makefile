# Everything a contributor runs. `demo` and `test` set up what they need, so that each works alone on
# a fresh clone with Python 3.11, 3.12 or 3.13 and make.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first of these that runs and has a version we support; `make PYTHON=/path/to/python` takes another.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	"$$python" -c '$(SUPPORTED)' 2>/dev/null && echo "$$python" && break; done)

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
READY := .venv/.ready

# What serving needs and no more: the steps of the Docker image, in an environment of its own.
SERVE := .venv-serve
SERVE_READY := $(SERVE)/.ready
SERVE_LEDGATE := $(SERVE)/.ledgate
INSTALL := PYTHON='$(PYTHON)' docker/install
SOURCES := $(shell find detector ledgate protos serving training -type f -not -path '*/__pycache__/*')

.PHONY: help setup demo demo-train test test-slow test-gpu clients peers peers-serving bench lint protos lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## the whole development environment, in .venv

# Refuses, in the name of a target, to go on without a Python that we support.
define REQUIRE_PYTHON
@'$(PYTHON)' -c '$(SUPPORTED)' 2>/dev/null || { echo "$(1): expected Python 3.11, 3.12 or 3.13, found \
'$(or $(PYTHON),none)'; install one, or name it with 'make $(1) PYTHON=...'" >&2; exit 1; }
endef

# Only what the lock names, at its hashes; then our own packages, in place.
$(READY): requirements/dev.lock pyproject.toml
	$(call REQUIRE_PYTHON,setup)
	@$(BIN)/python -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "setup: $$('$(PYTHON)' --version) in .venv"; '$(PYTHON)' -m venv --clear .venv; }
	@echo "setup: the packages of requirements/dev.lock (6 GB; a few minutes the first time)"
	@$(PIP) install --require-hashes --no-deps -r requirements/dev.lock
	@echo "setup: ledgate itself, editable"
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

# Only what the locks name; made anew when they change, so that nothing older is left in it.
$(SERVE_READY): requirements/build.lock requirements/serve.lock docker/install
	$(call REQUIRE_PYTHON,demo)
	@echo "demo: the packages of requirements/serve.lock, in $(SERVE) (800 MB; about a minute the first time)"
	@rm -rf $(SERVE)
	@$(INSTALL) tools $(SERVE)/tools
	@$(INSTALL) packages $(SERVE)/tools $(SERVE)
	@touch $@

$(SERVE_LEDGATE): $(SERVE_READY) pyproject.toml README.md LICENSE $(SOURCES)
	@echo "demo: ledgate itself, as a wheel"
	@log=$$($(INSTALL) ledgate $(SERVE)/tools $(SERVE) 2>&1) || { echo "$$log" >&2; exit 1; }
	@touch $@

demo: $(SERVE_LEDGATE) ## the ensemble that comes with ledgate: serve it, and classify cars and cats, clean and attacked
	@$(SERVE)/bin/ledgate demo --out demo

demo-train: setup ## the whole road on handwritten digits: train, attack, calibrate, serve
	@$(BIN)/ledgate demo-train --out demo-train

test: setup ## the tests
	@$(BIN)/python -m pytest

test-slow: setup ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow

test-gpu: setup ## the tests that need a CUDA device
	@$(BIN)/python -m pytest -m gpu

clients: setup ## clients of Triton and KServe, in .venv-clients, for the tests that try them
	@PYTHON=$(BIN)/python scripts/clients

peers-serving: setup ## the servers that ours is compared with, in .venv-peers-serving
	@scripts/peers-serving

peers: setup ## the attack libraries that ours are compared with, in .venv-peers
	@scripts/peers

bench: setup ## what a training step costs, side by side; a few minutes, leaves step.json
	@$(BIN)/python -m benchmarks.train_step --out step.json

lint: setup ## format, style, types, Dockerfile, and whether the generated code is current
	@echo "lint: ruff check" && $(BIN)/ruff check --quiet .
	@echo "lint: ruff format" && $(BIN)/ruff format --quiet --check .
	@echo "lint: mypy" && $(BIN)/mypy --no-error-summary && for script in figure4 reference shipped table1; do $(BIN)/mypy --no-error-summary scripts/$$script || exit 1; done
	@echo "lint: hadolint" && $(BIN)/hadolint Dockerfile
	@echo "lint: protos" && PYTHON=$(BIN)/python scripts/protos --check

protos: setup ## regenerate the code beside each .proto
	@PYTHON=$(BIN)/python scripts/protos

lock: setup ## rewrite requirements/*.lock after a change of the dependencies
	@scripts/lock

clean: ## remove caches and built files; environments and demos stay
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
