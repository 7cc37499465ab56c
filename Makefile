# Every target sets up what it needs; stamps in .stamps/ make the second run quick.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps
SECONDS ?= 900
ALONE := tests/outages/test_overload.py
export OMP_WAIT_POLICY := PASSIVE
export HF_HUB_OFFLINE := 1

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMPS)/environment: pyproject.toml constraints.txt
	@echo "[1/2] Python environment (about 2 GB; a few minutes the first time)"
	@mkdir -p $(STAMPS)
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "Tidemill needs Python 3.11 or 3.12; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@# torch first and by its exact version: a range may pick a build for GPUs.
	$(BIN)/pip install torch==2.13.0
	$(BIN)/pip install --constraint constraints.txt --editable '.[ml,dev]'
	@touch $@

$(STAMPS)/deploy: $(STAMPS)/environment
	@echo "Checkers of compose files, images and manifests (about 150 MB)"
	$(BIN)/pip install --constraint constraints.txt --editable '.[deploy]'
	@touch $@

$(STAMPS)/modelserver: $(STAMPS)/environment
	@echo "[2/2] Triton and the default weights (about 600 MB)"
	$(BIN)/tidemill setup
	@touch $@

setup: $(STAMPS)/modelserver ## Install everything: environment, Triton, weights

demo: setup ## Run the whole loop on the example handbook (JSON=FILE writes the figures)
	$(BIN)/tidemill demo $(if $(JSON),--json $(JSON)) $(DEMO_ARGS)

test: setup ## Run all tests: unit, real broker, real Triton, end to end
	@# Most tests wait for processes, so three run at a time on two cores; a process that a busy
	@# machine starved is tried once more, and the report names it. The longest come first, so that
	@# all end together. Overload, which measures a pace, and the loop get the machine alone.
	$(BIN)/pytest -n 3 --no-loadscope-reorder --reruns 1 -rR tests/integration tests/faults tests/outages tests/simulation tests/poison tests/any_order tests/ledger tests/conformance tests/upgrade tests/unit --ignore $(ALONE)
	$(BIN)/pytest $(ALONE) tests/e2e
	@echo "Next: make demo, or make check"

faults: setup ## Kill everything everywhere for SECONDS, audit, write faults.json (docs/faults.md)
	$(BIN)/python -m tests.faults --seconds $(SECONDS) --json faults.json $(if $(SEED),--seed $(SEED))

check: $(STAMPS)/environment ## Format, lint, types, import rules, contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/python proto/check.py
	$(BIN)/python docs/generate.py --check

deploy-check: $(STAMPS)/deploy ## Hold deploy/ to the code and to its tools' rules; no engine, no cluster
	$(BIN)/yamllint --strict -c deploy/.yamllint deploy
	$(BIN)/hadolint deploy/Dockerfile deploy/triton/gpu/Dockerfile
	$(BIN)/pytest tests/deploy

fix: $(STAMPS)/environment ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(STAMPS)/environment ## Generate tidemill/api from proto/
	$(BIN)/buf lint
	$(BIN)/python proto/generate.py

release-contracts: $(STAMPS)/environment ## At a release: hold later contracts to those of now
	$(BIN)/python docs/generate.py
	$(BIN)/python proto/check.py --renew

up: setup ## Start the mesh
	$(BIN)/tidemill up

down: ## Stop the mesh
	$(BIN)/tidemill down

clean: ## Remove environment and stamps; state in .tidemill stays
	rm -rf $(VENV) $(STAMPS)

.PHONY: help setup demo test faults check deploy-check fix proto release-contracts up down clean
