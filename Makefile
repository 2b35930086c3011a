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

.PHONY: help setup demo test test-slow test-gpu lint protos lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## the whole development environment, in .venv

# Only what the lock names, at its hashes; then our own packages, in place.
$(READY): requirements/dev.lock pyproject.toml
	@'$(PYTHON)' -c '$(SUPPORTED)' 2>/dev/null || { echo "setup: expected Python 3.11, 3.12 or 3.13, found \
	'$(or $(PYTHON),none)'; install one, or name it with 'make setup PYTHON=...'" >&2; exit 1; }
	@$(BIN)/python -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "setup: $$('$(PYTHON)' --version) in .venv"; '$(PYTHON)' -m venv --clear .venv; }
	@echo "setup: the packages of requirements/dev.lock (6 GB; a few minutes the first time)"
	@$(PIP) install --require-hashes --no-deps -r requirements/dev.lock
	@echo "setup: ledgate itself, editable"
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

demo: setup ## the whole road on handwritten digits: train, attack, calibrate, serve
	@$(BIN)/ledgate demo --out demo

test: setup ## the tests
	@$(BIN)/python -m pytest

test-slow: setup ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow

test-gpu: setup ## the tests that need a CUDA device
	@$(BIN)/python -m pytest -m gpu

lint: setup ## format, style, types, Dockerfile, and whether the generated code is current
	@echo "lint: ruff check" && $(BIN)/ruff check --quiet .
	@echo "lint: ruff format" && $(BIN)/ruff format --quiet --check .
	@echo "lint: mypy" && $(BIN)/mypy --no-error-summary
	@echo "lint: hadolint" && $(BIN)/hadolint Dockerfile
	@echo "lint: protos" && PYTHON=$(BIN)/python scripts/protos --check

protos: setup ## regenerate the code beside each .proto
	@PYTHON=$(BIN)/python scripts/protos

lock: setup ## rewrite requirements/*.lock after a change of the dependencies
	@scripts/lock

clean: ## remove caches and built files; .venv and demo stay
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
