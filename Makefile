# Only Python 3.11-3.13 (with venv) and make are needed: everything else is installed into $(VENV).
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

AIRFLOW ?= 3.3
VENV ?= .venv
PYTHON := $(or $(PYTHON),$(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done))
PYTHON_VERSION := $(shell test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PINS := requirements/airflow-$(AIRFLOW)-py$(PYTHON_VERSION).txt

# The pins besides those of the main version, on which `make test` runs.
OTHERS := 3.1 3.2 3.4 lowest

BIN := $(CURDIR)/$(VENV)/bin
PACKAGE := airflow_provider_bitrix24
CODE := $(PACKAGE) dags_examples tests benchmarks docs

# More processes than cores, because a test waits longer than it computes. Tests that share an Airflow stay together.
WORKERS ?= 4
SIDE_BY_SIDE := --numprocesses=$(WORKERS)

export AIRFLOW_HOME := $(CURDIR)/$(VENV)/airflow
export AIRFLOW__CORE__LOAD_EXAMPLES := False
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-matrix test-others test-crash test-clear test-distributed test-canary test-proof test-mutation suite lint types imports unit browser docs package bench dev clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || grep '##' Makefile

demo: $(VENV)/.runtime ## Sandbox portal + real Airflow + the example DAGs; KEEP=1 leaves both running
	@PATH="$(BIN):$$PATH" exec $(BIN)/python tests/tools/demo.py $(if $(filter-out 0,$(KEEP)),--keep)

test: dev ## Everything: lint, types, import rules, tests with coverage, docs
	@$(MAKE) --jobs=2 --output-sync=target lint types imports docs
	@$(MAKE) unit

test-matrix: test ## make test, then the suite on Airflow 3.1, 3.2, 3.4 and on the lowest declared versions of everything
	@$(MAKE) test-others

# Two at a time, so that one computes while the other waits; all of them, whatever becomes of one.
test-others: ## The second half of test-matrix: what Airflow has a part in, on the other versions
	@$(MAKE) --jobs=2 --keep-going --output-sync=recurse WORKERS=3 $(OTHERS:%=suite-%)

suite-%:
	@$(MAKE) AIRFLOW=$* VENV=.venv-$* suite

# What Airflow has no part in need not be repeated: `make test` has tested it. The lowest versions concern the libraries
# too. The plugin of an older anyio, which nobody uses here, does not go together with this pytest.
suite: $(VENV)/.test
	@echo "The suite on the pins of $(PINS)"
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -p no:anyio $(SIDE_BY_SIDE) $(if $(findstring tests/,$(PYTEST_ARGS)),,$(SUITE)) $(PYTEST_ARGS)

SUITE = $(addprefix tests/,$(WITH_AIRFLOW)) $(addprefix --deselect=tests/,$(NEWEST_ONLY)) \
	$(if $(filter 3.1 3.2 lowest,$(AIRFLOW)),$(addprefix --deselect=tests/,$(WITH_TASK_STATE))) \
	$(if $(filter lowest,$(AIRFLOW)),$(addprefix tests/,$(WITH_LIBRARIES)) $(addprefix --deselect=tests/,$(NOT_IN_3_1_0)),$(addprefix --deselect=tests/,$(LIBRARIES_ALONE)))

WITH_AIRFLOW := e2e/demo hooks journal test_sql.py links operators packaging sensors triggers
# `make demo` runs on the pins of 3.3 only, and beside them the wheel is installed.
NEWEST_ONLY := e2e/demo/test_demo_stops.py packaging/test_wheel.py
# Nothing in these but requests, httpx, SQLAlchemy and pydantic, of which the others have nearly what 3.3 has.
LIBRARIES_ALONE := hooks/test_sandbox_faults.py $(addprefix hooks/test_secret.py::,test_blocking_calls test_async_calls) \
	$(addprefix journal/test_,airflow_api.py terminal.py sql_journal.py) \
	$(addprefix hooks/oauth/test_,calls.py many_workers.py secrets.py trouble.py)
# Of the sandbox, what its web server and its TLS have a part in; the portal inside needs no library.
WITH_LIBRARIES := api drivers at_most_once test_exceptions.py test_identifiers.py $(addprefix sandbox/test_,control.py oauth_server.py plugin.py server.py server_faults.py tls.py)
# What Airflow keeps of a task, and a failure callback under dag.test(), are there from 3.3 on.
WITH_TASK_STATE := $(addprefix operators/,test_forgotten.py test_failures.py::test_a_callback_is_given_our_error \
	test_failures.py::test_the_example_of_the_docs_tells_people test_loops.py::test_an_iteration_that_is_repeated_has_no_notes_in_the_task_state)
# Outside of a task it cannot say that there is no such connection, or that one cannot be read: it asks a supervisor that is not there.
NOT_IN_3_1_0 := triggers/test_triggers.py::test_a_connection_that_the_triggerer_does_not_have_is_reported \
	test_sql.py::test_a_connection_that_is_not_there_is_told hooks/oauth/test_trouble.py::test_a_store_that_nobody_knows \
	operators/test_options.py::test_a_configured_connection_that_is_not_there_is_named_by_its_option \
	$(addprefix hooks/test_connections.py::test_,the_hook_refuses the_connection_test_refuses the_sign_in_refuses a_database_refuses \
	what_is_empty_is_not_given a_connection_that_cannot_be_parsed_exists a_connection_that_is_not_there) \
	hooks/test_connection_form.py::test_what_does_not_work_is_a_sentence[None

# Real processes that are killed; Postgres, Redis and MariaDB are Debian's, installed if they are missing (needs root).
test-crash test-distributed test-clear: $(VENV)/.test ## Real Airflows whose processes are killed; LocalExecutor, Celery; tasks that are cleared
	@$(BIN)/pip install --quiet --constraint $(PINS) --requirement requirements/distributed.txt
	@$(BIN)/python -m tests.tools.services install
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest $(if $(filter test-clear,$@),tests/e2e/crash/test_clear.py,$(@:test-%=tests/e2e/%))

test-canary: $(VENV)/.test ## Secrets planted in a whole Airflow, on all paths and faults, at DEBUG: none may be found again
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest tests/$(CANARY)

test-proof: $(VENV)/.test ## Every case of the protocol with one trouble and with two, on all cores
	$(BIN)/python -m tests.simulation.full $(PROOF_ARGS)

test-mutation: $(VENV)/.test ## Each rule of the protocol taken out: a test must turn red
	$(BIN)/python tests/tools/mutations.py

lint: dev ## ruff, as linter and as formatter; codespell; the words that are not used
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/codespell $(CODE) *.md
	$(BIN)/python tests/tools/words.py

types: dev ## mypy --strict
	$(BIN)/mypy

imports: dev ## Who may import whom
	$(BIN)/lint-imports

unit: dev ## pytest with branch coverage, in several processes side by side
	$(BIN)/coverage erase
	PATH="$(BIN):$$PATH" COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml \
		$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(or $(PYTEST_ARGS),--ignore=tests/$(CANARY))
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --include '$(PACKAGE)/api/*' --fail-under=95
	$(BIN)/coverage report --include '$(PACKAGE)/at_most_once/*' --fail-under=95
	$(BIN)/coverage report --fail-under=95

CANARY := e2e/security/test_canary.py

browser: dev ## The sandbox's page in a real Chromium, which must be on the PATH
	@$(BIN)/pip install --quiet --constraint $(PINS) --requirement requirements/browser.txt
	$(BIN)/python -m pytest tests/e2e/browser

docs: dev ## The documentation, warnings as errors, in docs/_build/html
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

package: ## Wheel and source distribution in dist/, checked as the registry will read them
	@test -x .venv-package/bin/python || $(PYTHON) -m venv .venv-package
	@.venv-package/bin/pip install --quiet --requirement requirements/package.txt
	rm -rf dist
	.venv-package/bin/python -m build --outdir dist
	.venv-package/bin/twine check --strict dist/*
	.venv-package/bin/check-wheel-contents dist/*.whl

bench: dev ## The figures of docs/cost.md
	@PATH="$(BIN):$$PATH" $(BIN)/python benchmarks/run.py

dev: $(VENV)/.dev

# A stamp, not a folder's date: an interrupted installation is taken up again.
$(VENV)/.runtime: $(PINS) pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with venv found: set PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Installing Airflow and the provider into $(VENV) from $(PINS): once, a minute or so"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --requirement $(PINS)
	@$(BIN)/pip install --quiet --constraint $(PINS) --editable '.[sandbox]'
	@touch $@

$(VENV)/.test: $(VENV)/.runtime requirements/test.txt
	@echo "Installing what the tests need into $(VENV) from requirements/test.txt"
	@$(BIN)/pip install --quiet --constraint $(PINS) --requirement requirements/test.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.test requirements/dev.txt
	@echo "Installing the development tools into $(VENV) from requirements/dev.txt"
	@$(BIN)/pip install --quiet --constraint $(PINS) --requirement requirements/dev.txt
	@touch $@

clean: ## Remove environments and everything that was built
	rm -rf $(VENV) $(OTHERS:%=.venv-%) .venv-package .demo build dist docs/_build .coverage .coverage.* .*_cache .hypothesis *.egg-info
