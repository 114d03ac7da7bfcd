# Everything runs in .venv, which the first target that needs it makes from the hash-checked requirements.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIN := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --upgrade

.DEFAULT_GOAL := help
.PHONY: help demo test faults acceptance lint check format bench requirements clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

demo: $(READY) ## Run the main job on this machine: broker, S3, platform and one worker
	@$(BIN)/hash-worker demo $(ARGS)

# Tests wait now and then, so one more runs at once than there are cores. ARGS=--cov-report=term-missing names the
# lines that no test process ran.
test: $(READY) ## Run all tests, with coverage
	$(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist loadscope --cov --cov-report= --tb=short \
		--ignore=tests/faults --ignore=tests/compose $(ARGS)

# Most of the scenarios wait most of the time, so more of them run at once than there are cores.
faults: $(READY) ## Break everything and count what was lost (FAULT_MINUTES=…: longer; FAULT_SEED=…: the same again)
	@$(BIN)/python -m pytest tests/faults -q -n 5 --maxschedchunk 1 --tb=short $(ARGS); status=$$?; \
		$(BIN)/python -m tests.faults.summary && exit $$status

acceptance: $(READY) ## Build the images and run docker-compose.yml for real (needs Docker; chromium for Flower's pages)
	@$(BIN)/python -m pytest tests/compose -n 0 --timeout 600 $(ARGS)

lint: $(READY) ## Check style, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test faults ## Do what CI does

format: $(READY) ## Put the code into its form
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format .

bench: $(VENV)/.bench-ready ## Measure against other ways to hash (SCALING=1, WORKERS=1, FILES=1000000 or BEHIND=1: other curves)
	@$(BIN)/python -m $(or $(if $(SCALING),bench.scaling),$(if $(WORKERS),bench.many_workers),\
		$(if $(FILES),bench.million),$(if $(BEHIND),bench.small_behind_large),bench)

requirements: ## Pin the newest versions that pyproject.toml allows (needs uv)
	$(PIN) pyproject.toml -o requirements/worker.txt
	$(PIN) --extra dev -c requirements/worker.txt pyproject.toml -o requirements/dev.txt
	$(PIN) --extra flower -c requirements/dev.txt pyproject.toml -o requirements/flower.txt
	$(PIN) --extra local -c requirements/dev.txt pyproject.toml -o requirements/local.txt
	$(PIN) --extra bench -c requirements/dev.txt pyproject.toml -o requirements/bench.txt
	echo hatchling | $(PIN) -c requirements/dev.txt - -o requirements/build.txt

clean: ## Remove what was made
	rm -rf $(VENV) build dist .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.13" >&2; exit 1; }
	@echo "Setting up $(VENV) …" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.bench-ready: $(READY) requirements/bench.txt
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@
