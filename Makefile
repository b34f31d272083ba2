# Everything runs in a virtual environment that the first target makes and later ones keep.
#   make reproduce-dreamerv3 ARGS="--task walker_walk --seeds 2"
#   make test PYTHON=python3.12 VENV=.venv-312        make env EXTRAS=crafter,jaxenvs
VENV ?= .venv
PYTHON ?=
EXTRAS ?= vizdoom,carracing
ARGS ?=
export PYTHON

comma := ,
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
RECIPE := pyproject.toml constraints.txt scripts/environment.sh
REPRO := $(VENV)/bin/python -m repro

# Test files at a time.
JOBS ?= 2

.PHONY: help env test check format report doctor
.DEFAULT_GOAL := help

help:
	@echo "make reproduce-PAPER [ARGS=...]  train, evaluate, record, compare (as: repro reproduce PAPER ...)"
	@echo "make bench-PAPER [ARGS=...]      speed of acting, updates, whole iterations"
	@echo "make report                      results/REPORT.md and the HTML page"
	@echo "make doctor                      what can run here, and how to mend what cannot"
	@echo "make env [EXTRAS=a,b]            the environment alone, with extras of pyproject.toml"
	@echo "make test | check                tests | lint, format and types"

$(RUNTIME): $(RECIPE)
	@scripts/environment.sh $(VENV) $(EXTRAS)
	@touch $@

$(DEV): $(RECIPE)
	@scripts/environment.sh $(VENV) dev$(if $(EXTRAS),$(comma)$(EXTRAS))
	@touch $(RUNTIME) $@

env:
	@scripts/environment.sh $(VENV) $(EXTRAS)
	@touch $(RUNTIME)

reproduce-%: $(RUNTIME)
	@$(REPRO) reproduce $* $(ARGS)

bench-%: $(RUNTIME)
	@$(REPRO) bench $* $(ARGS)

report doctor: $(RUNTIME)
	@$(REPRO) $@ $(ARGS)

test: $(DEV)
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(DEV)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
