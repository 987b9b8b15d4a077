# The commands of CONTRIBUTING.md. They use the Python of .venv, or the one that PYTHON=... names
PYTHON ?= .venv/bin/python
export OMP_NUM_THREADS ?= 1

.PHONY: help setup lint fast check docs links tables

help:  ## list these targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 8

setup:  ## make .venv and install opttune for development
	python3 -m venv .venv
	.venv/bin/pip install --quiet --editable '.[test]'

lint:  ## ruff and mypy
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

fast: lint  ## lint, the project rules and the quick unit tests
	$(PYTHON) -m pytest -q -n 2 -m 'not slow' tests/project tests/unit

check: lint  ## what CI runs: lint and all tests
	$(PYTHON) -m pytest -n 3 --dist loadfile --reruns 1

docs:  ## build the docs into site/; a warning is an error
	$(PYTHON) -m sphinx -W --keep-going -q docs site

links:  ## follow the links of the docs to other sites (needs a network)
	$(PYTHON) -m sphinx -q -b linkcheck docs site/links

tables:  ## write the docs pages that come from the catalog and the tests
	$(PYTHON) docs/tables.py
