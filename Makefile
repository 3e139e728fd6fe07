# make demo | test | test-long | torture | fuzz | serve | lint | bench | bench-quick | bench-hit-rate | clean: each needs Python 3.11+ with pip, and nothing else.

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; \
	done)
ADDRESS ?= 127.0.0.1
PORT ?= 8000
# One process alone writes here: it need not forget after 5 seconds what others may have changed.
serve: export LOOM_CACHE_LOCATION ?= memory://?ttl_cap=600

BIN := .venv/bin
INSTALLED := .venv/.installed
# The benchmark has an environment of its own: what it compares with is not needed for anything else.
BENCH_BIN := .venv-bench/bin
BENCH_INSTALLED := .venv-bench/.installed
OPERATIONS ?= 30000
DEBIAN_SERVERS := redis-server postgresql

# What depends on the database runs on PostgreSQL too; the first run is on SQLite.
WITH_DATABASE := tests/cases tests/peers tests/model/test_model.py tests/test_codec.py tests/test_codec_results.py \
	tests/test_command.py tests/test_command_verify.py tests/test_demo.py tests/test_site.py tests/test_writes.py
MODEL_STEPS ?= 20000

.PHONY: demo test test-long torture fuzz test-sqlite test-postgresql serve lint format bench bench-quick bench-hit-rate clean services

demo: $(INSTALLED)
	@$(BIN)/python manage.py demo

# The two runs share nothing but the machine; what each says is kept together where make can.
test: services lint
	@$(MAKE) --no-print-directory -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) \
		test-sqlite test-postgresql

# The planted faults take minutes: test-long looks for them.
test-sqlite: $(INSTALLED)
	@$(BIN)/python -m pytest --ignore tests/model/test_faults.py

# On PostgreSQL the Redis store alone: what the memory store does is not the database's, nor are Redis'
# faults. test-long has them all.
test-postgresql: $(INSTALLED)
	@LOOM_TEST_DB=postgresql LOOM_TEST_STORE=redis LOOM_TEST_STORES=redis $(BIN)/python -m pytest -p no:cacheprovider \
		--ignore tests/cases/test_faults_met.py $(WITH_DATABASE)

# An hour or two: the model-based test at length, and everything on both databases, with both stores and
# asked both ways (tests/thinning.py says what `make test` leaves out).
test-long: export LOOM_TEST_ALL = 1
test-long: $(INSTALLED) services
	@LOOM_MODEL_STEPS=$(MODEL_STEPS) $(BIN)/python -m pytest -s tests/model
	@LOOM_MODEL_STEPS=$(MODEL_STEPS) LOOM_MODEL_STRICT=1 $(BIN)/python -m pytest -s tests/model/test_model.py
	@$(BIN)/python -m pytest --ignore tests/model
	@LOOM_TEST_DB=postgresql LOOM_TEST_STORE=redis LOOM_MODEL_STEPS=$(MODEL_STEPS) \
		$(BIN)/python -m pytest -s -p no:cacheprovider $(WITH_DATABASE)

# SECONDS of it: what lies in the store, damaged and forged, read as a reader would.
fuzz: SECONDS ?= 600
fuzz: $(INSTALLED)
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(INSTALLED)
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

serve: $(INSTALLED)
	@$(BIN)/python manage.py migrate --verbosity 0
	@$(BIN)/python manage.py load_news
	@echo "The news is at http://$(ADDRESS):$(PORT)/ (stop with Ctrl-C)."
	@case "$$LOOM_CACHE_LOCATION" in memory:*) echo "Its cache is in the server's memory, so writes of other processes show late: name a Redis in LOOM_CACHE_LOCATION to share one.";; esac
	@exec $(BIN)/uvicorn testproject.asgi:application --host $(ADDRESS) --port $(PORT) --log-level warning

# Some minutes, more with more ROUNDS; LARGEST=1000000 fills a million entries. WRITE=docs/benchmarks.md writes
# the page about it: do that while the machine has nothing else to do.
bench: ROUNDS ?= 15
bench: LARGEST ?= 100000
bench: services $(BENCH_INSTALLED)
	@$(BENCH_BIN)/python -m benchmarks.speed --rounds $(ROUNDS) --largest $(LARGEST) $(if $(WRITE),--write $(WRITE))

# What is counted alone: round trips and SQL statements.
bench-quick: services $(BENCH_INSTALLED)
	@$(BENCH_BIN)/python -m benchmarks.speed --quick

# WRITE=docs/hit-rate.md writes the page about it.
bench-hit-rate: services $(BENCH_INSTALLED)
	@$(BENCH_BIN)/python -m benchmarks.hit_rate --operations $(OPERATIONS) $(if $(WRITE),--write $(WRITE))

# Ten minutes: SECONDS for each library in each mode. WRITE=docs/torture.md writes the page about it.
torture: SECONDS ?= 15
torture: services $(BENCH_INSTALLED)
	@$(BENCH_BIN)/python -m tests.torture --seconds $(SECONDS) $(if $(WRITE),--write $(WRITE))

# Tests start servers of their own: only the programs have to be there.
services:
	@set -- /usr/lib/postgresql/*/bin/postgres; \
	if command -v redis-server >/dev/null && { command -v postgres >/dev/null || [ -x "$$1" ]; }; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "The tests need the programs redis-server and postgres: install $(DEBIAN_SERVERS) (as Debian calls them)." >&2; \
		exit 1; \
	fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends $(DEBIAN_SERVERS)

# `--without-pip` and `pip --python`: Debian's Python has pip and venv, but not the ensurepip that joins them.
$(INSTALLED): EXTRA := dev
$(BENCH_INSTALLED): EXTRA := bench
$(INSTALLED) $(BENCH_INSTALLED): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "loom_cache needs Python 3.11 or newer: name one with 'make PYTHON=/path/to/python3.11'." >&2; exit 1; }
	@test -x $(@D)/bin/python || $(PYTHON) -m venv --without-pip $(@D)
	@$(PYTHON) -m pip --python $(@D)/bin/python install --quiet --constraint constraints.txt pip --editable '.[$(EXTRA)]'
	@touch $@

clean:
	rm -rf .venv .venv-bench build dist var .mypy_cache .pytest_cache .ruff_cache .hypothesis *.sqlite3 *.sqlite3-*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
