# What a person, or CI, runs here. The first three install what they lack (Debian: Postgres).

CARGO ?= cargo

# The version that `make faults` deploys over and rolls back to: the last one that neither called services back nor moved
# texts between providers.
FORMER = 36286c7
FORMER_DIR = $(abspath $(or $(CARGO_TARGET_DIR),target))/former

.PHONY: run test check bench faults fuzz former openapi sqlx postgres redis

run: postgres
	$(CARGO) build --release --bin herald
	exec target/release/herald dev

test: postgres redis target/clients/ready
	@# Apart from the tests, none of which should wait for it.
	$(CARGO) build --locked --manifest-path tests/clients/rust/Cargo.toml --target-dir target/clients/rust
	$(CARGO) test --workspace --all-targets
	@$(MAKE) --no-print-directory openapi-unchanged

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# Requests a second, texts delivered a second, and what each costs the database; then the engine and its peers.
bench: postgres
	$(CARGO) build --release --bin herald
	cd tests/bench && $(CARGO) run --release -- program
	cd tests/bench && $(CARGO) run --release -- peers

# What Herald survives: a line a fault, and tests/faults/RESULTS.md. Takes about an hour.
faults: postgres redis former
	@command -v faketime >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends faketime; } || \
	  echo "faketime is not installed: its faults are skipped"
	rm -rf "$${CARGO_TARGET_DIR:-target}/tmp/faults"
	HERALD_FORMER="$$(ls $(FORMER_DIR)/herald 2>/dev/null)" RUST_BACKTRACE=0 \
	HERALD_POOLER="$$(tests/pgbouncer $(abspath $(or $(CARGO_TARGET_DIR),target))/pgbouncer || echo 'no PgBouncer: its fault is skipped' >&2)" \
	$(CARGO) test --workspace --test tests -- faults:: --include-ignored --skip faults::results --test-threads=1 --nocapture; \
	  failed=$$?; $(CARGO) test --workspace --test tests -- faults::results --ignored --nocapture && exit $$failed

# What was compiled for it is kept. Without the history of the repository its fault is skipped.
former:
	@rm -rf $(FORMER_DIR)/source $(FORMER_DIR)/herald; mkdir -p $(FORMER_DIR)/source
	@if git cat-file -e $(FORMER)^{commit} 2>/dev/null; then \
	  git archive $(FORMER) | tar -x -C $(FORMER_DIR)/source && cd $(FORMER_DIR)/source && \
	  GIT_COMMIT=$(FORMER) $(CARGO) build --locked --bin herald --target-dir $(FORMER_DIR)/target && \
	  cp $(FORMER_DIR)/target/debug/herald $(FORMER_DIR)/herald; \
	else echo "the history of the repository is not here: the fault with a former version is skipped"; fi

# Bodies and tokens that a fuzzer thinks of, guided by the code that they reach: with the stable compiler, which can count
# that, and a C++ compiler for the fuzzer itself. What it found stays in target/fuzz/corpus and is where it goes on.
FUZZ_SECONDS ?= 600
COUNTED = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares

fuzz:
	mkdir -p target/fuzz/corpus
	RUSTFLAGS="$(COUNTED)" $(CARGO) run --locked --release --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz \
	  --target "$$(rustc -vV | sed -n 's/^host: //p')" -- target/fuzz/corpus tests/fuzz/seeds \
	  -dict=tests/fuzz/words -max_len=4096 -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=target/fuzz/ -print_final_stats=1

# The documents as served; CI compares them.
openapi:
	$(CARGO) run --quiet --bin herald -- openapi public > openapi/public.json
	$(CARGO) run --quiet --bin herald -- openapi internal > openapi/internal.json
	$(CARGO) run --quiet --bin herald -- openapi callbacks > openapi/callbacks.json

openapi-unchanged:
	@for api in public internal callbacks; do \
	  $(CARGO) run --quiet --bin herald -- openapi $$api | cmp - openapi/$$api.json || \
	  { echo "openapi/$$api.json is not what the program says: run make openapi"; exit 1; }; \
	done

# Renews .sqlx, against which every query is checked at build time.
sqlx: postgres
	tests/renew-sqlx

# The clients that the tests use, with their versions pinned: official ones, as people install them.
target/clients/ready: tests/clients/requirements.txt tests/clients/constraints.txt tests/clients/package-lock.json
	python3 -m venv target/clients || \
	  { apt-get update -qq && apt-get install -y -qq python3-venv && python3 -m venv --clear target/clients; }
	target/clients/bin/pip install --quiet --requirement tests/clients/requirements.txt --constraint tests/clients/constraints.txt
	@command -v npm >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm; } || \
	  { echo "Node.js is not installed: install the packages nodejs and npm"; exit 1; }
	mkdir -p target/clients/node
	cp tests/clients/package.json tests/clients/package-lock.json target/clients/node
	cd target/clients/node && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	touch $@

postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql; } || \
	  { echo "Postgres is not installed: install the package postgresql (Debian, Ubuntu: apt-get install postgresql)"; exit 1; }

redis:
	@command -v redis-server >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server; } || \
	  { echo "Redis is not installed: install the package redis-server (Debian, Ubuntu: apt-get install redis-server)"; exit 1; }
