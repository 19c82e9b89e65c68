# The two commands of the README are `make search` and `make test`; each sets up .venv when it is missing or stale.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: search test test-slow test-cluster lint bench .venv

search: $(READY)
	$(BIN)/python study/run.py --search

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not cluster"

test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

# Clusters of several hosts on this one, by hand as it takes 13 minutes: needs root, iproute2, openssh-server, rsync, or skips and says what.
test-cluster: $(READY)
	$(BIN)/python -m pytest -m cluster -rs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy mdml datasets results study benchmarks

bench: $(READY)
	set -e; for script in benchmarks/*.py; do $(BIN)/python $$script; done

.venv: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, found %s: set PYTHON=" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)
