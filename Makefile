# Two commands on a bare Debian 12 with Python 3.11: `make demo`, `make test`. Both build .venv first; a second call is instant.

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.10 python3; do command -v $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := 2.13.0
# SOURCE=rtsp://… or any file; without it the pedestrians of Debian's opencv-doc, or the clip that lies in the package.
SOURCE ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs docs-site requirements sbom release bench start idle costs cameras count faults strangers fuzz bitflips bundle-cuts broker-limits soak system \
triton image arm events hostile service-memory encryption fleet fleet-cluster archive store browser web-load live-load home-assistant refine decoding model report-page \
compare clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 13

setup: $(VENV)/.dev ## build .venv with all that demo and test need

demo: ## people in a real video become skeletons on an MQTT topic (SOURCE=rtsp://… or a file; ARGS="--help")
	@$(MAKE) --no-print-directory -j2 $(VENV)/.demo $(if $(SOURCE),,build/vtest.avi)
	@$(BIN)/edgepose demo $(ARGS) $(if $(SOURCE),"$(SOURCE)",$$(test -s build/vtest.avi && echo build/vtest.avi))

# Three on two cores, since many wait for servers; with one thread of OpenMP each, or training takes several times as long. Up to three that
# failed run once more, alone: a fault fails again, and a test that lost a race to the others is named, to be mended.
test: $(VENV)/.dev ## all tests, three at a time (ARGS="tests/pose -k track")
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS) || \
	{ test $$? = 1 && OMP_NUM_THREADS=1 $(BIN)/python tools/rerun_failed.py $(ARGS); }

check: $(VENV)/.dev docs-site ## ruff, strict mypy, the import rule, the site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev ## regenerate the tables of docs/
	$(BIN)/python tools/write_reference.py
	$(BIN)/python -m tools.draw_diagrams

docs-site: $(VENV)/.dev ## build the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site

requirements: $(VENV)/.dev ## pin all dependencies again, with hashes (ARGS=--upgrade takes newer versions)
	tools/pin-requirements.sh $(ARGS)

sbom: $(VENV)/.dev ## bills of materials (CycloneDX) of what an installation takes, in dist/
	tools/write-sbom.sh dist

release: $(VENV)/.dev ## tag a version and build its wheels and SBOM (VERSION=0.2.0)
	$(BIN)/python -m tools.release $(VERSION)

bench: $(VENV)/.dev ## engine, pipeline and daemon in turns, and ultralytics where EDGEPOSE_ULTRALYTICS_PYTHON names it; writes docs/performance.md (SOURCE=a video)
	$(BIN)/python -m tools.write_bench docs/performance.md --prove $(ARGS) $(if $(SOURCE),"$(SOURCE)")
	@test -z "$$EDGEPOSE_ULTRALYTICS_PYTHON" || \
	$(BIN)/python -m tools.compare_ultralytics $(if $(SOURCE),"$(SOURCE)",build/vtest.avi) docs/performance.md

start: $(VENV)/.dev build/vtest.avi ## start to first pose against version b74093e, in turns; writes docs/performance.md (OLD=a checkout of it, OLD_MODEL=a pose network for it)
	$(BIN)/python -m tools.compare_start docs/performance.md build/vtest.avi "$(OLD)" "$(OLD_MODEL)" $(ARGS)

idle: $(VENV)/.dev build/vtest.avi ## core time of a daemon whose camera is paused; writes docs/performance.md (ARGS="--seconds 60")
	$(BIN)/python -m tools.measure_idle docs/performance.md build/vtest.avi $(ARGS)

costs: $(VENV)/.dev build/vtest.avi ## the README's table of what it costs, measured
	$(BIN)/python -m tools.write_costs build/vtest.avi README.md $(ARGS)

cameras: $(VENV)/.dev build/vtest.avi ## ages under overload, fairness, and bad cameras; writes docs/performance.md (ARGS="--seconds 60")
	$(BIN)/python -m tools.measure_cameras build/vtest.avi docs/performance.md $(ARGS)

