# Two commands that do everything on a machine with Python and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/.installed
	@echo "== graphflow demo"
	$(BIN)/graphflow demo

test: $(VENV)/.installed
	@echo "== tests"
	$(BIN)/python -m pytest -q

lint: $(VENV)/.installed
	@echo "== ruff"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo "== mypy"
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml
	@echo "== creating $(VENV) and installing graphflow (once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test,dev]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
