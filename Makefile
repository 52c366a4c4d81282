# The authority for how tako is built, checked and shown; .ci/run calls the same targets.
#
#   make demo         serve examples/demo.py, a page, on https://localhost:8443/
#
#   make setup        an environment with what the tests need (setup-all: checkers and other
#                     people's servers and clients, too, whose tests are skipped without)
#   make quick        the tests without I/O, and style: under a minute; for every change
#   make own FILE=tako/h2/reader.py   the tests of one module, and its coverage
#   make test         the test suite
#   make style types  the checkers
#   make cover        the tests without I/O, with branch coverage and its floor
#   make all          style, types, cover, docs, test: what .ci/run runs on the newest Python
#
#   make compiled     the tests without I/O and the integration tests, on a compiled wheel
#   make security     the attacks alone, which are a part of the suite
#   make siege        every attack on every runtime and wire, cut at every byte: an hour or more
#   make conformance  Autobahn (needs its wstest)
#   make bench        measure beside other servers (BENCH_ARGS adds options; --help lists them)
#                     (PYTHON=... VENV=.venv-other: on another Python, with its OpenSSL)
#   make bench-clients  measure tako.connect beside other clients (BENCH_ARGS, as above)
#   make soak         half an hour of sockets, churn and chaos (SOAK_ARGS adds options)
#   make docs         the documentation, into build/docs
#   make dist         what is uploaded, into build/dist: built, and checked (CONTRIBUTING: a release)
#   make architecture draw which folder imports which
#
# PYTHON chooses the interpreter, VENV the environment that it is installed into;
# PYTEST_ARGS adds options to the tests. TAKO_TEST_MATRIX=full runs each test on every
# runtime and wire; by default each runs on some, and each runtime and wire has some of
# each kind; with `once`, on one, and a property on half the examples.

PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && { echo $$python; break; }; done)
VENV ?= .venv
DEMO ?= 127.0.0.1:8443 127.0.0.1:8444
export TAKO_TEST_MATRIX ?= thin
PYTEST_ARGS ?= -q

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
SOURCES = tako tako_pytest.py tests examples docs certs/generate.py setup.py
BUILT_FROM = pyproject.toml setup.py $(wildcard tako/native/*.pyx)

.DEFAULT_GOAL := help
.PHONY: all architecture bench bench-clients compiled conformance cover demo dist docs help own quick \
	quick-frames quick-others \
	security setup setup-all siege soak style test types

help:
	@sed -n 's/^#   //p; s/^#$$//p' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "tako needs a Python >= 3.11 with venv; set PYTHON=" >&2; exit 1; }
	@echo 'Making an environment in $(VENV) ...'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: $(BIN)/python $(BUILT_FROM)
	@echo 'Installing tako into it; a minute at most ...'
	@$(PIP) install --no-compile --editable '.[uvloop]' trustme
	@touch $@

$(VENV)/test.stamp: $(BIN)/python $(BUILT_FROM)
	@$(PIP) install --no-compile --editable '.[test]'
	@touch $@

$(VENV)/dev.stamp: $(BIN)/python $(BUILT_FROM)
	@$(PIP) install --no-compile --editable '.[dev]'
	@touch $@ $(VENV)/test.stamp

certs/cert.pem: certs/generate.py | $(VENV)/demo.stamp
	@$(BIN)/python certs/generate.py

demo: $(VENV)/demo.stamp certs/cert.pem
	@exec $(BIN)/python examples/demo.py $(DEMO)

setup: $(VENV)/test.stamp

setup-all: $(VENV)/dev.stamp

# Two processes for two cores, of about the same length: frames and records, and the rest
FRAMES = $(addprefix tests/sansio/, http2 native tls ws)
quick: $(VENV)/test.stamp
	@$(MAKE) --no-print-directory --jobs=2 --output-sync quick-frames quick-others style

quick-frames: export TAKO_TEST_MATRIX = once
quick-frames: $(VENV)/test.stamp
	@$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS) $(FRAMES)

quick-others: export TAKO_TEST_MATRIX = once
quick-others: $(VENV)/test.stamp
	@$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS) tests/sansio \
		$(FRAMES:%=--ignore=%)

own: $(VENV)/test.stamp
	@test -n "$(FILE)" || { echo "which module? FILE=tako/h2/reader.py" >&2; exit 1; }
	@$(BIN)/python -m tests.support.own $(FILE) $(PYTEST_ARGS)

test: $(VENV)/test.stamp
	@echo 'The suite takes about 8 minutes on two idle cores, longer beside other work.'
	@$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

all: style types cover docs test

security: $(VENV)/test.stamp
	@$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS) tests/security

siege: $(VENV)/test.stamp
	@TAKO_TEST_MATRIX=full $(BIN)/python -m pytest $(PYTEST_ARGS) tests/security \
		tests/sansio/test_corpus.py

style: $(VENV)/test.stamp
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

# strict: a link that leads nowhere, or a name without a docstring, fails
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/dev.stamp
	@$(BIN)/mkdocs build --quiet
	@echo 'build/docs/index.html'

# The source distribution, and the wheel without C that is built from it; cibuildwheel makes
# the others (pyproject.toml)
DIST = build/dist
dist: $(VENV)/dev.stamp
	@rm -rf $(DIST)
	@TAKO_PURE=1 $(BIN)/python -m build --quiet --no-isolation --outdir $(DIST)
	@$(BIN)/twine check --strict $(DIST)/*
	@$(BIN)/python -m tests.project.dist $(DIST)

architecture: $(VENV)/test.stamp
	@$(BIN)/python -m tests.project.architecture

types: $(VENV)/dev.stamp
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH=. \
		pyright --ignoreexternal --verifytypes tako

# The floor, and what it is about, is in pyproject.toml
cover: $(VENV)/test.stamp
	@$(BIN)/coverage run -m pytest -m "not slow" $(PYTEST_ARGS) tests/sansio
	@$(BIN)/coverage report

# No source of tako lies beside the tests, so they take what is installed
WHEEL = build/wheel
compiled: $(BIN)/python
	@rm -rf $(WHEEL)
	@mkdir -p $(WHEEL)/source $(WHEEL)/beside
	@tar -cf - --exclude='*.so' tako tako_pytest.py setup.py pyproject.toml README.md LICENSE \
		| tar -xf - -C $(WHEEL)/source
	@tar -cf - --exclude=node_modules tests examples docs certs setup.py pyproject.toml README.md \
		| tar -xf - -C $(WHEEL)/beside
	@TAKO_COMPILE=1 $(PIP) wheel --no-deps --wheel-dir $(WHEEL) $(WHEEL)/source
	@$(BIN)/python -m venv $(WHEEL)/venv
	@$(WHEEL)/venv/bin/python -m pip --quiet --quiet --disable-pip-version-check \
		install "$$(echo $(WHEEL)/*.whl)[test]"
	@cd $(WHEEL)/beside && ../venv/bin/python -c \
		'from tako.native import status; assert status() == "native byte loops, compiled modules", status()'
	@cd $(WHEEL)/beside && ../venv/bin/python -m pytest -m "not slow" $(PYTEST_ARGS) \
		tests/sansio tests/integration tests/conformance

conformance: $(VENV)/test.stamp
	@$(BIN)/python -m tests.conformance.autobahn

$(VENV)/bench.stamp: $(BIN)/python $(BUILT_FROM)
	@$(PIP) install --no-compile --editable '.[bench]'
	@touch $@

# 77: what the load generator is built with is not installed; it has said what
bench: $(VENV)/bench.stamp
	@$(BIN)/python -m tests.benchmarks.router
	@$(BIN)/python -m tests.benchmarks.h2_engine
	@$(BIN)/python -m tests.benchmarks $(BENCH_ARGS) || [ $$? -eq 77 ]

bench-clients: $(VENV)/dev.stamp $(VENV)/bench.stamp
	@$(BIN)/python -m tests.benchmarks.clients $(BENCH_ARGS)

soak: $(VENV)/test.stamp
	@ulimit -n 8192; exec $(BIN)/python -m tests.benchmarks.soak $(SOAK_ARGS)
