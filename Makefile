# `make demo` and `make test` need Python >= 3.10, a C++ compiler, cmake and make; the rest they fetch.
PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   := .venv
IN_ENV := tools/ros_env.sh
DEMO   ?=

export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST

PACKAGE_FILES := CMakeLists.txt package.xml $(shell find msg srv action launch config scripts vpog_ros vpog_core -type f \
                   -not -name '*.pyc' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help env build demo test lint weights clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16
	@echo "Variables: PYTHON=$(PYTHON)  TORCH='$(TORCH)'  DEMO='arguments of the demo, --help lists them'"

env:  ## the virtual environment in .venv, with ROS 2 in it
	@$(PYTHON) tools/setup_env.py $(VENV) '$(TORCH)'

build: env  ## the ROS package, with colcon, into build/ and install/
	@$(MAKE) --no-print-directory install/.built

install/.built: $(PACKAGE_FILES) $(VENV)/.complete
	@$(IN_ENV) colcon --log-base build/log build --base-paths . --symlink-install \
	    --cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python
	@touch $@

demo: build  ## camera, node and monitor as real processes; images in demo_output/
	@$(IN_ENV) python -m vpog_ros.demo.run $(DEMO)

test: build lint  ## lint and all tests
	@OMP_NUM_THREADS=1 $(IN_ENV) python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

lint: env  ## ruff format, ruff check, import-linter
	@$(IN_ENV) ruff format --check .
	@$(IN_ENV) ruff check .
	@$(IN_ENV) lint-imports

weights: build  ## calibrate, evaluate and ship WEIGHTS=FILE, on DATASETS="DIR DIR" too; PUBLISH=--quick tries it
	@test -n "$(WEIGHTS)" || { echo "Give WEIGHTS=FILE, a trained .safetensors file." >&2; exit 2; }
	@$(IN_ENV) vpog publish-weights --weights $(WEIGHTS) $(foreach d,$(DATASETS),--dataset $(d)) \
	    $(if $(PUBLISH),$(PUBLISH),--into .)

clean:  ## remove everything made here
	rm -rf $(VENV) build install log demo_output .pytest_cache .ruff_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
