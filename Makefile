# Everything sets itself up: only python3, make and git are assumed.
.PHONY: setup setup-dev demo test lint fix clean

VENV := .venv
BIN := $(VENV)/bin

setup:
	@scripts/setup runtime

setup-dev:
	@scripts/setup dev

demo: setup
	@scripts/demo

test: setup-dev
	@$(BIN)/python -m pytest $(ARGS)

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline --profile production -q

fix: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .ansible
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
