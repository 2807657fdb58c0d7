# make results   set up and run the default study
# make test      set up and run the tests
# make lint      set up and run the linters and the type checker
# make verify    check every result against the sums that were taken when it was written
# make archive   a finished study in one file, STUDY=results/NAME
# make wheel     dist/immunization-VERSION-py3-none-any.whl, which carries the workflow
# make audit     known faults of the packages
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
# Files of tests that run at a time: one more than two cores, since some mostly wait.
AT_ONCE ?= 3
# Config files, and options of Snakemake: ARGS="config/paper.yaml --keep-going".
ARGS ?=

.DELETE_ON_ERROR:
.PHONY: results report verify archive wheel test lint audit format clean

results: $(VENV)/.ready
	$(BIN)/immunization run $(ARGS)

# Every file of every finished study, or of one: make verify STUDY=results/default
STUDY ?= $(dir $(wildcard results/*/SHA256SUMS))
verify: $(VENV)/.ready
	$(BIN)/python -m immunization verify $(STUDY)

# A finished study in one file, to be regenerated elsewhere: make archive STUDY=results/default
archive: $(VENV)/.ready
	$(BIN)/python -m immunization archive $(STUDY)

wheel: $(VENV)/.ready
	$(BIN)/python -m hatchling build -t wheel

# Snakemake's own report of the study, with captions and run times, as one zip.
report: results
	$(BIN)/immunization run $(ARGS) --report results/report.zip

test: $(VENV)/.ready
	$(BIN)/python -m slipcover --json --out $(VENV)/coverage.json \
		-m pytest -n $(AT_ONCE) --dist loadfile --no-loadscope-reorder
	@# In a call of its own: slipcover 1.1 loses what xdist's workers saw where it also checks.
	$(BIN)/python -m slipcover --merge $(VENV)/coverage.json --out $(VENV)/coverage.json \
		--skip-covered --fail-under 93

lint: $(VENV)/.ready-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check --compact-diff Snakefile workflow
	$(BIN)/mypy

# Known faults of what is installed, from the public advisories; wants the network.
audit: $(VENV)/.ready
	test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit \
		&& $(VENV)/audit/bin/pip install --quiet pip-audit; }
	$(BIN)/pip freeze --exclude-editable | sed 's/+[^ ]*$$//' > $(VENV)/audit/frozen.txt
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip -r $(VENV)/audit/frozen.txt

format: $(VENV)/.ready-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[workflow,networks,test]'
	@# Stages write no bytecode: a disk that is full would keep half a file.
	$(BIN)/python -m compileall -q src
	touch $@

$(VENV)/.ready-lint: $(VENV)/.ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[workflow,networks,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
