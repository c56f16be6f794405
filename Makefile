# Two commands do all: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test test-external check clients format openapi contract docs bench fuzz mutate lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/run ## start the service with its own database, demo data included, on 127.0.0.1:8000
	@exec $(BIN)/sluice serve

test: check clients ## everything that decides whether the project is sound
	$(BIN)/pytest -n 2 --dist loadgroup

test-external: .venv/dev ## the integration tests on the server that DATABASE_URL names
	$(BIN)/pytest -n 2 --dist loadgroup tests/integration

check: .venv/dev ## format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clients: .venv/clients .venv/node ## install what lints openapi.json and makes clients from it (without Node.js their tests are skipped)

format: .venv/dev ## put the code in its format and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: .venv/dev ## write openapi.json anew from the code
	$(BIN)/sluice openapi > openapi.json

contract: openapi ## keep openapi.json as what clients are promised, which a release does
	$(BIN)/python -m tests.breakage < openapi.json > docs/contract/openapi.kept.json

docs: .venv/dev ## write the pages on metrics and the reference anew from the code
	$(BIN)/sluice metric-definitions > docs/metrics.md
	$(BIN)/sluice metric-definitions --language zh > docs/metrics.zh.md
	$(BIN)/sluice reference > docs/reference.md

bench: .venv/dev ## measure beside yardsticks: a table, and JSON in bench/results (BENCH="moves metrics …", SIZE=100000)
	$(BIN)/python -m bench $(BENCH)

fuzz: .venv/dev .venv/clients ## attack a running service by its own description (URL=… KEY=… SECONDS=600)
	tests/clients/.venv/bin/schemathesis --config-file tests/clients/schemathesis.toml run --checks all \
	  --header "Authorization: Bearer $(KEY)" --max-time $(or $(SECONDS),600) --continue-on-failure $(URL)/openapi-client.json

mutate: .venv/dev ## change the definitions bit by bit, and show the changes that no test notices
	$(BIN)/mutmut run
	$(BIN)/mutmut results

lock: .venv/dev ## pin the dependencies anew, with hashes
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade pyproject.toml --group build -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade pyproject.toml --group build --group dev -c requirements.lock -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade tests/clients/requirements.in -o tests/clients/requirements.lock

clean: ## remove the environment and every cache (data folders stay)
	rm -rf .venv tests/clients/node_modules tests/clients/.venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis mutants

# The stamps make a second call free; a changed lock file installs anew.
.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sluice needs Python 3.11 or newer: make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv .venv

.venv/run: requirements.lock pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q app migrations
	@touch $@

.venv/dev: requirements-dev.lock .venv/run
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

# The generator of the Python client has needs of its own: an environment of its own.
.venv/clients: tests/clients/requirements.lock | .venv/bin/python
	$(PYTHON) -m venv tests/clients/.venv
	tests/clients/.venv/bin/python -m pip install --quiet --require-hashes -r tests/clients/requirements.lock
	@touch $@

# Node.js is a tool of the tests alone, so its absence is told and is no fault.
.venv/node: tests/clients/package-lock.json | .venv/bin/python
	@if command -v npm >/dev/null; then \
	  cd tests/clients && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && cd ../.. && touch $@; \
	else echo 'No npm here: the tests of openapi.json that need Node.js are skipped.'; fi
