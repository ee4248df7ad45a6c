# Every target makes its own environment; nothing is needed but Python >= 3.11 and make.
#
#   make demo         draw the demo data, train baseline and LUAB, evaluate both, print the table
#   make demo-seeds   the same with the matched Rand control and three seeds: the table of the README
#   make collect-demo annotate drawn pictures in the browser: a server on this machine, its link is printed
#   make test         the whole test suite
#   make test-newest  the same with the newest packages that setup.cfg allows, in an environment of its own
#   make lint         ruff and pyright
#   make wheel        build the wheel and try it in empty environments (Python 3.11, and 3.12, 3.13 where installed)
#   make lock         resolve requirements.lock (what a user needs) and requirements-test.lock anew

PYTHON ?= python3
OUT ?= demo_out
BIN := .venv/bin
STAMP := .venv/installed
COLLECT_STAMP := .venv/installed-collect
TEST_STAMP := .venv/installed-test
export JAX_PLATFORMS ?=

.PHONY: demo demo-seeds collect-demo test test-newest lint format wheel lock clean

$(STAMP): requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, $(PYTHON) is older; try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $(STAMP)

# The locks agree on every package that both name: requirements-test.lock adds to the other, and has what the server for
# collecting needs. The package itself is there already; its name with the extra adds what is missing.
$(COLLECT_STAMP): $(STAMP) requirements-test.lock
	$(BIN)/python -m pip install --quiet --constraint requirements-test.lock --editable '.[collect]'
	@touch $(COLLECT_STAMP)

$(TEST_STAMP): $(STAMP) requirements-test.lock
	$(BIN)/python -m pip install --quiet --requirement requirements-test.lock
	@touch $(TEST_STAMP)

demo: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash demo.sh $(OUT) "none click_last" "0"

demo-seeds: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash demo.sh $(OUT) "none click_last random" "1 2 3"

collect-demo: $(COLLECT_STAMP)
	@$(BIN)/python -m data_prep collect demo $(OUT)/collect

test: $(TEST_STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile $(ARGS)

# Not from the locks, and resolved anew every time: what a user gets who installs today.
test-newest:
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --editable '.[test,collect]'
	.venv-newest/bin/python -m pytest -n auto --maxprocesses=4 --dist loadfile $(ARGS)

lint: $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(TEST_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(TEST_STAMP)
	BIN="$(CURDIR)/$(BIN)" bash tools/wheel.sh

lock:
	uv pip compile setup.cfg --extra test --extra collect --universal --python-version 3.11 \
	  --no-header --output-file requirements-test.lock
	uv pip compile setup.cfg --universal --python-version 3.11 --constraint requirements-test.lock \
	  --no-header --output-file requirements.lock

clean:
	rm -rf .venv .venv-newest demo_out .pytest_cache .ruff_cache .hypothesis *.egg-info
