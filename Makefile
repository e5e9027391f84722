# Everything goes through .venv: a fresh machine needs Python 3.11+ and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests at a time: each of these processes starts servers of its own.
JOBS ?= 2
IN ?= prompts.jsonl
OUT ?= answers.jsonl

.DEFAULT_GOAL := help
.PHONY: help install demo run test soak check format types lint contracts fast bench bench-pacing bench-quality docs clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

install: $(STAMP) ## Make .venv with everything in it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "promptmill needs Python 3.11 or later, this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once; takes a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install ## Answer 220 real prompts at a paced rate, free, against a simulator: about a minute
	@$(BIN)/promptmill demo

run: install ## Answer IN=prompts.jsonl into OUT=answers.jsonl with the real API (needs ANTHROPIC_API_KEY)
	@$(BIN)/promptmill run $(IN) --out $(OUT)

test: install ## All tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

soak: install ## Twenty times as many random cases, others each time, and the tests that take minutes to hours
	@$(BIN)/python -m pytest -m "hypothesis or soak" --hypothesis-profile=soak -o timeout=0

check: install format lint types contracts fast ## What CI runs first: format, lint, types, import contracts, fast tests

format:
	@$(BIN)/ruff format --check .

lint:
	@$(BIN)/ruff check .

types:
	@$(BIN)/mypy

contracts:
	@$(BIN)/lint-imports

fast:
	@$(BIN)/python -m pytest -q -n $(JOBS) tests/unit tests/architecture

bench: install ## Benchmarks: ratios measured side by side in one run
	@$(BIN)/python -m tests.bench

bench-pacing: install ## Use of the limit and 429s, ours beside three usual pacers; CASES="600-* lanes" runs some
	@$(BIN)/python -m tests.bench pacing $(CASES)

bench-quality: install ## The incident of 2025 replayed: how soon worse answers are noticed, and false alarms
	@$(BIN)/python -m tests.bench.quality $(SEEDS)

docs: install ## Write the generated pages of docs/
	@$(BIN)/python docs/generate.py

clean: ## Remove .venv and caches (never the data directory)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