count: $(VENV)/.dev build/vtest.avi ## people found in a real video against people counted by eye, written to docs/performance.md
	$(BIN)/python tools/count_people.py build/vtest.avi docs/performance.md $(ARGS)

faults: $(VENV)/.dev build/vtest.avi ## the fault matrix on real processes; writes docs/reliability.md (ARGS=killed for some; ARGS="--help")
	$(BIN)/python -m tools.faults $(ARGS)

strangers: $(VENV)/.dev ## what strangers' cameras, files, models and brokers do; writes docs/compatibility.md
	$(BIN)/python -m tools.write_compatibility $(ARGS)

fuzz: $(VENV)/.dev ## ten thousand bad configurations, commands, streams and models; writes docs/reliability.md (ARGS="rtsp --count 500")
	$(BIN)/python -m tools.fuzz $(ARGS)

bitflips: $(VENV)/.dev ## twenty thousand bit flips in the event store (ARGS="--count 500")
	$(BIN)/python -m tools.bitflips $(ARGS)

bundle-cuts: $(VENV)/.dev ## end a daemon at 50 moments of an update; writes docs/bundles.md (ARGS="--count 10")
	$(BIN)/python -m tools.bundle_cuts docs/bundles.md $(ARGS)

broker-limits: $(VENV)/.dev ## two minutes at mosquittos that accept 2000 bytes, 60,000 bytes and 1 MiB (ARGS="--seconds 10")
	$(BIN)/python -m tools.broker_limits $(ARGS)

soak: $(VENV)/.dev build/vtest.avi ## two hours with a fault every half minute; writes docs/reliability.md (ARGS="--minutes 20")
	$(BIN)/python -m tools.soak $(ARGS)

system: $(VENV)/.dev ## the service and install.sh under a real systemd, at length (needs root)
	$(BIN)/python -m pytest tests/system tests/deploy/test_systemd_unit.py -m 'system or not system' $(ARGS)

triton: $(VENV)/.dev ## models on real inference servers, Triton and MLServer, which it installs in build/servers
	@tools/show-progress.sh "installing Triton and MLServer" tools/get-inference-servers.sh build/servers
	$(BIN)/python -m pytest tests/engine/test_triton_servers.py $(ARGS)

flight: $(VENV)/.dev ## telemetry over bad links from MAVSDK's vehicle, people to MAVProxy: MAVSDK_PYTHON names a Python with both
	PYTHONPATH=. $(BIN)/python tools/measure_telemetry.py

image: $(VENV)/.dev ## build the container image and run it without network but a broker; writes docs/jetson.md (needs root)
	$(BIN)/python -m tools.image docs/jetson.md $(ARGS)

arm: $(VENV)/.dev ## the runtime on 64-bit ARM, emulated; writes docs/jetson.md (10 minutes; ARGS=--no-tests)
	$(BIN)/python -m tools.arm docs/jetson.md $(ARGS)

events: $(VENV)/.dev build/vtest.avi ## how often events are right, on sequences with known truth and a real video; writes docs/events.md
	$(BIN)/python -m tools.write_events docs/events.md build/vtest.avi $(ARGS)

hostile: $(VENV)/.dev ## hostile cameras beside a good one for two minutes, under the shipped unit (needs root and a machine that is not busy)
	HOSTILE_SECONDS=120 $(BIN)/python -m pytest tests/system/test_hostile_cameras.py -m system -s $(ARGS)

service-memory: $(VENV)/.dev build/vtest.avi ## memory of the service as systemd counts it; writes docs/operations.md (needs root)
	$(BIN)/python -m tools.service_memory build/vtest.avi docs/operations.md $(ARGS)

encryption: $(VENV)/.dev ## what encryption costs, and 100 kills during a rotation of its key; writes docs/privacy.md (ARGS="--kills 10")
	$(BIN)/python -m tools.encryption docs/privacy.md $(ARGS)

