# Every target makes its own environment; nothing is needed but Python >= 3.11 and make.
#
#   make demo         draw the demo data, train baseline and LUAB, evaluate both, print the table
#   make demo-seeds   the same with the Rand control and three seeds: the table of the README
#   make test         the whole test suite
#   make lint         ruff and pyright
#   make lock         resolve requirements.lock anew

PYTHON ?= python3
OUT ?= demo_out
BIN := .venv/bin
STAMP := .venv/installed
export JAX_PLATFORMS ?=

.PHONY: demo demo-seeds test lint format lock clean

$(STAMP): requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, $(PYTHON) is older; try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $(STAMP)

demo: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash demo.sh $(OUT) "none click_last" "0"

demo-seeds: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash demo.sh $(OUT) "none click_last random" "1 2 3"

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:
	uv pip compile setup.cfg --extra test --universal --python-version 3.11 --constraint constraints.txt \
	  --no-header --output-file requirements.lock

clean:
	rm -rf .venv demo_out .pytest_cache .ruff_cache .hypothesis *.egg-info
