# Needs Python 3.11 or newer and make; `make setup` brings the rest into .venv.
# Another Python: make setup PYTHON=python3.12

PYTHON ?= python3
TEST_WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/pytest -n $(TEST_WORKERS)

# uv does not read pip's settings, so it is told where pip gets its packages and which certificates pip trusts.
PIP_SETTING = $(BIN)/python -m pip config get
UV := export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(PIP_SETTING) global.index-url 2>/dev/null)}}"; \
	export SSL_CERT_FILE="$${SSL_CERT_FILE:-$${PIP_CERT:-$$($(PIP_SETTING) global.cert 2>/dev/null)}}"; \
	[ -n "$$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX; [ -n "$$SSL_CERT_FILE" ] || unset SSL_CERT_FILE; \
	$(BIN)/uv

LOCK = $(UV) pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(UPGRADE)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-sqlite test-postgres chaos bench check format lock screenshots

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Bring everything the project needs into .venv

$(READY): requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11: name a newer one, as in make setup PYTHON=python3.12."; exit 1; }
	@[ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) \
		|| { echo "$(PYTHON) cannot make virtual environments: install its venv package (on Debian: apt-get install python3-venv)."; exit 1; }
	@# The lock holds uv too, so pip fetches that version of it, checked by its hash, and uv does the rest.
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.lock > $(VENV)/uv.lock
	@echo "Bringing the packages of requirements-dev.lock into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/uv.lock
	@# Compiled once, here: each command would do so anew where Python may write no bytecode.
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements-dev.lock
	@touch $@

demo: setup ## Start everything and send an issue to the demo's readers; DEMO_PORT sets the port
	@$(BIN)/python manage.py demo

test: check test-sqlite test-postgres ## The checks, the whole suite on SQLite, and what stands on the database on PostgreSQL

test-sqlite: setup ## The suite on SQLite, with a real Redis
	$(PYTEST) --database=sqlite

test-postgres: setup ## What stands on the database, on PostgreSQL, with a real Redis
	$(PYTEST) --database=postgres -m "database and not looks"

chaos: setup ## Break everything sending stands on: 10,000 readers, 100 kills; CHAOS_JSON names a file for the cases
	@$(BIN)/python -m bench.chaos

bench: setup ## Sending, and the admin with a million readers; BENCH_JSON names a file for the figures
	@$(BIN)/python -m bench

check: setup ## Lint, format, types, layers and migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run

format: setup ## Put the code into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup ## Write the lock files anew from pyproject.toml; UPGRADE=--upgrade takes newer versions
	@$(LOCK) -o requirements.lock
	@$(LOCK) --group dev -o requirements-dev.lock

screenshots: setup ## Take the pictures of the documentation anew: docs/images
	@$(BIN)/python -m bench.screenshots
