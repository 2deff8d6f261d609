# `make help` lists what there is. Nothing here needs more than make, bash and Python 3.11.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Arguments passed on: make demo DEMO_ARGS="--for 60s --no-open", make test TEST_ARGS="-k windows"
DEMO_ARGS ?=
TEST_ARGS ?=
# Files tested at a time: much of a test is waiting for real processes.
TEST_WORKERS ?= 2
BENCH_ARGS ?=
FAULTS_ARGS ?=
# The interpreter that .venv is made from: make demo PYTHON=python3.12
PYTHON ?=
export PYTHON

BIN := .venv/bin

.PHONY: help setup setup-test demo test check bench faults lock clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

setup: ## install what running needs (demo does it)
	@deploy/setup.sh demo

setup-test: ## install what testing needs (test does it)
	@deploy/setup.sh test

demo: setup ## a small port, live, on this machine; DEMO_ARGS="--for 60s --no-open"
	@exec $(BIN)/quayflow demo $(DEMO_ARGS)

define style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
endef

# Types and layers are tests as well (test_types, test_layers): half a minute of one core, while others wait.
# The page's tests come first, so that the last line is pytest's count.
test: setup-test ## everything: style, page, types, layers, tests; TEST_ARGS="-k windows"
	$(style)
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix web test
	@$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

check: ## style, types and layers only
	@deploy/setup.sh check
	$(style)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup ## side-by-side figures of this machine; BENCH_ARGS
	@exec $(BIN)/python -m bench $(BENCH_ARGS)

faults: setup-test ## kill, cut and corrupt, then count; ONLY=name, FAULTS_ARGS
	@exec $(BIN)/python -m faults $(FAULTS_ARGS)

lock: ## rewrite the lock files from pyproject.toml; LOCK_ARGS=--upgrade
	@deploy/lock.sh $(LOCK_ARGS)

clean: ## remove what set-up and the tools made; data folders stay
	@rm -rf .venv .setup.lock build dist api/static web/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
