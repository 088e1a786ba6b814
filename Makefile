# make demo    the lab on this machine, from nothing
# make check   what to run before a commit: formatting, types, fast tests
# make test    the tests, the browser's included where there is one
# make thorough   the tests that take a machine for minutes: clusters, shared trainings, kills in every stage
# make bench   the numbers the README quotes
PYTHON    ?= python3
PIP_FLAGS ?=
VENV      := .venv
BIN       := $(VENV)/bin
# Tests and trainings share the cores among processes; threads inside each of them only stall one another.
TEST_ENV  := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo check lint fast test thorough bench

demo: $(VENV)/installed
	$(BIN)/python app.py

check: lint fast

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: $(VENV)/installed-dev
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser and not vllm"

# The browser's tests keep an event loop running in their process, which others' must not share.
test: $(VENV)/installed-dev
	@.ci/browser || [ "$$CI" != true ] || { echo "CI must run the browser tests"; exit 1; }
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile -m "not vllm and not browser and not thorough"
	@if .ci/browser; then $(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile -m "browser"; fi

thorough: $(VENV)/installed-dev
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile -m "thorough and not vllm"

bench: $(VENV)/installed-dev
	@for script in bench/*.py; do echo "== $$script"; $(TEST_ENV) $(BIN)/python $$script || exit 1; done

# A stamp is newer than what it was made from: a second make installs nothing.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet $(PIP_FLAGS) -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $(VENV)/installed $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "SynPO Lab needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
