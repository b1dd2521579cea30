# make setup | demo | test | lint | docs | dist | clean.  Python 3.11 and make are all that is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.parlab-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
ESPNET := espnet==202511
TESTS ?=

.PHONY: setup demo test lint format docs dist clean
.DEFAULT_GOAL := help
.PHONY: help
help:
	@sed -n 1p Makefile

setup: $(STAMP)

# The stamp carries the checksum of what is to be installed: nothing is done twice, and a change is installed.
# torch is named by constraints.txt in the same pip call as the rest, so that one torch is chosen, once.
$(STAMP):
	@test -n "$(PYTHON)" || { echo "error: no python3 found; install Python 3.11 or run make PYTHON=/path/to/python" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 13) else f"error: Python {v.major}.{v.minor} found, expected 3.11 to 3.13; run make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev,docs,lora,release,whisper,workspace]'
	$(BIN)/python -m pip install --no-deps $(ESPNET)
	@rm -f $(VENV)/.parlab-*
	@touch $@

demo: setup
	$(BIN)/python -m parlab demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal $(TESTS)

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check --quiet .
	$(BIN)/python -m mypy

format: setup
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# The site in site/: no warning is allowed, and nothing is fetched.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# Wheel and sdist in dist/, as they would be published.
dist: setup
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find parlab tests -name __pycache__ -type d -prune -exec rm -rf {} +
