# The project's own commands. `make setup` needs only Python 3.11+ with venv; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV ?= uv
WORKERS ?= auto
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test lint bench prism trial serve lock clean

setup: $(VENV)/.dev

$(VENV)/.runtime: locks/runtime.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-deps --require-hashes -r locks/runtime.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: locks/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-deps --require-hashes -r locks/dev.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime
	$(BIN)/retain demo

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pip check

# An independent check of every request against the providers' descriptions (needs npm, and RETAIN_TEST_SPECS where the
# descriptions do not lie in ../shared/specs).
PRISM := build/prism/node_modules/.bin/prism
$(PRISM):
	npm install --silent --no-audit --no-fund --prefix build/prism @stoplight/prism-cli@5.14.2

prism: setup $(PRISM)
	RETAIN_TEST_REQUIRE=prism,specs $(BIN)/python -m pytest -q -m prism tests/channels/test_prism.py

# 6,000 messages on SQLite and on PostgreSQL while at least 80 workers are killed; the usual test sends 1,500.
trial: setup
	RETAIN_TEST_TRIAL=full $(BIN)/python -m pytest -q -rP tests/invariants/test_kill_trial.py

bench: setup
	$(BIN)/python -m benchmarks

serve: $(VENV)/.runtime
	$(BIN)/retain serve

# Renew the locked dependencies (needs uv). The lock files hold hashes and no index address.
lock:
	$(UV) pip compile pyproject.toml --extra build --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate --generate-hashes -q -o locks/runtime.txt
	$(UV) pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate --generate-hashes -q -o locks/dev.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
