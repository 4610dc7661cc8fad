# `make` lists the commands. All but `help` and `clean` first install what they need into .venv, with the versions that
# constraints.txt names; they need Python 3.11 or 3.12. ARGS=... goes to the program that `train`, `bench` or a test runs.
# TENSORFLOW=current: the newest TensorFlow instead, in .venv-current, by constraints-current.txt; Python 3.13 will do, too.
.DEFAULT_GOAL := help
SHELL := /bin/bash
export PYTHONUNBUFFERED := 1
# Where it is set, as in many containers, each of a thousand starts of Python would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

TENSORFLOW ?= classic
ifeq ($(TENSORFLOW),classic)
line :=
newest := 3.12
else ifeq ($(TENSORFLOW),current)
line := -current
newest := 3.13
else
$(error TENSORFLOW=$(TENSORFLOW) is no line of TensorFlow; expected classic or current)
endif
# What test-current runs: what TensorFlow does, and what reads buckets without it.
on_both := $(addprefix tests/,training/test_training.py training/test_exactness.py training/test_checkpoint.py \
	training/test_both_lines.py training/test_onnx.py output/test_event_files.py output/test_profile_page.py \
	$(addprefix output/test_mirror_training.py::test_,a_lost_disk_and_tensorboard_all_the_while \
	trains_on_data_in_a_bucket a_model_in_a_bucket_predicts_into_a_bucket) \
	$(addprefix agent/test_agent_training.py::test_,whatever_ends_training_processes_changes_nothing \
	a_local_fleet_survives_the_loss_of_its_agents an_elastic_run_trains_on_with_who_is_there))
venv := .venv$(line)
constraints := constraints$(line).txt
python := $(venv)/bin/python
# The first of these that runs and has the right version; a command of that name may be a version manager's, and not run.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= ($(subst .,$(comma),$(newest))))' 2>/dev/null && echo $$p && break; done)
comma := ,

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

.PHONY: setup
setup: $(venv)/.ready ## the virtual environment, in .venv; make setup TENSORFLOW=current
# The folder itself on Python's path ("compat"), or each start of Python would first import what finds it: 30 ms.
$(venv)/.ready: pyproject.toml $(constraints)
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 to $(newest) with venv was found; install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(venv)
	$(python) -m pip install --quiet --disable-pip-version-check --constraint $(constraints) \
		--config-settings editable_mode=compat --editable '.[cpu$(line),dev$(line)]'
	@touch $@

.PHONY: train
train: setup ## train on this machine, in one process: make train ARGS="--epochs=2"
	@$(python) -m trainer $(ARGS)

.PHONY: check
check: setup ## formatting, lint, types, the direction of imports
	$(venv)/bin/ruff format --check .
	$(venv)/bin/ruff check .
	$(venv)/bin/mypy
	$(venv)/bin/lint-imports

go := $(shell command -v go || true)
without_cluster := not chart and not e2e and not soak$(if $(go),, and not servers)
say_what_is_left_out := $(if $(go),,echo "make: Go is not installed, so the tests on real object stores are left out" >&2)
once := and not thorough
in_processes := -m pytest --numprocesses=4 --dist=loadfile --no-loadscope-reorder
.PHONY: test
test: setup ## all that needs no cluster, each thing once; without Go, none of it on real object stores
	@$(say_what_is_left_out)
	$(python) $(in_processes) -m "$(without_cluster) $(once)" $(ARGS)

.PHONY: test-thorough
test-thorough: setup ## the same things again in more of their ways
	@$(say_what_is_left_out)
	$(python) $(in_processes) -m "$(without_cluster) and thorough" $(ARGS)

.PHONY: test-current
test-current: ## training and its exactness, TensorBoard and a fleet on the newest TensorFlow
	$(MAKE) test TENSORFLOW=current once= ARGS="$(on_both) $(ARGS)"

.PHONY: test-chart
test-chart: setup ## the chart with Helm 3 and 4 against Kubernetes 1.33 to 1.37, a release (Go)
	bin=$$(tests/tools/build helm helm3 helm-docs kubeconform kubectl registry cosign syft) && PATH=$$bin:$$PATH $(python) -m pytest -m chart $(ARGS)

.PHONY: e2e
e2e: setup ## all on a Kubernetes of two nodes (root, Go), or KUBECONFIG=... IMAGE=... (26 min)
	tests/e2e/run -m 'e2e and not soak' --numprocesses=3 $(ARGS)

.PHONY: e2e-smoke
e2e-smoke: setup ## the shortest of those tests (2 min)
	tests/e2e/run -m smoke $(ARGS)

.PHONY: e2e-ipv6
e2e-ipv6: setup ## that and who reaches whom, where nodes, pods and Services have addresses of IPv6 alone (3 min)
	FAMILY=ipv6 tests/e2e/run -m 'smoke or ipv6' $(ARGS)

.PHONY: soak
soak: local-soak e2e-soak ## long runs with failures and attacks, here and then on a cluster (2 h)

.PHONY: local-soak
local-soak: setup ## random failures, then an hour of attacks (SOAK_ATTACK_SECONDS), here alone (100 min)
	$(python) -m pytest -m 'soak and not e2e' --timeout=0 $(ARGS)

.PHONY: e2e-soak
e2e-soak: setup ## five losses of a pod in a row on a cluster, exact and elastic (14 min)
	tests/e2e/run -m 'e2e and soak' --timeout=0 $(ARGS)

.PHONY: bench
bench: setup ## speed, as ratios: make bench ARGS=mirror TORCH=/path/to/python
	@TORCH=$(TORCH) $(python) -m bench $(ARGS)

.PHONY: format
format: setup ## format the code
	$(venv)/bin/ruff format .
	$(venv)/bin/ruff check --fix .

.PHONY: docs
docs: setup ## write the documentation's tables of flags, exit codes and chart values
	$(python) -m tools.reference_tables

.PHONY: requirements
requirements: setup ## write requirements/: what the images install, with checksums (asks the package index)
	$(python) -m tools.locked_requirements

.PHONY: manifests
manifests: setup ## write what is made of the chart: k8s/, its README, flags in its schema, its golden file (Go)
	bin=$$(tests/tools/build helm helm-docs) && PATH=$$bin:$$PATH $(python) -m tools.manifests

.PHONY: schemas
schemas: setup ## write tests/schemas, from the Kubernetes versions of test-chart (Go)
	$(python) -m tools.kubernetes_schemas v1.33.13 v1.34.4 v1.35.4 v1.36.3 v1.37.2

.PHONY: image
image: setup ## the image as tests build it (root, buildah): make image FILE=image.tar TENSORFLOW=current PLATFORM=linux/arm64
	TENSORFLOW=$(TENSORFLOW) tests/e2e/image $(or $(FILE),image.tar)

.PHONY: release
release: setup ## wheel, images and chart, pushed and signed: make release REGISTRY=HOST/PATH KEY=cosign.key
	bin=$$(tests/tools/build helm cosign syft) && PATH=$$bin:$$PATH $(python) -m tools.release --registry="$(REGISTRY)" \
		--key="$(KEY)" --images="$(IMAGES)" --base="$(BASE)"

.PHONY: clean
clean: ## remove .venv, caches and what was built
	rm -rf .venv .venv-current build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
