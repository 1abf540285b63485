# Every target does the set-up it needs: `make tune` and `make test` work on a fresh checkout.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SPACE ?= mixup_alpha
ARGS ?=

.PHONY: tune test test-fast lint format bench clean

tune: $(READY)
	$(BIN)/python -m raymia.tune --space $(SPACE) $(ARGS)

test: $(READY) lint browser
	$(BIN)/python -m pytest $(ARGS)

test-fast: $(READY)
	$(BIN)/python -m pytest -m "not slow and not cluster and not browser" $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python -m benchmarks

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

# One test opens the MLflow UI in a real browser, one checks the shell scripts; Debian packages both.
.PHONY: browser
browser:
	@test -x /usr/bin/chromium -a -x /usr/bin/chromedriver -a -x /usr/bin/shellcheck || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver shellcheck; \
	else echo "chromium, chromium-driver or shellcheck is missing: their tests will be skipped"; fi
