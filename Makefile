# Everything sets itself up: only python3, make and git are assumed.
.PHONY: setup setup-dev demo test storm fuzz outside agents bench molecule lint fix clean

# Every command here starts many Pythons; each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

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

# Twenty seeded storms, the provider's death in every phase, ledgers that go back in time, 200 storms over the user's own
# commits, and 20 ships that eat all memory. Takes about an hour.
storm: setup-dev
	@OCAPTAIN_STORM=1 $(BIN)/python -m pytest tests/voyage/test_storms.py tests/voyage/test_older_ledger.py \
	  tests/drydock/test_neighbours.py tests/unit/test_local_machine.py tests/voyage/test_kill_matrix.py::test_the_provider_dies --timeout 3600 $(ARGS)

# Ten times as many random calls and frames as the suite has.
fuzz: setup-dev
	@OCAPTAIN_FUZZ=10000 $(BIN)/python -m pytest tests/drydock/test_fuzz.py --timeout 7200 $(ARGS)

# The tests of Claude Code with the newest version that npm has; `make agents CLAUDE_VERSION=2.1.330` names another.
agents: setup-dev
	@version="$(CLAUDE_VERSION)"; version="$${version:-$$(npm view @anthropic-ai/claude-code version)}"; \
	  echo "Claude Code $$version"; \
	  OCAPTAIN_TEST_CLAUDE="$$version" $(BIN)/python -m pytest tests/claude $(ARGS)

# What needs more than the suite has: OpenTelemetry's collector, built from Go modules (needs Go); every supported pair of
# Python and ansible-core, and of ships' Pythons, that this machine has the interpreters for; every pair of lines of
# others' configurations of Ansible, with PyPI's package `ansible`; Debian's fish and tcsh. Takes an hour.
outside: setup-dev
	@OCAPTAIN_OUTSIDE=1 $(BIN)/python -m pytest -n 0 tests/outside tests/voyage/test_worker_pythons.py $(ARGS)

# What is claimed of speed, measured: SECTION is landing, makespan, scale, hostile, claims, sail, drydock, screens or telemetry. Prints JSON.
bench: setup-dev
	@test -f "benchmarks/$(SECTION).py" || { echo "name one: make bench SECTION=landing|makespan|scale|hostile|claims|sail|drydock|screens|telemetry" >&2; exit 2; }
	@$(BIN)/python "benchmarks/$(SECTION).py" $(ARGS)

# The roles on drydock, by molecule; the drydock is this target's own.
molecule: setup-dev
	@scripts/molecule

# A linter has no hosts that a play's pattern could match.
lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	ANSIBLE_HOST_PATTERN_MISMATCH=warning PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline --profile production -q

fix: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .ansible
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
