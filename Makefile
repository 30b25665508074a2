# Every target needs only make, Python 3.11 or later and the package registry.
.DEFAULT_GOAL := help
.PHONY: help install demo test soak check lint types docs format translations pictures stories requirements client connect clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first of these that runs and is 3.11 or later makes .venv; name another with PYTHON=...
PYTHON := python3.11 python3.12 python3.13 python3.14 python3 python

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

# Worker processes of the tests; 0 runs them in one.
TEST_WORKERS := 2

# Kills on each store in `make soak`.
KILLS := 200

# A machine may forbid bytecode; importing MLflow without it takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

install: $(STAMP)  ## make .venv with everything in it, compiled (done once; again when a pin changes)

$(BIN)/python:
	@for candidate in $(PYTHON); do \
	  if "$$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$candidate" --version)"; \
	    exec "$$candidate" -m venv --clear $(VENV); \
	  fi; \
	done; \
	echo "Baton needs Python 3.11 or later, with its venv module. Tried: $(PYTHON)." >&2; \
	echo "Install one (Debian: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python" >&2; \
	exit 1

$(STAMP): $(BIN)/python requirements-uv.txt requirements-dev.txt pyproject.toml
	@rm -f $(STAMP)
	@{ $(PIP) -r requirements-uv.txt && $(BIN)/uv pip sync --quiet --system-certs --python $(BIN)/python \
	     --require-hashes --compile-bytecode requirements-dev.txt; } \
	  || { echo "uv did not install it; trying pip, which takes longer"; $(PIP) -r requirements-dev.txt; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q $(BIN)/../lib learning experiments service || true
	@touch $(STAMP)
	@echo "installed in $(VENV); try: make demo, or $(BIN)/baton --help"

demo: $(STAMP)  ## install, then run everything on this machine with simulated customers and agents
	@$(BIN)/baton demo

test: $(STAMP)  ## install, then run all tests
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

pictures: $(STAMP)  ## take the README's pictures of the console anew; needs a browser
	@$(BIN)/python -m tests.browser.pictures docs

stories: $(STAMP)  ## play four stories with MLflow and picture its pages at their end; needs a browser
	@$(BIN)/python -m tests.browser.stories .stories

soak: $(STAMP)  ## the long tests: 200 kills under load on each store (KILLS=200), all benchmarks; takes an hour
	@BATON_TEST_KILLS=$(KILLS) $(BIN)/python -m pytest --timeout 7200 -m "soak or long" -p no:randomly

lint: $(STAMP)  ## style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)  ## strict types
	@$(BIN)/mypy

docs: $(STAMP)  ## write the reference pages and build the site, strictly, into build/docs
	@$(BIN)/python -m docs.generate
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "the site is in build/docs: open its index.html, or serve it to search, too"

check: lint types docs test  ## what CI does

format: $(STAMP)  ## rewrite the code in the project's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

CATALOGUES := service/web/console/language/catalogues
POT := $(VENV)/console.pot

translations: $(STAMP)  ## put the console's new texts into each language's catalogue, to be translated there
	@$(BIN)/pybabel -q extract -F pyproject.toml --add-location=file --sort-by-file --no-wrap -o $(POT) .
	@for file in $(CATALOGUES)/*.po; do \
	  $(BIN)/pybabel -q update -i $(POT) -o $$file -l $$(basename $$file .po) --no-wrap --no-fuzzy-matching \
	    --ignore-obsolete --ignore-pot-creation-date; \
	done

# Exact versions with hashes, for every platform, and no address of a registry.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
  --generate-hashes --only-binary :all: --no-emit-index-url --no-header --no-annotate

requirements: $(STAMP)  ## pin again after changing pyproject.toml (UPGRADE=--upgrade takes newer ones)
	$(LOCK) $(UPGRADE) pyproject.toml --output-file requirements.txt
	$(LOCK) $(UPGRADE) pyproject.toml --extra dev --constraint requirements.txt --output-file requirements-dev.txt
	echo uv | $(LOCK) $(UPGRADE) - --constraint requirements-dev.txt --output-file requirements-uv.txt
	printf '%s\n' httpx langgraph openai-agents pydantic-ai-slim \
	  | $(LOCK) $(UPGRADE) - --output-file tests/connect/requirements-agents.txt
	echo rasa-sdk | $(LOCK) $(UPGRADE) - --output-file tests/connect/requirements-rasa.txt

client: $(STAMP)  ## build the client's wheel, baton-client, into dist
	@cd service/client && $(CURDIR)/$(BIN)/python -m hatchling build --target wheel --directory $(CURDIR)/dist

connect: $(STAMP) client  ## other systems really run, each in an environment of its own: agents of language models, Rasa
	@$(BIN)/python -m tests.connect

clean:  ## remove .venv and every cache (stores in .baton stay)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find learning experiments service tests -name __pycache__ -type d -prune -exec rm -rf {} +
