# SPDX-License-Identifier: MIT
# make help lists the targets. Recipes hold no logic: each calls a script.
# Kconfig symbols set on the command line (make EPOCHS=3) reach it through MAKEFLAGS.

# What this file is made of is not for the command line to replace (make run='rm -rf x;').
$(foreach name,srctree Q python installed checkable run script benchmarks defconfigs configurators SHELL .SHELLFLAGS \
	.RECIPEPREFIX .VARIABLES MAKEFLAGS MAKEOVERRIDES MAKEFILE_LIST,$(if $(findstring \
	command line,$(origin $(name))),$(error $(name)= is the Makefile's own, not a setting)))
MAKEFLAGS += --no-print-directory
.NOTPARALLEL: # two targets at once (make -j all plan) would train the same runs
PYTHON ?= python3
VENV ?= .venv
V ?= 0
srctree := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
Q := $(if $(filter 1,$(V)),,@)

# VENV= (empty) uses PYTHON as it is, on a machine without a package index.
$(if $(word 2,$(VENV)),$(error VENV=$(VENV): make cannot use a path with blanks))
python := $(if $(VENV),$(VENV)/bin/python,$(PYTHON))
installed := $(if $(VENV),$(VENV)/.installed)
checkable := $(if $(VENV),$(VENV)/.installed-check)
export PYTHONPATH := $(srctree)/lib$(if $(value PYTHONPATH),:$(value PYTHONPATH))
# To hand a user's variables on in the environment, make would expand them, $(shell ...) included;
# in MAKEFLAGS they stand as they were typed. V, PYTHON and VENV are used above: those, and what
# make itself runs before it reads this file (NAME:=, NAME!=, --eval), are their user's own program.
unexport $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))

# -P: never import from the current directory.
# Without a shell of its own: what is sent to make's child (SIGTERM, Ctrl-C) reaches the command.
run = $(Q)exec "$(python)" -P -m adamwprune
script = $(Q)"$(python)" "$(srctree)/scripts"
benchmarks = $(Q)"$(python)" "$(srctree)/benchmarks"
defconfigs := $(addprefix defconfig-,$(notdir $(wildcard $(srctree)/defconfigs/*)))
configurators := oldconfig olddefconfig savedefconfig listnewconfig list-defconfigs \
	alldefconfig allyesconfig randconfig defconfig

##@ Experiments
.PHONY: all
all: $(installed) ## Train the runs that are missing, print the table, draw the figures (default)
	$(run) matrix --report

.PHONY: matrix
matrix: $(installed) ## Train the runs that are missing
	$(run) matrix

.PHONY: plan
plan: $(installed) ## Show the expanded matrix, what is done and what was dropped, without running it
	$(run) plan

.PHONY: retry
retry: $(installed) ## Train the runs that failed again, and no others
	$(run) matrix --failed

.PHONY: measure
measure: $(installed) ## Train again, one at a time, the runs that shared their device: for their times
	$(run) matrix --measure

.PHONY: status
status: $(installed) ## Show what runs now, how far it is and when the matrix will be done
	$(run) status

.PHONY: why
why: $(installed) ## Explain a run, RUN=ID: done, stale and since which change, missing, failed
	$(run) why

.PHONY: reproduce
reproduce: $(installed) ## Repeat a recorded run, RUN=ID, and compare it with its record
	$(run) reproduce

.PHONY: certify
certify: $(installed) ## Prove that today's code gives the bits of the records' code, and note it; CHECK=N
	$(run) certify

.PHONY: profile
profile: $(installed) ## Profile some steps of a run, RUN=ID: where the time goes, a trace for Perfetto
	$(run) profile

.PHONY: train
train: $(installed) ## Train a configuration that is one run, in the foreground
	$(run) train

.PHONY: memory-comparison
memory-comparison: $(installed) ## Six optimizers x none, magnitude, movement x 50, 70, 90%; tables and figures
	$(run) matrix --defconfig memory-comparison --report --memory

.PHONY: update-graphs
update-graphs: $(installed) ## Publish memory-comparison: figures in images/, records in results/published/
	$(run) update-graphs

.PHONY: graph-check
graph-check: $(installed) ## Redraw the published figures from their records; fail where data differ
	$(run) graph-check

.PHONY: html-report
html-report: $(installed) ## Write results/report.html: runs, verdicts and curves for a browser, one file
	$(run) html-report

.PHONY: watch
watch: $(installed) ## Serve that page while runs train elsewhere: it fills as they go; WATCH_PORT=
	$(run) watch

.PHONY: export
export: $(installed) ## Write all records as one table, results/export.csv
	$(run) export

.PHONY: track
track: $(installed) ## Write the runs that are there to TensorBoard, W&B or Trackio: TRACKER_NAME=y
	$(run) track

.PHONY: export-model
export-model: $(installed) ## Write a run's network, RUN=ID, without its zeros; FORMAT=onnx; sizes, latency
	$(run) export-model

.PHONY: memory-models
memory-models: $(installed) ## Bytes by owner for LeNet-5, ResNet-18 and GPT-2 small; 6 GB, 10 minutes
	$(benchmarks) memory

.PHONY: publish
publish: $(installed) ## Keep CONFIG='s records in results/published/; PUBLISHED=1 goes on from them
	$(run) publish

##@ Configuration
.PHONY: menuconfig
menuconfig: $(installed) ## Configure in a terminal, which shows how many runs that makes
	$(run) menuconfig

##> oldconfig        Bring .config up to date, asking about new symbols
##> olddefconfig     Bring .config up to date with defaults, listing what was dropped
##> defconfig        The quickstart's configuration
##> defconfig-NAME   A configuration from defconfigs/; defconfig-A+B merges
##> savedefconfig    Write .config's minimal form to the file defconfig
##> listnewconfig    List symbols that .config does not set
##> list-defconfigs  List defconfigs/
##> alldefconfig     Every symbol at its default
##> allyesconfig     Every member of every family
##> randconfig       A random legal configuration (KCONFIG_SEED=n repeats one)
.PHONY: $(configurators) $(defconfigs) defconfig-
$(configurators) $(defconfigs) defconfig-: $(installed)
	$(run) kconfig '$(subst ','\'',$@)'

# Names that are not there, and merges; the targets above are listed for tab completion.
defconfig-%: $(installed)
	$(run) kconfig '$(subst ','\'',$@)'

##@ Checking and cleaning
.PHONY: check
check: $(checkable) ## ruff, mypy, import contracts and all tests
	$(script)/check.py

.PHONY: check-long
check-long: $(checkable) ## check, and the tests that take minutes: 900 more random configurations
	$(script)/check.py --long

.PHONY: clean
clean: ## Remove what is rebuilt in seconds: caches, figures, report.html
	$(Q)"$(PYTHON)" "$(srctree)/scripts/clean.py" clean

.PHONY: mrproper
mrproper: ## clean, and the configuration and the virtual environment
	$(Q)"$(PYTHON)" "$(srctree)/scripts/clean.py" mrproper

.PHONY: distclean
distclean: ## mrproper, and results and downloaded data; asks first
	$(Q)"$(PYTHON)" "$(srctree)/scripts/clean.py" distclean

.PHONY: help
help: ## Show this
	$(Q)"$(PYTHON)" "$(srctree)/scripts/help.py" "$(srctree)/Makefile"

##@ Measuring
.PHONY: bench
bench: $(installed) ## Speed and memory against a plain loop and torch, in results/bench/; BENCH_ARGS=
	$(benchmarks)

.PHONY: bench-compare
bench-compare: $(installed) ## Two sessions of make bench side by side, A=FILE B=FILE
	$(benchmarks) compare

# The environment, made anew when the list of dependencies changes.
$(VENV)/.installed: $(srctree)/pyproject.toml
	$(Q)"$(PYTHON)" "$(srctree)/scripts/setup_venv.py" $(VENV)

$(VENV)/.installed-check: $(srctree)/pyproject.toml $(VENV)/.installed
	$(Q)"$(PYTHON)" "$(srctree)/scripts/setup_venv.py" $(VENV) check
