# Only Python 3.11-3.13 (with venv) and make are needed: everything else is installed into $(VENV).
.PHONY: docs# No other target has the name of a file or folder.
MAKEFLAGS += --no-print-directory
AIRFLOW ?= 3.3
OTHERS := 3.1 3.2 3.4 lowest# The pins besides those of the main version, on which `make test` runs.
VENV ?= .venv
WORKERS ?= 4# More processes than cores, because some tests wait.
PYTHON := $(or $(PYTHON),$(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$python && break; done))
PINS := requirements/airflow-$(AIRFLOW)-py$(shell $(or $(PYTHON),false) -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt
BIN := $(CURDIR)/$(VENV)/bin
PIP := $(BIN)/pip install --quiet --constraint $(PINS)
PYTEST := PATH="$(BIN):$$PATH" $(BIN)/python -m pytest
CODE := airflow_provider_bitrix24 dags_examples tests benchmarks docs
export AIRFLOW_HOME := $(CURDIR)/$(VENV)/airflow
export AIRFLOW__CORE__LOAD_EXAMPLES := False
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE :=# Or else every process compiles all tests again.

help: ## Show this list
	@sed -n 's/^\([a-z -]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || grep '##' Makefile
demo: $(VENV)/.test ## Sandbox portal + real Airflow + the example DAGs; KEEP=1 leaves both running
	@PATH="$(BIN):$$PATH" exec $(BIN)/python tests/tools/demo.py $(if $(filter-out 0,$(KEEP)),--keep)
test: dev ## Everything: lint, types, import rules, tests with coverage, docs
	@$(MAKE) --jobs=2 --output-sync=target types compiled lint imports docs
	@$(MAKE) unit
lint: dev ## ruff, as linter and as formatter; codespell; the words that are not used
	$(BIN)/ruff check $(CODE) && $(BIN)/ruff format --check $(CODE)
	$(BIN)/codespell $(CODE) *.md && $(BIN)/python tests/tools/words.py
types: dev ## mypy --strict
	$(BIN)/mypy
imports: dev ## Who may import whom
	$(BIN)/lint-imports
docs: dev ## The documentation, warnings as errors, in docs/_build/html
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
compiled: dev; @$(PYTEST) --collect-only -q >/dev/null || true # Or else each process of `unit` compiles all tests.
unit: dev ## pytest with branch coverage, in several processes side by side
	$(BIN)/coverage erase && COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml $(PYTEST) --numprocesses=$(WORKERS) $(PYTEST_ARGS)
	$(BIN)/coverage combine -q
	$(if $(PYTEST_ARGS),,for part in 100:'api/*' 99:'at_most_once/*' 95:'*'; do $(BIN)/coverage report --include "airflow_provider_bitrix24/$${part#*:}" --fail-under=$${part%%:*} || exit 1; done)
test-matrix: test test-others ## make test, then the suite on Airflow 3.1, 3.2, 3.4 and on the lowest declared versions
test-others: ## The second half of test-matrix, two versions at a time: what Airflow has a part in
	@$(MAKE) --jobs=2 --keep-going --output-sync=recurse WORKERS=3 $(OTHERS:%=suite-%)
suite-%:; @$(MAKE) AIRFLOW=$* VENV=.venv-$* suite
suite: $(VENV)/.test# An older anyio has a plugin, which nobody uses here and which does not go together with this pytest.
	$(PYTEST) -p no:anyio -n $(WORKERS) -m "(airflow$(if $(filter lowest,$(AIRFLOW)), or libraries)) and not newest_only" $(PYTEST_ARGS)
test-crash test-distributed: test-%: $(VENV)/.distributed ## Real Airflows, killed, stopped and cleared; LocalExecutor, Celery; needs root
	$(PYTEST) tests/e2e/$* $(PYTEST_ARGS)
test-clear: $(VENV)/.distributed ## The part of test-crash that is run on Airflow 3.4 too: clearing, asking, watching
	$(PYTEST) tests/e2e/crash -m airflow $(PYTEST_ARGS)
test-canary: $(VENV)/.test ## Secrets planted in a whole Airflow, on all paths and faults, at DEBUG: none may be found again
	$(PYTEST) tests/e2e/canary $(PYTEST_ARGS)
test-proof: $(VENV)/.test ## Every case of the protocol with one failure and with two, on all cores
	$(BIN)/python -m tests.simulation.full $(PROOF_ARGS)
test-mutation: $(VENV)/.test ## Each rule of the protocol taken out: a test must fail
	$(BIN)/python tests/tools/mutations.py
browser: $(VENV)/.browser ## The sandbox's page in a real Chromium, which must be on the PATH
	$(PYTEST) tests/e2e/browser $(PYTEST_ARGS)
bench: dev ## The figures of docs/cost.md
	@PATH="$(BIN):$$PATH" $(BIN)/python benchmarks/run.py
package pins release: $(VENV)-package/.package ## Wheel and sdist, checked; the pins again; the tag of a release
	@PATH="$(CURDIR)/$(VENV)-package/bin:$$PATH" python tests/tools/$@.py
dev: $(VENV)/.dev

# Stamps, not the dates of folders: an interrupted installation is taken up again.
$(VENV)/.runtime: $(wildcard $(PINS)) pyproject.toml
	@test -f $(PINS) || { echo "Found no Python 3.11, 3.12 or 3.13 with venv, or no $(PINS): set PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Installing Airflow and the provider into $(VENV) from $(PINS): once, for some minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --requirement $(PINS) && $(PIP) --editable '.[sandbox]' && touch $@
$(VENV)/.test $(VENV)/.dev $(VENV)/.browser: $(VENV)/.%: requirements/%.txt $(VENV)/.runtime
	@echo "Installing $< into $(VENV)" && $(PIP) --requirement $< && touch $@
$(VENV)/.dev $(VENV)/.browser: $(VENV)/.test
$(VENV)/.distributed: requirements/distributed.txt $(VENV)/.test
	@$(PIP) --requirement $< && $(BIN)/python -m tests.tools.services install && touch $@
%-package/.package: requirements/package.txt
	@$(PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet --requirement $< && touch $@
clean: ## Remove environments and everything that was built
	rm -rf $(VENV) $(OTHERS:%=.venv-%) $(VENV)-package .demo build dist docs/_build .coverage .coverage.* .*_cache .hypothesis *.egg-info
