# The commands of the house. Everything runs in .venv, which the first call makes from requirements.lock.
#   make demo    both main jobs on small data, real where GEODIFF_DATA is found, else synthetic
#   make test    the tests that take seconds (ARGS="-k name" picks some, WORKERS=1 runs one after the other)
#   make lint    style, types, import contracts
#   make bench   time, memory and disk
# PYTHON names another interpreter (3.11 or later), OUT another folder for the demo.

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo-output
ARGS ?=
WORKERS ?= 2
FUZZ ?= table
SECONDS_EACH ?= 300

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-from-lock

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format bench fuzz notebooks wheel lock clean

help:
	@sed -n '2,6s/^# \{0,1\}//p' Makefile

install: $(STAMP)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "geodiff needs Python 3.11 or later as $(PYTHON): try make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "$(PYTHON) has no venv module: install it (Debian: apt install python3-venv) or name another with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

demo: $(STAMP)
	$(BIN)/geodiff demo --out $(OUT)
	@echo "Results: $(abspath $(OUT))"

test: $(STAMP)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow and not gpu and not bench" $(ARGS)

test-all: $(STAMP)
	$(BIN)/python -m pytest -q -m "not bench" $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict geodiff
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m pytest -q -s -m bench tests/benchmarks $(ARGS)

# Of the readers: FUZZ=table, map, radar or nmea. Needs atheris, which is not in the lock.
fuzz: $(STAMP)
	mkdir -p .fuzz/$(FUZZ)
	$(BIN)/python tests/fuzz/fuzz_readers.py $(FUZZ) -max_total_time=$(SECONDS_EACH) -timeout=20 \
	  -rss_limit_mb=3000 -artifact_prefix=.fuzz/ .fuzz/$(FUZZ)

notebooks: $(STAMP)
	for source in notebooks/*.py; do $(BIN)/jupytext --quiet --to ipynb --execute $$source || exit 1; done

wheel: $(STAMP)
	$(BIN)/python -m build

lock: $(STAMP)
	$(BIN)/python .ci/lock.py

clean:
	rm -rf dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
