# Two commands matter: `make demo` shows all of Tally on this machine, `make test` proves it. Each installs what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
TOOLS := .tally/tools
UV := $(shell command -v uv 2>/dev/null || echo $(CURDIR)/$(TOOLS)/uv/bin/uv)
RUN := .venv/bin/python
export UV
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON := $(PYTHON)
export PYTHONPATH := $(CURDIR)

.PHONY: help demo up sql export test check lint bench lock prices emulators agents focus chromium clean

help: ## what this Makefile does
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(TOOLS)/run.stamp ## all of Tally here, with a synthetic company, a simulated provider and live traffic
	@$(RUN) -m local demo

up: $(TOOLS)/run.stamp ## all of Tally here, with your own provider keys from .env
	@$(RUN) -m local up

sql: $(TOOLS)/run.stamp ## ask the running warehouse: make sql q='SELECT * FROM tally.data_freshness'
	@$(RUN) -m local sql "$(q)"

export: $(TOOLS)/run.stamp ## a month of charges as CSV: make export what=chargeback month=2026-10 out=october.csv (or what=focus)
	@$(RUN) -m local export $(what) --month $(month) $(if $(out),--out $(out))

test: $(TOOLS)/dev.stamp ## the tests; suites that need Java, chromium or npm skip where those are absent
	@$(RUN) -m pytest

check: lint chromium emulators agents focus ## what CI runs: lint, types, lock in step, then every suite
	@TALLY_REQUIRE=java,chromium,npm,bqemulator,focus $(RUN) -m pytest

lint: $(TOOLS)/dev.stamp
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(RUN) local/lock.py check

bench: $(TOOLS)/dev.stamp ## measure everything again, into bench/RESULTS.md
	@$(RUN) -m bench

lock: $(TOOLS)/dev.stamp ## resolve anew, and export requirements.txt for each deployable
	@$(RUN) local/lock.py lock

prices: $(TOOLS)/dev.stamp ## add what changed in LiteLLM's price list to the price book, dated today
	@$(RUN) -m local.seed_prices

# --- what the tests need beside Python packages ------------------------------------------------------------------------
chromium: ## Chromium for the browser tests, where apt can bring it
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-liberation >/dev/null; } || \
	  echo "no chromium here, and no way to install it: the browser tests will say so"

agents: $(TOOLS)/agents.stamp ## Claude Code and Codex, for the tests that run them
$(TOOLS)/agents.stamp: tests/agents/package.json tests/agents/package-lock.json
	@mkdir -p $(TOOLS)/agents && cp tests/agents/package*.json $(TOOLS)/agents/
	@if command -v npm >/dev/null; then cd $(TOOLS)/agents && npm ci --silent --no-audit --no-fund; else echo "no npm here: the agent tests will say so"; fi
	@touch $@

emulators: $(TOOLS)/bqemulator.stamp ## the BigQuery emulator, in an environment of its own
$(TOOLS)/bqemulator.stamp: $(UV) Makefile
	@$(UV) venv -q --allow-existing $(TOOLS)/bqemulator
	@$(UV) pip install -q --python $(TOOLS)/bqemulator bqemulator==1.4.0 duckdb==1.5.5 duckdb-extension-spatial==1.5.5 duckdb-extension-avro==1.5.5 numpy
	@touch $@

# It says that it needs Python 3.12; one line of it does, and here that line is written for 3.11 too.
focus: $(TOOLS)/focus.stamp ## the FinOps Foundation's validator of FOCUS 1.2, in an environment of its own
$(TOOLS)/focus.stamp: Makefile
	@$(PYTHON) -m venv $(TOOLS)/focus
	@$(TOOLS)/focus/bin/pip install -q --disable-pip-version-check --ignore-requires-python focus-validator==2.2.1 duckdb==1.5.5 pandas==2.3.3 polars==1.44.2 pyarrow==21.0.0
	@sed -i.orig 's/join(f.* for k in ignore_keys)/join(map(repr, ignore_keys))/' $(TOOLS)/focus/lib/python3*/site-packages/focus_validator/config_objects/focus_to_duckdb_converter.py
	@touch $@

# --- installing ---------------------------------------------------------------------------------------------------------
$(TOOLS)/run.stamp: $(UV) uv.lock pyproject.toml
	@echo "Installing Tally's packages into .venv …"
	@$(PYTHON) local/lock.py sync --no-default-groups --group run --inexact
	@touch $@

$(TOOLS)/dev.stamp: $(UV) uv.lock pyproject.toml
	@echo "Installing Tally's packages and the tools for its tests into .venv …"
	@$(PYTHON) local/lock.py sync --inexact
	@touch $@ $(TOOLS)/run.stamp

$(CURDIR)/$(TOOLS)/uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Tally needs Python 3.11 or newer; say which with PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing uv into $(TOOLS)/uv …"
	@mkdir -p $(TOOLS)
	@$(PYTHON) -m venv $(TOOLS)/uv || { echo "Python cannot make a virtual environment (on Debian: apt install python3-venv)"; exit 1; }
	@$(TOOLS)/uv/bin/pip install -q --disable-pip-version-check uv==0.13.9

clean: ## remove all that was installed, and the local state
	@rm -rf .venv .tally
