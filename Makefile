# Everything runs in a local virtual environment; nothing is installed elsewhere.
VENV ?= .venv
# the first interpreter that is 3.11 or later and can make virtual environments
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python3.15 python; do \
	$$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := $(VENV)/bin
EXTRAS ?= test
CONSTRAINT ?=
SELECT ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet $(if $(CONSTRAINT),-c $(CONSTRAINT))

.PHONY: help demo test lint unit docs notebooks bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       the main job on real spectra, in seconds"
	@echo "make test       ruff, mypy --strict and all tests"
	@echo "make docs       the documentation, in docs/_build/html"
	@echo "make notebooks  run the notebooks from top to bottom"
	@echo "make bench      the benchmarks, and their table in docs/benchmarks.md"
	@echo "make clean      remove what the others made"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later with the venv module is needed." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# one stamp per extra, renewed when the requirements change
$(VENV)/.%: pyproject.toml README.md | $(BIN)/python
	$(PIP) -e ".[$*]"
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/spectroxr demo

test: lint unit

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 $(SELECT)

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

notebooks: $(VENV)/.docs
	$(BIN)/python -m pytest -q notebooks/run_notebooks.py

bench: $(VENV)/.test
	$(BIN)/python benchmarks/run.py --table docs/benchmarks.md

clean:
	rm -rf $(VENV) docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
