# Everything runs in .venv, which the first target that needs it creates from lock.txt: no compiler, no activation.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.9
CODE := bevstack/__init__.py bevstack/__main__.py bevstack/build.py bevstack/engine.py bevstack/model.py bevstack/doctor.py bevstack/weights_file.py bevstack/seed_statistics.py \
	bevstack/types bevstack/geometry bevstack/data bevstack/training bevstack/evaluation bevstack/cues bevstack/report bevstack/cli \
	perception fusion planning sim
# Torch and OpenMP spin against each other when several processes share few cores: one thread each is faster.
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo test test-slow check bench docs weights clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): lock.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))" \
	  || { echo "bevstack needs Python 3.11 or 3.12; say which with make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "setting up $(VENV) from lock.txt (about a minute and a half, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check "$$(grep '^torch==' lock.txt)" uv==$(UV_VERSION)
	@grep -v '^torch==' lock.txt > $(VENV)/lock-without-torch.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --system-certs --no-deps -r $(VENV)/lock-without-torch.txt \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r $(VENV)/lock-without-torch.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

setup: $(READY) ## make .venv from the exact lock (every other target does this by itself)

demo: $(READY) ## worlds, fine-tuning, evaluation and an HTML report, in a few minutes on two cores
	@$(BIN)/bevstack demo

test: $(READY) ## the default test suite
	@$(BIN)/python -m pytest

test-slow: $(READY) ## the tests that take more than half a minute each
	@$(BIN)/python -m pytest -m slow

check: $(READY) ## style, types and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(CODE)
	@$(BIN)/lint-imports

bench: $(READY) ## run the benchmarks; each prints its peer beside it and writes benchmarks/results/*.json
	@for suite in benchmarks/[a-z]*.py; do \
	  case $$suite in */common.py|*/schema.py) continue;; esac; echo "== $$suite"; $(BIN)/python $$suite || exit 1; done

weights: $(READY) ## train the shipped demo weights again, from worlds alone (some four hours on two cores, worlds included)
	@./benchmarks/train_demo_weights.sh

docs: $(READY) ## draw the figures of docs/ again
	@$(BIN)/python docs/draw_conventions.py

clean: ## remove caches and runs; keeps .venv and worlds
	rm -rf runs outputs .mypy_cache .ruff_cache .hypothesis .import_linter_cache .pytest_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
