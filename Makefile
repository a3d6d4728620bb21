# make repro   the default experiment, from the embedded ocean to a scored emulator
# make test    lint, types and the fast tests
# The rest is what CI calls besides.

SHELL := bash
.DEFAULT_GOAL := help
PYTHON := $(or $(PYTHON),$(shell command -v python3))
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
# Else each of many processes would compile torch's Python anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install repro test short integration benchmarks

help:
	@echo "make repro        prepare, train, evaluate and compare the default experiment; then print its scores"
	@echo "make test         lint, type check and the fast tests"
	@echo "make short        the same pipeline in build/short, trained for minutes less"
	@echo "make integration  the tests that run DVC, MLflow and whole pipelines"
	@echo "make benchmarks   what things cost, as ratios; fails where one is over its bar"

install: .venv/installed

# An environment of another Python, or of one that is gone, is made anew.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$($(PYTHON) --version) is too old: Python 3.11 or later is needed (make PYTHON=python3.12 …)" >&2; exit 2; }
	@[ "$$($(BIN)/python --version 2>&1)" = "$$($(PYTHON) --version)" ] || $(PYTHON) -m venv --clear .venv
	@$(by_uv) $(packages) || { echo "not by uv: pip takes minutes" >&2; $(BIN)/python -m pip install --quiet $(packages); }
	touch $@

packages := --constraint constraints.txt --editable '.[dev]'
# uv takes seconds, but reads none of pip's settings: it is told where pip finds packages.
pip_finds = $$($(BIN)/python -m pip config list | sed -n "s/.*[.]$(1)='\(.*\)'/\1/p" | sed 's/\\n/ /g' | xargs)
by_uv = { command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv; } && links="$(call pip_finds,find-links)" && \
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$${links// /,}}" UV_INDEX_STRATEGY=unsafe-best-match \
	UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$(call pip_finds,index-url)}" \
	UV_EXTRA_INDEX_URL="$${UV_EXTRA_INDEX_URL:-$(call pip_finds,extra-index-url)}" \
	uv pip install --quiet --python $(BIN)/python

side_by_side := --numprocesses auto --maxprocesses 4 --dist loadfile

repro: install
	dvc repro
	ocean-emulators report

test: install
	ruff check .
	ruff format --check .
	mypy
	pytest $(side_by_side)

short: install
	rm -rf build/short
	git clone --quiet . build/short
	cd build/short && ocean-emulators configure sample train.epochs=3 && dvc repro && ocean-emulators report

integration: install
	pytest $(side_by_side) --override-ini addopts=-q tests/integration

benchmarks: install
	missed=; for script in data step models training slurm tracking; do \
		echo "$$script"; PYTHONPATH=. python benchmarks/$$script.py --quick --check || missed="$$missed $$script"; \
	done; [ -z "$$missed" ] || { echo "missed a bar, or failed:$$missed" >&2; exit 1; }
