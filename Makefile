# The tasks of this repository; `make help` lists them. They need make and Python 3.11 or newer, nothing else.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check bench browser

VENV := .venv
BIN := $(VENV)/bin

# Threads that spin while they wait slow two processes on two cores many times over.
export OMP_WAIT_POLICY := passive
# The game engine lives in an environment of its own, so that its old pins never reach this one.
export GENIE_LITE_HOME ?= $(HOME)/.cache/genie_lite

# The first interpreter that is new enough and can make environments; 3.11 is what the constraints were tested on.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3 python; do \
	"$$each" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$each"; break; }; done)

ENVIRONMENT := $(VENV)/.installed
ENGINE := $(GENIE_LITE_HOME)/procgen/engine.json

help: ## list the tasks
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 14

setup: $(ENVIRONMENT) $(ENGINE) ## make the environment in .venv and the game engine's in ~/.cache/genie_lite

demo: setup ## record a game, train everything, write the report (about 17 minutes on 2 CPU cores)
	$(BIN)/genie-lite run recipes/maze/demo.yaml

test: setup browser ## all tests (9 minutes on 2 CPU cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 2

browser: # for the tests of the page: any Chromium will do, named by CHROMIUM if it is called otherwise
	@command -v "$${CHROMIUM:-chromium}" >/dev/null \
	|| { command -v apt-get >/dev/null || { echo "no Chromium found; install it, or name one: make test CHROMIUM=/path" >&2; exit 2; }; \
	sudo=$$(test "$$(id -u)" = 0 || echo sudo); $$sudo apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends chromium; }

check: $(ENVIRONMENT) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

bench: $(ENVIRONMENT) ## what a step, a frame and growth cost, one JSON line per row (20 minutes; docs/benchmarks.md has more)
	$(BIN)/python benchmarks/recipe_cost.py recipes/maze/demo.yaml
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/step.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/limit.py --shape 2x8
	env -u OMP_WAIT_POLICY $(BIN)/python benchmarks/generate.py
	env -u OMP_WAIT_POLICY $(BIN)/python benchmarks/growth.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/loader.py

$(ENVIRONMENT): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer with venv found; install python3.11 and python3.11-venv, or name one: make setup PYTHON=..." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(ENGINE): genie_lite/envs/procgen-constraints.txt | $(ENVIRONMENT)
	$(BIN)/python -m genie_lite.envs.setup
	@touch $@
