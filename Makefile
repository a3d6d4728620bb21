# make repro   the default experiment, from the embedded ocean to a scored emulator
# make test    lint, types and the fast tests
# The rest is what CI calls besides.

SHELL := bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

.PHONY: help install repro test short integration benchmarks

help:
	@echo "make repro        prepare, train, evaluate and compare the default experiment; then print its scores"
	@echo "make test         lint, type check and the fast tests"
	@echo "make short        the same pipeline in build/short, trained for minutes less"
	@echo "make integration  the tests that run DVC, MLflow and whole pipelines"
	@echo "make benchmarks   what things cost, as ratios; fails where one is over its bar"

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$($(PYTHON) --version) is too old: Python 3.11 or later is needed (make PYTHON=python3.12 …)" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

repro: install
	dvc repro
	ocean-emulators report

test: install
	ruff check .
	ruff format --check .
	mypy
	pytest

short: install
	rm -rf build/short
	git clone --quiet . build/short
	cd build/short && ocean-emulators configure sample train.epochs=3 && dvc repro && ocean-emulators report

integration: install
	pytest --override-ini addopts=-q tests/integration

benchmarks: install
	missed=; for script in data step models; do \
		echo "$$script"; python benchmarks/$$script.py --quick --check || missed="$$missed $$script"; \
	done; [ -z "$$missed" ] || { echo "missed a bar, or failed:$$missed" >&2; exit 1; }
