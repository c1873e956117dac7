# SPDX-License-Identifier: Apache-2.0
# Two commands on a fresh machine: `make demo`, `make test`. Each sets up .venv by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Processes of pytest-xdist: `make test WORKERS=0` runs in one process, for a debugger.
WORKERS ?= logical
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

.PHONY: setup demo lint test test-all check coverage mutation smoke bench constraints clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); sys.exit(0 if ok else f"wsi_mil needs python 3.11 to 3.13, {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/wsi-mil demo

# The default tier: minutes.
test: setup
	$(PYTEST)

# Every tier that needs neither a GPU nor the internet.
test-all: setup
	$(PYTEST) -m 'not gpu and not network'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What to run before you stop: CI runs `lint` and `test-all`.
check: lint test

# Lines and branches that the default tier runs: a table here, and a page for each file in htmlcov/.
coverage: setup
	$(PYTEST) --cov --cov-report term:skip-covered --cov-report html

# How many small faults the tests notice (docs/testing.md): about half an hour on one core.
mutation: setup
	$(BIN)/python tests/mutation.py

# The Dockerfile's steps in a clean virtual environment: needs no container engine.
smoke: setup
	$(BIN)/python docker/smoke.py

bench: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/aggregators.py
	$(BIN)/python benchmarks/extraction.py --backends torch openvino
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/second_run.py
	$(BIN)/python benchmarks/tissue.py
	$(BIN)/python benchmarks/stains.py
	$(BIN)/python benchmarks/stains_peers.py
	$(BIN)/python benchmarks/stores.py
	$(BIN)/python benchmarks/spatial.py

# Take the newest releases of everything, then write down what came: names and versions only.
constraints:
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python --upgrade --editable '.[dev,bench]'
	$(BIN)/uv pip freeze --exclude-editable | grep -E '^[A-Za-z0-9_.-]+==' | grep -v '^uv==' > constraints.txt
	touch $(READY)

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .coverage htmlcov mutants
