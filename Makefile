# The front door. `make` lists the targets; everything is installed into .venv and nowhere else.
PROFILE ?= sample
SOURCE  ?=
SPEC    ?= parameters/sweep_grid.yaml
ARGS    ?=

# What is typed reaches the shell through the environment: make would expand a $ in it, and the shell its quotes.
override PROFILE := $(value PROFILE)
override SOURCE := $(value SOURCE)
override SPEC := $(value SPEC)
export PROFILE SOURCE SPEC

# Through a shell, because macOS's make looks commands up on its own PATH; Windows parts PATH with a semicolon.
SHELL  := bash
BIN     = .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
UV      = uv==0.13.9

# The first Python on the path that the project supports; of a virtual environment, the one that it was made by.
FITS    = import sys; (3, 11) <= sys.version_info[:2] < (3, 14) or sys.exit(1); print(sys._base_executable)
PYTHON  = $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
            $$p -c '$(FITS)' 2>/dev/null && break; done)
# A .venv holds its own path, and that of its Python: one that was copied or moved, or lost either, is made anew.
IDENTITY = "$$(pwd -P)" "$$($(BIN)/python -c 'import pip, sys; print(*sys.version_info[:2])' 2>/dev/null)"
MOVED  := $(shell test "$$(cat .venv/ready 2>/dev/null)" = "$$(echo $(IDENTITY))" || echo moved)

export PATH := $(CURDIR)/$(BIN)$(if $(findstring ;,$(PATH)),;,:)$(PATH)
export UV_CACHE_DIR ?= $(CURDIR)/.venv/cache
export MPLCONFIGDIR := $(CURDIR)/.venv/var/matplotlib
export IPYTHONDIR := $(CURDIR)/.jupyter/ipython
export JUPYTER_DATA_DIR := $(CURDIR)/.venv/var/jupyter
export WANDB_CACHE_DIR := $(CURDIR)/.venv/var/wandb
export WANDB_CONFIG_DIR := $(CURDIR)/.venv/var/wandb
export WANDB_DATA_DIR := $(CURDIR)/.venv/var/wandb
export JUPYTER_CONFIG_DIR := $(CURDIR)/.jupyter
export XDG_CACHE_HOME := $(CURDIR)/.venv/var/cache
export npm_config_cache := $(CURDIR)/.venv/var/npm
export PLOOMBER_ENV_FILENAME := $(if $(filter-out sample,$(PROFILE)),env.$(PROFILE).yaml,env.yaml)
export NO_MKDOCS_2_WARNING := 1
export TORCHINDUCTOR_CACHE_DIR := $(CURDIR)/.venv/var/inductor
export PLOOMBER_STATS_ENABLED := false
export PLOOMBER_VERSION_CHECK_DISABLED := 1
export PLOOMBER_HOME_DIR := $(CURDIR)/.venv/var/ploomber
# Set wherever .venv's Python starts, without make too: Ploomber reads its own before any code of ours runs.
QUIET = MPLCONFIGDIR IPYTHONDIR JUPYTER_DATA_DIR JUPYTER_CONFIG_DIR WANDB_CACHE_DIR WANDB_CONFIG_DIR WANDB_DATA_DIR \
        TORCHINDUCTOR_CACHE_DIR PLOOMBER_STATS_ENABLED PLOOMBER_VERSION_CHECK_DISABLED PLOOMBER_HOME_DIR
SETS  = import os, sys; print("import os; [os.environ.setdefault(*it) for it in", [(n, os.environ[n]) for n in sys.argv[1:]], "]")

.DEFAULT_GOAL := help
.PHONY: help build sweep test test-fast lab serve docs lint lock clean profile moved

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# An absolute path cannot be taken for a number. The words sample and kaggle are no paths, even where such a folder is.
ABSOLUTE = case $$SOURCE in (sample|kaggle) echo $$SOURCE;; (*) python -c \
           'import os; print(os.path.abspath(os.path.expanduser(os.environ["SOURCE"])))';; esac
FROM = $(if $(SOURCE),--env--source "$$($(ABSOLUTE))")

build: profile .venv/ready  ## run the pipeline: PROFILE=sample|cpu|long|gpu SOURCE=zip|folder|kaggle
	ploomber build $(FROM) $(ARGS)
	@echo "Open outputs/$$PROFILE/report.html"

sweep: profile .venv/ready  ## search parameters: SPEC=parameters/sweep_bayes.yaml PROFILE=… SOURCE=…
	ploomber build --partially 03_sweep $(FROM) --env--sweep "$$SPEC" $(ARGS)
	@echo "Open outputs/$$PROFILE/03_sweep/03_sweep.ipynb"

# Plugins that take seconds to start stay out where no test needs them.
PYTEST = python -m pytest -p no:nbval --numprocesses=2 --dist=loadfile --no-loadscope-reorder

test: .venv/ready  ## run all tests, and replay the executed notebooks
	$(PYTEST) $(ARGS)

test-fast: .venv/ready  ## run the tests that need no kernel, server, browser or build
	$(PYTEST) -p no:schemathesis -m "not slow and not full" $(ARGS)

lab: .venv/ready  ## open JupyterLab with the notebooks
	jupyter lab $(ARGS)

serve: .venv/ready  ## start the service on http://127.0.0.1:8000
	cifake serve $(ARGS)

docs: .venv/ready  ## build the documentation into outputs/site, offline; a broken link fails
	mkdocs build --strict $(ARGS)
	@echo "Open outputs/site/index.html, or type: mkdocs serve"

lint: .venv/ready  ## check style and formatting
	ruff check . && ruff format --check . && lint-imports --no-cache

lock: .venv/ready  ## renew requirements.txt from pyproject.toml (ARGS=--upgrade: to the newest versions)
	uv pip compile pyproject.toml --extra dev --universal --fork-strategy fewest --python-version 3.11 \
	    --generate-hashes --no-header --quiet --output-file requirements.txt $(ARGS)

clean:  ## remove what runs have written; .venv stays
	rm -rf outputs/sample outputs/cpu outputs/long outputs/gpu outputs/site .pytest_cache .ruff_cache .coverage

profile:
	@test -f "$$PLOOMBER_ENV_FILENAME" || \
	    { echo "PROFILE is $$PROFILE, but there is no $$PLOOMBER_ENV_FILENAME: choose sample, cpu, long or gpu."; exit 1; } >&2

# Programs and links of an old place are written anew; packages come from .venv/cache where it has them.
LOCKED = uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.txt
.venv/ready: requirements.txt pyproject.toml Makefile $(MOVED)
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, and none is on the path."; exit 1; } >&2
	$(if $(MOVED),rm -f $(BIN)/python* && "$(PYTHON)" -m venv .venv)
	python -m pip install --quiet --no-cache-dir $(UV)
	$(if $(MOVED),$(LOCKED) --reinstall --offline 2>/dev/null ||) $(LOCKED) $(if $(MOVED),--reinstall)
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@python -c '$(SETS)' $(QUIET) > "$$(python -c 'import site; print(site.getsitepackages()[0])')/cifake_quiet.pth"
	@echo $(IDENTITY) > $@
