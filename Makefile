# Words: setup demo quick test slow zoo check bench chaos fuzz clean. `make demo` and `make test` do their own set-up.
PYTHON ?= python3
BIN := .venv/bin
DEMO_HOME ?= .tightfit-demo
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo quick test slow zoo check bench chaos fuzz clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tightfit needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/tightfit demo --home $(DEMO_HOME)

quick: check
	$(BIN)/python -m pytest --quick $(PARALLEL)

test: check
	$(BIN)/python -m pytest $(PARALLEL)

slow: check
	$(BIN)/python -m pytest --slow $(PARALLEL)

zoo: setup
	$(BIN)/python -m tests.families.whole_path --whole --write

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python benchmarks/front_vs_uniform.py

chaos: setup
	$(BIN)/python -m tests.chaos.campaign --kills 100
	$(BIN)/python -m tests.chaos.own_ray --each 10
	$(BIN)/python -m tests.chaos.served --kills 20

fuzz: setup
	$(BIN)/python -m tests.fuzz.campaign --inputs 5000

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
