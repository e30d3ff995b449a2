# The front door. `make` lists the targets; everything is installed into .venv and nowhere else.
PROFILE ?= sample
SOURCE  ?=
SPEC    ?= parameters/sweep_grid.yaml
ARGS    ?=

# The first Python on the path that the project supports.
FITS    = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON  = $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
            $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
BIN     = .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
UV      = uv==0.13.9

# Through a shell, because macOS's make looks commands up on its own PATH; Windows parts PATH with a semicolon.
SHELL  := bash
export PATH := $(CURDIR)/$(BIN)$(if $(findstring ;,$(PATH)),;,:)$(PATH)
export UV_CACHE_DIR ?= $(CURDIR)/.venv/cache
export MPLCONFIGDIR := $(CURDIR)/.venv/var/matplotlib
export IPYTHONDIR := $(CURDIR)/.jupyter/ipython
export JUPYTER_DATA_DIR := $(CURDIR)/.venv/var/jupyter
export WANDB_CACHE_DIR := $(CURDIR)/.venv/var/wandb
export WANDB_CONFIG_DIR := $(CURDIR)/.venv/var/wandb
export WANDB_DATA_DIR := $(CURDIR)/.venv/var/wandb
export JUPYTER_CONFIG_DIR := $(CURDIR)/.jupyter
export PLOOMBER_STATS_ENABLED := false
export PLOOMBER_ENV_FILENAME := $(if $(filter sample,$(PROFILE)),env.yaml,env.$(PROFILE).yaml)

.DEFAULT_GOAL := help
.PHONY: help build sweep test test-fast lab serve lint lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

FROM = $(if $(SOURCE),--env--source "$(if $(wildcard $(SOURCE)),$(abspath $(SOURCE)),$(SOURCE))")

build: .venv/ready  ## run the pipeline: PROFILE=sample|cpu|gpu SOURCE=zip|folder|kaggle
	ploomber build $(FROM) $(ARGS)
	@echo "Open outputs/$(PROFILE)/report.html"

sweep: .venv/ready  ## search parameters: SPEC=parameters/sweep_bayes.yaml PROFILE=… SOURCE=…
	ploomber build --partially 03_sweep $(FROM) --env--sweep $(SPEC) $(ARGS)
	@echo "Open outputs/$(PROFILE)/03_sweep/03_sweep.ipynb"

test: .venv/ready  ## run all tests, and replay the executed notebooks
	python -m pytest --numprocesses=2 --dist=loadfile --cov=lib --cov-report=term $(ARGS)

test-fast: .venv/ready  ## run the tests that need no kernel, server, browser or build
	python -m pytest --numprocesses=2 --dist=loadfile -m "not slow and not full" $(ARGS)

lab: .venv/ready  ## open JupyterLab with the notebooks
	jupyter lab $(ARGS)

serve: .venv/ready  ## start the service on http://127.0.0.1:8000
	cifake serve $(ARGS)

lint: .venv/ready  ## check style and formatting
	ruff check . && ruff format --check . && lint-imports --no-cache

lock: .venv/ready  ## renew requirements.txt from pyproject.toml (ARGS=--upgrade: to the newest versions)
	uv pip compile pyproject.toml --extra dev --universal --fork-strategy fewest --python-version 3.11 \
	    --generate-hashes --no-header --quiet --output-file requirements.txt $(ARGS)

clean:  ## remove what runs have written; .venv stays
	rm -rf outputs/sample outputs/cpu outputs/gpu .pytest_cache .ruff_cache .coverage

.venv/ready: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, and none is on the path."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	python -m pip install --quiet --no-cache-dir $(UV)
	uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.txt
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
