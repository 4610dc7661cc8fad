# `make train` and `make test` need Python 3.11 or 3.12 and set up all else in .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
export PYTHONUNBUFFERED := 1

venv := .venv
python := $(venv)/bin/python
# The first that runs and is of the right version: a version manager's stand-in may exist and not run.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

.PHONY: setup
setup: $(venv)/.ready ## the virtual environment, at .venv
$(venv)/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or 3.12 with venv was found; install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(venv)
	$(python) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,dev]'
	@touch $@

.PHONY: train
train: setup ## train on this machine, in one process: make train ARGS="--epochs=2"
	@$(python) -m trainer $(ARGS)

.PHONY: test
test: setup ## all tests that need no cluster; those on real object stores where Go is there to build them
	@command -v go >/dev/null || echo "make: Go is not installed, so the tests on real object stores are left out" >&2
	$(python) -m pytest --numprocesses=2 --dist=loadfile -m "not chart and not e2e and not soak$$(command -v go >/dev/null || echo ' and not servers')" $(ARGS)

.PHONY: soak
soak: local-soak e2e-soak ## long runs with failures, on this machine and then on a cluster: both of these

.PHONY: local-soak
local-soak: setup ## long runs with random failures that need no cluster (30 min)
	$(python) -m pytest -m 'soak and not e2e' $(ARGS)

.PHONY: check
check: setup ## formatting, lint, types, import layers
	$(venv)/bin/ruff format --check .
	$(venv)/bin/ruff check .
	$(venv)/bin/mypy
	$(venv)/bin/lint-imports

.PHONY: bench
bench: setup ## speed, as ratios; make bench TORCH=python compares with PyTorch too
	@TORCH=$(TORCH) $(python) -m bench $(ARGS)

.PHONY: format
format: setup ## format the code
	$(venv)/bin/ruff format .
	$(venv)/bin/ruff check --fix .

.PHONY: docs
docs: setup ## write the documentation's tables of flags, exit codes and chart values
	$(python) -m tools.reference_tables

.PHONY: clean
clean: ## remove what was built
	rm -rf $(venv) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: test-chart
test-chart: setup ## the chart with Helm 3 and 4, against Kubernetes 1.33 to 1.37; builds what it needs (Go)
	bin=$$(tests/tools/build helm helm3 kubeconform kubectl) && PATH=$$bin:$$PATH $(python) -m pytest -m chart $(ARGS)

.PHONY: manifests
manifests: setup ## what is made from the chart: k8s/, the flags in its schema, its golden file
	bin=$$(tests/tools/build helm) && PATH=$$bin:$$PATH $(python) -m tools.manifests

.PHONY: schemas
schemas: setup ## tests/schemas, from the Kubernetes versions that the chart is checked against (Go)
	$(python) -m tools.kubernetes_schemas v1.33.13 v1.34.4 v1.35.4 v1.36.3 v1.37.2

.PHONY: e2e
e2e: setup ## the chart on a real Kubernetes of two nodes (root, Go); KUBECONFIG=... IMAGE=... tests on another
	tests/e2e/run -m 'e2e and not soak' --numprocesses=2 $(ARGS)

.PHONY: e2e-smoke
e2e-smoke: setup ## the shortest of those tests
	tests/e2e/run -m smoke $(ARGS)

.PHONY: e2e-soak
e2e-soak: setup ## five losses of a pod in a row, exact and elastic (14 min)
	tests/e2e/run -m 'e2e and soak' $(ARGS)

.PHONY: image
image: setup ## the image, from the Dockerfile as for the tests (buildah, root): make image FILE=image.tar
	tests/e2e/image $(or $(FILE),image.tar)
