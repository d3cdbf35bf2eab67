# make demo    the example app beside a stand-in for HubSpot; Ctrl-C stops both
# make test    the tests          make lint    ruff and mypy          make check    both
# make bench   how fast it is       make slow     the crash rig in a bounded form, and what else takes long
#              make bench BENCH="--only intake --database sqlite"; on the build machine it is short
# The first of them makes .venv and installs what is needed.

PYTHON ?= python3
BENCH ?= $(if $(CI),--quick --rounds 1)
BIN := .venv/bin
STAMP := .venv/.installed

# The tests start hundreds of processes: what is compiled is kept, whatever the environment says.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test slow lint check bench

demo: $(STAMP)
	@$(BIN)/flask --app example_app demo --die-with-parent

test: $(STAMP)
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not slow"

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

bench: $(STAMP)
	$(BIN)/python -m tests.bench $(BENCH)

$(STAMP): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,demo]'
	@touch $@
