# Every target makes its own .venv and installs what it needs, so each works on a fresh machine with Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
RUN := .venv/.installed-run
DEV := .venv/.installed-dev

.PHONY: benchmark test check lint types docs format perf clean

benchmark: $(RUN)  ## The main job: results/benchmark/report.html
	$(BIN)/histoforensics benchmark

test: $(DEV)  ## The test suite
	$(BIN)/pytest -q

check: lint types docs test  ## What a change must pass: format, lint, types, manual, tests (the wheel's among them)

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(DEV)
	$(BIN)/mypy

docs: $(DEV)  ## The manual as a site: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

perf: $(DEV)  ## Speed, as ratios measured in one run
	$(BIN)/python tests/perf/run.py

clean:
	rm -rf .venv build dist results site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; run: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

$(RUN): pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(DEV): pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(RUN)
