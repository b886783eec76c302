# Two commands set up a fresh machine: `make demo` and `make test`. They need Python >= 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 2
DEMO   := demo
READY  := $(VENV)/.ready
TOOLS  := $(VENV)/.tools

.DEFAULT_GOAL := help
.PHONY: help demo test check bench soak docs clean

help:  ## show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Calibrant needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(READY): pyproject.toml | $(VENV)/bin/python
	@echo "installing Calibrant into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --editable '.[web]'
	@touch $@

$(TOOLS): pyproject.toml | $(READY)
	@echo "installing the test and check tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --editable '.[test,check]'
	@touch $@

demo: $(READY)  ## install, simulate a night, reduce it; says where the pictures are
	@rm -rf $(DEMO)
	@$(BIN)/calibrant simulate ccd-night --out $(DEMO)/raw --seed 1
	@$(BIN)/calibrant reduce $(DEMO)/raw --out $(DEMO)/night --set steps_options.cosmic_rays.enabled=false
	@echo "look at it: $(BIN)/calibrant view $(DEMO)/night    report: $(BIN)/calibrant report $(DEMO)/night"

test: $(TOOLS)  ## run the tests (under 8 minutes on 2 cores)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m 'not soak'

check: $(TOOLS)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(TOOLS)  ## ours against the alternatives, side by side in one run
	$(BIN)/python -m bench

soak: $(TOOLS)  ## the full counts of trials, kills and long runs
	CALIBRANT_SOAK=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

docs: $(TOOLS)  ## run the examples of the documentation
	$(BIN)/python -m pytest -q tests/contracts/test_docs.py

clean:  ## remove the demo and the caches, not .venv
	rm -rf $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis .bench
