# make demo    the example app beside a stand-in for HubSpot; Ctrl-C stops both
# make test    the tests          make lint    ruff and mypy          make check    both
# make test-min    the tests (or TESTS="tests/test_x.py …") with the lowest versions that setup.cfg allows, in .venv-min
# make bench   how fast it is       make slow     the crash rig in a bounded form, and what else takes long
#              make bench BENCH="--only intake --database sqlite"; on the build machine it is short
# make servers    the matrix of servers with the versions in tests/servers.txt; make servers-newest only tells
# The first of them makes .venv and installs what is needed.

PYTHON ?= python3
BENCH ?= $(if $(CI),--quick --rounds 1)
BIN := .venv/bin
STAMP := .venv/.installed
# Four workers for two cores: a test that waits for other processes keeps no core busy.
TEST := -m pytest -n 4 --dist worksteal -m "not slow"

# The tests start hundreds of processes: what is compiled is kept, whatever the environment says.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test test-min slow servers servers-newest lint check bench

demo: .venv/.demo
	@$(BIN)/flask --app example_app demo --die-with-parent

test: $(STAMP)
	$(BIN)/python $(TEST)

test-min: .venv-min/.installed
	.venv-min/bin/python $(TEST) $(TESTS)

slow: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

INSTALL = -m pip install --quiet --disable-pip-version-check --editable '.[test,demo]'
MATRIX = -m pytest -n 4 --dist worksteal tests/test_servers.py

servers:
	test -x .venv-servers/bin/python || $(PYTHON) -m venv .venv-servers
	.venv-servers/bin/python $(INSTALL) --requirement tests/servers.txt
	.venv-servers/bin/python $(MATRIX)

servers-newest:
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python $(INSTALL) --upgrade --upgrade-strategy eager
	-.venv-newest/bin/python $(MATRIX)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

bench: $(STAMP)
	$(BIN)/python -m tests.bench $(BENCH)

.venv-min/.installed: setup.cfg pyproject.toml .ci/lowest.py
	test -x .venv-min/bin/python || $(PYTHON) -m venv .venv-min
	$(PYTHON) .ci/lowest.py > .venv-min/constraints.txt
	.venv-min/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint .venv-min/constraints.txt --editable '.[test,demo,postgresql]'
	@touch $@

# The demo needs a tenth of what the tests do, and is there sooner.
.venv/.demo: setup.cfg pyproject.toml
	@test -x $(BIN)/python || { echo "Making .venv ..."; $(PYTHON) -m venv .venv; }
	@echo "Installing what the demo needs: Flask, SQLAlchemy and a dozen more (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(STAMP): setup.cfg pyproject.toml
	@test -x $(BIN)/python || { echo "Making .venv ..."; $(PYTHON) -m venv .venv; }
	@echo "Installing what the tests need: 90 packages, among them a PostgreSQL server, mypy and a browser's driver (once) ..."
	@$(BIN)/python $(INSTALL)
	@touch $@ .venv/.demo
