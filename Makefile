# make demo    the example app beside a stand-in for HubSpot; Ctrl-C stops both
# make test    the tests          make lint    ruff and mypy          make check    both
# make bench   how fast it is       make slow     the crash rig in a bounded form, and what else takes long
#              make bench BENCH="--only intake --database sqlite"; on the build machine it is short
# make servers    the matrix of servers with the versions in tests/servers.txt; make servers-newest only tells
# The first of them makes .venv and installs what is needed.

PYTHON ?= python3
BENCH ?= $(if $(CI),--quick --rounds 1)
BIN := .venv/bin
STAMP := .venv/.installed

# The tests start hundreds of processes: what is compiled is kept, whatever the environment says.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test slow servers servers-newest lint check bench

demo: $(STAMP)
	@$(BIN)/flask --app example_app demo --die-with-parent

test: $(STAMP)
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not slow"

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

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

$(STAMP): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(INSTALL)
	@touch $@
