# make demo    the example app beside a stand-in for HubSpot; Ctrl-C stops both
# make test    the tests          make lint    ruff and mypy          make check    both
# make test-min    the tests (or TESTS="tests/test_x.py …") with the lowest versions that setup.cfg allows, in .venv-min
# make test-dist   the tests (or TESTS="…") of an sdist, with the wheel that was built from it, in .venv-dist
# make newer   whether newer Pythons could run it, without running anything
# make bench   how fast it is       make slow     the crash rig in a bounded form, and what else takes long
#              make bench BENCH="--only intake --database sqlite"; on the build machine it is short
# make servers    the matrix of servers with the versions in tests/servers.txt; make servers-newest only tells
# make clients    other people's clients of HubSpot against the stand-in; make clients-newest only tells (docs/clients.rst)
# make docs    the pages as a site in docs/_build/html; a warning, or a link that leads nowhere, is an error
# The first of them makes .venv and installs what is needed.

PYTHON ?= python3
BENCH ?= $(if $(CI),--quick --rounds 1)
BIN := .venv/bin
STAMP := .venv/.installed
# Four workers for two cores: a test that waits for other processes keeps no core busy.
TEST := -m pytest -n 4 --dist worksteal -m "not slow"

# The tests start hundreds of processes: what is compiled is kept, whatever the environment says.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test test-min test-dist newer slow servers servers-newest clients clients-newest lint check bench docs

demo: .venv/.demo
	@$(BIN)/python -m example_app.demo --die-with-parent

test: $(STAMP)
	@echo "Running the tests in four processes; they start real servers, and take some six minutes ..."
	@$(BIN)/python $(TEST)

test-min: .venv-min/.installed
	.venv-min/bin/python $(TEST) $(TESTS)

# The sdist is unpacked, a wheel made of it and installed, and what was installed takes the place of the sources.
test-dist: $(STAMP)
	rm -rf build/dist && mkdir -p build/dist
	test -x .venv-dist/bin/python || $(PYTHON) -m venv .venv-dist
	$(BIN)/python -m build --quiet --outdir build/dist
	tar --extract --gzip --strip-components 1 --one-top-level=build/dist/tree --file build/dist/*.tar.gz
	wheel=$$(echo build/dist/*.whl) && .venv-dist/bin/python -m pip install --quiet --disable-pip-version-check \
	  "$$wheel[test,demo,postgresql]" && .venv-dist/bin/python -m pip install --quiet --no-deps --force-reinstall "$$wheel"
	rm -r build/dist/tree/flask_hubspot_hitl
	ln -s $(CURDIR)/.venv-dist/lib/python3*/site-packages/flask_hubspot_hitl build/dist/tree/
	test ! -e ../shared || ln -s $(abspath ../shared) build/dist/shared
	cd build/dist/tree && ../../../.venv-dist/bin/python $(TEST) $(TESTS)

newer: $(STAMP)
	$(BIN)/python .ci/newer.py

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

clients: $(STAMP)
	$(BIN)/python -m pytest -n 2 tests/test_clients.py

clients-newest: $(STAMP)
	-HITL_CLIENTS=newest $(BIN)/python -m pytest -n 2 tests/test_clients.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

docs: .venv/.docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs docs/_build/html
	$(BIN)/python .ci/links.py docs/_build/html
	@echo "Open docs/_build/html/index.html"

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
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[demo]'
	@touch $@

.venv/.docs: setup.cfg pyproject.toml
	@test -x $(BIN)/python || { echo "Making .venv ..."; $(PYTHON) -m venv .venv; }
	@echo "Installing what the site needs: Sphinx, its theme, and what the sources import (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

$(STAMP): setup.cfg pyproject.toml
	@test -x $(BIN)/python || { echo "Making .venv ..."; $(PYTHON) -m venv .venv; }
	@echo "Installing what the tests need: 90 packages, among them a PostgreSQL server, mypy and a browser's driver (once) ..."
	@$(BIN)/python $(INSTALL)
	@touch $@ .venv/.demo
