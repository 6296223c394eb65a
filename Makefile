# Each command does all its set-up on a machine that has Python 3.11 or later and make:
#
#   make demo    see it work
#   make test    run every test
#
# Also: make check (format, lint, types, layers) · make bench · make docs · make clean
#
# PYTHON=python3.13   the Python to make the virtual environment of; an existing one is kept (`make clean` removes it)
# ARGS="-k restart"   more arguments for pytest, the demo or the benchmarks

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PYKKA := .cache/pykka

# An empty file in the environment stands for each thing that is installed in it: what is there is not done again.
MADE := $(VENV)/.made
FOR_TEST := $(VENV)/.for-test
FOR_CHECK := $(VENV)/.for-check
FOR_DEMO := $(VENV)/.for-demo
FOR_DEMO_APACHE := $(VENV)/.for-demo-apache
FOR_BENCH := $(VENV)/.for-bench
PYKKA_TESTS := $(VENV)/.pykka-tests
APACHE_KAFKA := $(VENV)/.apache-kafka

export PIP_DISABLE_PIP_VERSION_CHECK := 1
INSTALL := $(BIN)/python -m pip install --quiet --editable

# Most of the tests' time is waiting, for brokers above all: three files at a time.
SIDE_BY_SIDE := --numprocesses 3 --dist loadfile

# Typed examples are checked as soon as there are any.
TYPED := elsa_actors $(wildcard tests/typed)

.PHONY: test check demo bench docs clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := test

test: $(FOR_TEST) $(PYKKA_TESTS) $(APACHE_KAFKA)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

check: $(FOR_CHECK)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/pyright $(TYPED)
	$(BIN)/python -m pytest --quiet tests/test_layers.py

demo: $(if $(findstring --apache,$(ARGS)),$(FOR_DEMO_APACHE),$(FOR_DEMO))
	$(BIN)/python -m elsa_actors demo $(ARGS)

bench: $(FOR_BENCH)
	$(BIN)/python -m benchmarks $(ARGS)

# Documentation is right when its code blocks run: they are tests.
docs: $(FOR_TEST)
	$(BIN)/python -m pytest tests/test_docs.py $(ARGS)

clean:
	rm -rf $(VENV) .cache build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .coverage htmlcov
	find elsa_actors tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@command -v $(PYTHON) >/dev/null || { \
	    echo "error: there is no $(PYTHON) here; install Python 3.11 or later," \
	        "or say where it is: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: expected Python 3.11 or later, got: $$($(PYTHON) --version 2>&1);" \
	        "name a later one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "error: $(PYTHON) cannot make a virtual environment, its module venv or ensurepip is missing;" \
	        "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(FOR_TEST): $(MADE) setup.cfg
	$(INSTALL) '.[test,demo,apache-kafka]'
	@touch $@

$(FOR_CHECK): $(MADE) setup.cfg
	$(INSTALL) '.[test,demo,apache-kafka,dev]'
	@touch $@

$(FOR_DEMO): $(MADE) setup.cfg
	$(INSTALL) '.[demo]'
	@touch $@

$(FOR_DEMO_APACHE): $(MADE) setup.cfg
	$(INSTALL) '.[demo,apache-kafka]'
	@touch $@

$(FOR_BENCH): $(MADE) setup.cfg
	$(INSTALL) .
	@touch $@

# Pykka's own tests run on our Process. They are in its source distribution alone: that of the installed version.
$(PYKKA_TESTS): $(FOR_TEST)
	@mkdir -p $(PYKKA)
	@pykka=$$($(BIN)/python -c 'from importlib.metadata import version; print(version("pykka"))') && \
	if [ ! -f $(PYKKA)/pykka-$$pykka/tests/conftest.py ]; then \
	    echo "fetching the tests of Pykka $$pykka" && \
	    $(BIN)/python -m pip download --quiet --no-deps --no-binary pykka --dest $(PYKKA) pykka==$$pykka && \
	    tar -xzf $(PYKKA)/pykka-$$pykka.tar.gz -C $(PYKKA); \
	fi
	@touch $@

# Apache Kafka, for the tests that need the real thing: fetched and started once, so that no test
# waits for that.
$(APACHE_KAFKA): $(FOR_TEST)
	@echo "fetching Apache Kafka"
	@$(BIN)/python -c 'from elsa_actors.kafka.apache import prepare; prepare()'
	@touch $@
