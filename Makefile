# Every target sets up what it needs in .venv, once. Only Python 3.11 or newer is asked for; PYTHON= names another one.
#
#   make studio   the studio in your browser          make quick    tests without browser and processes, in 90 s
#   make demo     example photos to adapter, no UI    make test     all tests that need no reference models
#   make bench    the figures of README               make interop  the tests against torch, diffusers, mflux
#   make lint     style and types                     make eval PHOTOS=DIR   train each subject in DIR, judge pictures
#   make eval-vision PHOTOS=DIR   what the analysis of photos finds, against boxes drawn by a person

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help studio demo quick test interop lint bench eval eval-vision knobs clean

FITS := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)

# On Linux MLX comes in two builds: EXTRA=cuda13 takes the one for NVIDIA cards. On a Mac there is one.
EXTRA ?= $(if $(filter Linux,$(shell uname -s)),cpu)
ALL_OF_US := -e ".$(if $(EXTRA),[$(EXTRA)])"

VENV := .venv
MFLUX := .venv-mflux
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUN := $(VENV)/.run-$(EXTRA)
OUT ?= demo-out

help:
	@sed -n '2,7s/^# \{0,1\}//p' Makefile

studio: $(RUN)
	$(BIN)/likeness

demo: $(RUN)
	$(BIN)/likeness demo --out $(OUT)

# Three at a time: many tests wait, for a process or a page. tests/conftest.py keeps those with a browser on one of them.
TESTS := $(BIN)/python -m pytest --ignore=tests/interop --numprocesses=3

quick: $(VENV)/.test
	$(TESTS) --ignore=tests/e2e -m "not browser and not slow"

test: $(VENV)/.test
	$(TESTS)

interop: $(VENV)/.interop $(MFLUX)/.ready
	$(BIN)/python -m pytest tests/interop --numprocesses=2 -W default  # the references warn about themselves

lint: $(RUN) $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Not among them are what takes a card (full_size, text_encoding, kernels, saving, distributed) and against_mlx_examples,
# which is given a clone of that repository: python -m bench.against_mlx_examples mlx-examples/flux --small
bench: $(VENV)/.test $(MFLUX)/.ready
	$(BIN)/python -m bench.openblas
	$(BIN)/python -m bench.exponentials
	$(BIN)/python -m bench.step_time
	$(BIN)/python -m bench.loading
	$(BIN)/python -m bench.precision
	$(BIN)/python -m bench.memory_estimate
	$(BIN)/python -m bench.first_page
	$(BIN)/python -m bench.readable_loss
	$(BIN)/python -m bench.against_mflux
	$(BIN)/python -m bench.cost_curves

eval: $(RUN)
	@test -n "$(PHOTOS)" || { echo "Say where the photos are: make eval PHOTOS=DIR, with one folder for each subject."; exit 2; }
	$(BIN)/python -m bench.eval_subjects "$(PHOTOS)"

eval-vision: $(RUN)
	@test -n "$(PHOTOS)" || { echo "Say where the photos are: make eval-vision PHOTOS=DIR, with a folder for each subject."; \
		exit 2; }
	$(BIN)/python -m bench.eval_vision "$(PHOTOS)"

knobs: $(RUN)
	$(BIN)/python docs/make_knobs.py

clean:
	rm -rf $(VENV) $(MFLUX) build dist .pytest_cache .ruff_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Likeness needs Python 3.11 or newer; make PYTHON=/path/to/python3 names one."; exit 2; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "This Python cannot make virtual environments; on Debian: apt install python3-venv"; exit 2; }
	$(PIP) install --quiet --upgrade "pip>=25.1"

$(RUN): pyproject.toml | $(BIN)/python
	$(PIP) install --quiet $(ALL_OF_US)
	@touch $@

$(VENV)/.test: pyproject.toml $(RUN)
	$(PIP) install --quiet --group test
	@touch $@

$(VENV)/.lint: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --group lint
	@touch $@

# torch first and by itself: from PyPI its Linux build brings gigabytes of CUDA; an index that holds the CPU build,
# named in PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS, spares them.
$(VENV)/.interop: pyproject.toml $(VENV)/.test
	$(PIP) install --quiet torch==2.13.0
	$(PIP) install --quiet --group interop
	@touch $@

# mflux pins a build of MLX that excludes ours, and brings torch for what is not asked of it here: so it has an
# environment of its own, with what its networks, its trainer and ours import, and nothing that it asks for beside.
$(MFLUX)/.ready: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv --without-pip $(MFLUX)
	$(PIP) --python $(MFLUX)/bin/python install --quiet --group mflux
	$(PIP) --python $(MFLUX)/bin/python install --quiet --no-deps mflux==0.24.0
	@touch $@
