# make results   set up and run the default study
# make test      set up and run the tests
# make lint      set up and run the linters and the type checker
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
# Further arguments for Snakemake, such as ARGS="--configfile config/paper.yaml".
ARGS ?=

.DELETE_ON_ERROR:
.PHONY: results report test lint format clean

results: $(VENV)/.ready
	$(BIN)/snakemake --cores all $(ARGS)

# Snakemake's own report of the study, with captions and run times, as one zip.
report: results
	$(BIN)/snakemake --report results/report.zip $(ARGS)

test: $(VENV)/.ready
	$(BIN)/pytest --cov --cov-report=term:skip-covered --cov-fail-under=90

lint: $(VENV)/.ready-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check --compact-diff Snakefile workflow
	$(BIN)/mypy

format: $(VENV)/.ready-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[workflow,networks,test]'
	touch $@

$(VENV)/.ready-lint: $(VENV)/.ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[workflow,networks,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
