# Everything a fresh clone needs: `make setup`, `make demo`, `make test`, `make check`.
# Only `setup` downloads; the rest uses what it left in .venv and in the user's cache directory.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test test-fast test-long check abuse bench-quick wheel-test clean

help:
	@echo "make setup   .venv with pinned dependencies, and the base model"
	@echo "make demo    the model reads 160,000 tokens and answers from memory; results in demo/"
	@echo "make test    the test suite"
	@echo "make test-long  the tests that take minutes: trainings of real weights, several processes"
	@echo "make test-fast  what needs no real weights and no other process, under a minute"
	@echo "make check   ruff, ruff format, mypy --strict"
	@echo "make abuse   attacks on memories for five minutes, and what they counted"
	@echo "make wheel-test    the package as pip gives it: built, installed with the newest of everything, used (needs an index)"
	@echo "make bench-quick   ratios against the paper's procedure, and bounds they must keep (under 3 minutes)"
	@echo "make clean   remove caches, build products and demo/ (.venv and the base model stay)"

setup: $(STAMP)
	$(BIN)/mplus fetch

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("mplus needs Python 3.11 or newer, $(PYTHON) is %d.%d; try: make setup PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/mplus demo --out demo

# Tests spread over the cores, the longest files first; then recorded references and attacks on memories.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not long" tests/e2e tests/contract tests/unit tests/goldens tests/parity tests/abuse

# What takes minutes and hardly ever breaks: trainings of real weights, several processes, a served load. Before every release.
test-long: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile -m long tests

# The laws that need no real weights; those that take long are marked `slow` or `e2e`. Before every commit.
test-fast: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) --dist loadfile -m "not e2e and not slow and not long" tests/unit tests/goldens

# Attacks on memories for five minutes; more: $(BIN)/python -m tests.abuse --minutes 60
abuse: setup
	$(BIN)/python -m tests.abuse

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Bounds lie well below what was measured (benchmarks/results): processors differ, and only ratios are compared.
bench-quick: setup
	$(BIN)/mplus bench quick --model mid --out build/bench-quick.json --check benchmarks/thresholds.json

# What was installed and seen is printed; TORCH=torch takes the newest torch as well.
wheel-test:
	PYTHON=$(PYTHON) .ci/wheel-test

clean:
	rm -rf build dist demo .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +
