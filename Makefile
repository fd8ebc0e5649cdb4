# make demo    install, train QMIX on the battle map 3m, and say how to look at it (minutes); DEVICES=2 for two processes
# make test    install, and run the tests
# make slow    the learning tests that take minutes
# make lint    style, types and import contracts
# make bench   the benchmarks

PYTHON ?= python3
DEVICES ?= 1
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

export OMP_NUM_THREADS ?= 1

.PHONY: demo test slow lint bench

demo: $(VENV)/installed
	$(BIN)/qmix fit --config recipes/battle/3m.yaml --trainer.devices $(DEVICES)

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Expected Python 3.11 or later: make PYTHON=...")'
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[dev]'
	@touch $@