fleet: $(VENV)/.dev ## many simulated devices on one mosquitto; writes docs/operations.md (ARGS="--help")
	$(BIN)/python -m tools.fleet docs/operations.md $(ARGS)

fleet-cluster: $(VENV)/.dev ## a thousand devices at two brokers, one killed in mid-run; writes docs/operations.md (Debian package ejabberd)
	$(BIN)/python -m tools.fleet_cluster docs/operations.md $(ARGS)

archive: $(VENV)/.dev ## 60 videos on a Ray cluster of two nodes, one killed in mid-run, which it installs in build/ray; writes docs/archives.md
	@test -x build/ray/bin/python || { $(BIN)/python -m venv build/ray && build/ray/bin/pip install -q 'ray[data]>=2.40' && \
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' >"$$(echo build/ray/lib/python*/site-packages)/dev.pth"; }
	PYTHONPATH=.:export build/ray/bin/python -m pytest tests/export/archive/test_cluster.py
	PYTHONPATH=.:export build/ray/bin/python -m tools.archive_bar docs/archives.md $(ARGS)

store: $(VENV)/.dev ## load and SIGKILLs of the store, with Parquet and PostgreSQL; writes docs/store.md (ARGS="--kills 5")
	$(BIN)/python -m tools.store_bars docs/store.md $(ARGS)

# An old release: newer ones need a newer Python. 400 MB in an environment of its own.
# Axe reads every view as a screen reader would; it comes from npm, and none of it is shipped.
browser: $(VENV)/.dev ## the web page in a real Chromium: by keyboard, on a phone, dark, with axe-core
	@test -s build/axe-core/axe.min.js || { mkdir -p build && cd build && npm --silent pack axe-core@4 && tar -xzf axe-core-4*.tgz && \
	rm -rf axe-core && mv package axe-core && rm axe-core-4*.tgz; }
	$(BIN)/python -m pytest tests/web/test_browser.py tests/web/test_live_browser.py -m 'browser or not browser' $(ARGS)

web-load: $(VENV)/.dev ## uploads, idle connections and wrong passwords by the hundred against the web page; writes docs/web.md (ARGS="--help")
	$(BIN)/python -m tools.web_load docs/web.md $(ARGS)

live-load: $(VENV)/.dev ## what the live page costs the daemon, how late it is, and a crowd at it; writes docs/web.md (needs root; ARGS="--help")
	$(BIN)/python -m tools.live_load docs/web.md $(ARGS)

home-assistant: $(VENV)/.dev ## validate discovery messages with Home Assistant's own schemas; writes the keys that it accepts
	@test -x build/home-assistant/bin/python || { python3.11 -m venv build/home-assistant && \
	build/home-assistant/bin/pip install -q homeassistant==2024.3.3 'paho-mqtt<2'; }
	$(BIN)/python -m testing.discovery | build/home-assistant/bin/python tools/check_home_assistant.py >build/home_assistant_keys.json
	mv build/home_assistant_keys.json testing/home_assistant_keys.json

refine: $(VENV)/.dev ## what looking again is worth against what it costs; writes docs/models.md (DATA=a COCO folder; ARGS="--help")
	$(BIN)/python -m tools.refine_curve $(or $(DATA),../shared/data/coco-dev) docs/models.md $(ARGS)

decoding: $(VENV)/.dev ## what each part of the decoder is worth; writes docs/models.md (DATA=a COCO folder; ARGS="--help")
	$(BIN)/python -m tools.ablate_decoding export/edgepose_export/checkpoints/ghost-n.pt $(or $(DATA),../shared/data/coco-dev) docs/models.md $(ARGS)

# The shipped models, from their teachers: a step whose inputs have not changed is not run again, so that the command may be interrupted.
SHARED ?= ../shared
TEACHERS ?= $(SHARED)/models
TRAIN_DATA ?= $(wildcard $(addprefix $(SHARED)/data/,coco-train coco-more-1 coco-more-2))
EVALUATE ?= $(SHARED)/data/coco-dev
WORK ?= build/models
MODELS ?= ghost-n refine-n refine-s
TEACHER_ghost-n ?= $(TEACHERS)/rtmdet-nano-person.onnx
TEACHER_refine-n ?= $(TEACHERS)/tinypose-128x96.onnx
TEACHER_refine-s ?= $(TEACHERS)/tinypose-256x192.onnx
# The network that each works with; ghost-n is measured with the refiner that is there, if any.
COMPANION_ghost-n ?= $(wildcard edgepose/assets/refine-n.onnx)
COMPANION_refine-n ?= $(WORK)/ghost-n/assets/ghost-n.onnx
COMPANION_refine-s ?= $(WORK)/ghost-n/assets/ghost-n.onnx

model: $(VENV)/.dev ## make the shipped models (MODELS, SHARED or TEACHERS, TRAIN_DATA and EVALUATE, WORK; ARGS="--train-minutes 60")
	@for name in $(MODELS); do $(MAKE) --no-print-directory model-$$name || exit; done

model-%: $(VENV)/.dev
	@missing=; for file in $(TEACHER_$*) $(EVALUATE); do test -e $$file || missing="$$missing $$file"; done; \
	test -n "$(TRAIN_DATA)" || missing="$$missing TRAIN_DATA"; \
	test -z "$$missing" || { echo "make model: $* needs$$missing; expected SHARED=FOLDER with models/ and data/, or TEACHER_$*=FILE," \
	"TRAIN_DATA=FOLDERS and EVALUATE=FOLDER" >&2; exit 78; }
	$(BIN)/edgepose-export make-model $* --teacher $(TEACHER_$*) $(addprefix --data ,$(TRAIN_DATA)) --evaluate $(EVALUATE) \
	--work $(WORK)/$* --assets edgepose/assets --checkpoints export/edgepose_export/checkpoints \
	$(addprefix --companion ,$(COMPANION_$*)) $(ARGS)

report-page: $(VENV)/.dev ## a report in Chromium: light, dark, a phone, a screen, on paper (Debian package chromium)
	$(BIN)/python -m pytest tests/export/report/test_browser.py -s $(ARGS)

compare: $(VENV)/.dev build/vtest.avi ## infer, a recording and its replay against version b74093e (OLD=a checkout of it with its .venv)
	$(BIN)/python -m testing.compare_with_b74093e $(OLD) $(ARGS)

clean: ## remove all that was built
	rm -rf $(VENV) build dist demo-output *.egg-info export/*.egg-info export/build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@tools/make-venv.sh "$(PYTHON)" $(VENV)

# Dependencies are pinned with hashes; the project itself is installed without asking for any.
$(VENV)/.demo: pyproject.toml requirements/demo.txt | $(BIN)/python
	@tools/show-progress.sh "installing the packages of the demo" $(PIP) install -q --require-hashes -r requirements/demo.txt
	@tools/show-progress.sh "installing edgepose" $(PIP) install -q --no-deps -e .
	@touch $@

# A build of torch for CPUs only, wherever it can be had: the one on PyPI brings gigabytes of CUDA along.
$(VENV)/.dev: pyproject.toml export/pyproject.toml requirements/dev.txt | $(BIN)/python
	@tools/show-progress.sh "installing torch" sh -c "$(PIP) install -q 'torch==$(TORCH)+cpu' 2>/dev/null || $(PIP) install -q 'torch==$(TORCH)'"
	@tools/show-progress.sh "installing the packages of the tests" $(PIP) install -q --require-hashes -r requirements/dev.txt
	@tools/show-progress.sh "installing edgepose" $(PIP) install -q --no-deps -e . -e ./export
	@touch $@ $(VENV)/.demo

# Never fails: the demo says what to do where there is no video.
build/vtest.avi:
	@tools/fetch-demo-video.sh $@ || true
