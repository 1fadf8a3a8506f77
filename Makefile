# What a user and a developer do with this checkout. `make help` lists it.
#
# Variables: PYTHON (the Python that .venv is made with), the ports and STATE below, TESTS (what `make test` runs).

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?=
TESTS ?= tests
WORKERS ?= 2

# Read by examples/01-two-apps/run.py; empty: its defaults (3500, 50001, 9090, any free port, .state).
HTTP_PORT ?=
GRPC_PORT ?=
METRICS_PORT ?=
ORDERS_PORT ?=
STOCK_PORT ?=
STATE ?=
export HTTP_PORT GRPC_PORT METRICS_PORT ORDERS_PORT STOCK_PORT STATE

VENV := .venv/bin
PYTEST := $(VENV)/python -m pytest -q -n $(WORKERS)
COMPILE := uv pip compile -q --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links
LOCK := $(COMPILE) pyproject.toml --extra h2c --extra redis --extra postgresql --extra tracing

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: environment-run ## start a shared instance with the two apps of example 01; Ctrl-C ends it
	@exec $(VENV)/python scripts/foreground.py $(VENV)/python examples/01-two-apps/run.py

.PHONY: test
test: environment-dev ## run the fast tests
	@$(PYTEST) -m "not slow and not e2e" $(TESTS)

.PHONY: test-all
test-all: environment-dev ## run every test
	@$(PYTEST) -m "not e2e" $(TESTS)

.PHONY: image
image: environment-dev ## build the container image, build/image/image.tar, without a container engine; NAME=registry/name:tag
	@$(VENV)/python scripts/build_image.py $(if $(NAME),--name $(NAME))

.PHONY: e2e
e2e: environment-dev kubernetes-kit ## run the tests on two real nodes with the real image; needs root
	@$(VENV)/python -m pytest -q -m e2e tests/kubernetes

.PHONY: kubernetes-kit
kubernetes-kit: environment-dev ## fetch and build the programs of the Kubernetes tests: the first time seven minutes
	@$(VENV)/python tests/kubernetes/kit/programs.py

.PHONY: lint lint-style lint-format lint-types lint-layers lint-protos
lint: lint-style lint-format lint-types lint-layers lint-protos ## check style, types, import layers and generated files
lint-style: environment-dev
	@$(VENV)/ruff check .
lint-format: environment-dev
	@$(VENV)/ruff format --check .
lint-types: environment-dev
	@$(VENV)/basedpyright
lint-layers: environment-dev
	@$(VENV)/lint-imports
lint-protos: environment-dev
	@$(VENV)/python scripts/generate_protos.py --check

.PHONY: format
format: environment-dev ## format the code and mend what can be mended
	@$(VENV)/ruff format .
	@$(VENV)/ruff check --fix .

.PHONY: bench
bench: environment-dev ## measure speed and memory; BENCH="NAME … --json FILE" chooses, DAPRD=PATH compares
	@$(VENV)/python -m benchmarks $(BENCH)

.PHONY: docs docs-reference docs-serve
docs: docs-reference ## write the reference pages from the code and build the site into site/
	@NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build -q --strict
docs-reference: environment-dev
	@$(VENV)/python scripts/generate_docs.py
docs-serve: docs-reference
	@NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs serve

.PHONY: lock
lock: ## compile requirements/ again from pyproject.toml; needs uv (pipx install uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pipx install uv, or pip install uv" >&2; exit 1; }
	$(LOCK) --group build -o requirements/run.txt
	$(LOCK) -c requirements/run.txt -o requirements/image.txt
	$(LOCK) --group build --group test --group dev --group docs -c requirements/run.txt -o requirements/dev.txt
	$(COMPILE) tests/kubernetes/kit/app.in -c requirements/dev.txt -o tests/kubernetes/kit/app.txt

.PHONY: clean
clean: ## remove .venv, caches and build results; the demo's .state stays
	rm -rf .venv build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# environment-run, environment-dev: .venv holds what the requirement files say; at once where it does already.
.PHONY: environment-run environment-dev
environment-run environment-dev: environment-%:
	@if [ -z "$(PYTHON)" ] && [ -x $(VENV)/python ] && $(VENV)/python scripts/environment.py --check $*; then exit 0; fi; \
	python=$$(sh scripts/find_python.sh $(PYTHON)) && \
	"$$python" scripts/environment.py $(if $(PYTHON),--chosen) $*
