# SPDX-License-Identifier: MIT
# make help lists the targets. Recipes hold no logic: each calls a script.
# Kconfig symbols set on the command line (make EPOCHS=3) reach it through MAKEFLAGS.

# What this file is made of is not for the command line to replace (make run='rm -rf x;').
own := srctree Q sh python venv installed configurable checkable run script bare benchmarks \
	commands planning plain defconfigs files .SHELLFLAGS .RECIPEPREFIX .VARIABLES
$(foreach name,own $(own) SHELL MAKEFLAGS MAKEOVERRIDES MAKEFILE_LIST,$(if $(findstring \
	command line,$(origin $(name))),$(error $(name)= is the Makefile's own, not a setting)))
ifeq ($(findstring override,$(origin MAKEFLAGS)),)
MAKEFLAGS += --no-print-directory
else # make -e: the environment wins, and MAKEFLAGS stays as it was there, without the settings
$(foreach name,own $(own),$(if $(findstring environment,$(origin $(name))),$(error \
	make -e: $(name) is the Makefile's own, and in the environment; unset it)))
override MAKEFLAGS := $(MAKEFLAGS) --no-print-directory$(if $(MAKEOVERRIDES), -- $(MAKEOVERRIDES))
endif
.NOTPARALLEL: # two targets at once (make -j all plan) would train the same runs
PYTHON ?= python3
VENV ?= .venv
V ?= 0
srctree := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
$(if $(or $(findstring :,$(srctree)),$(if $(wildcard $(srctree)/Makefile),,x)),$(error \
	the tree is below a directory whose name has a blank, a colon or a wildcard: make and Python \
	cannot use its path; enter the tree and call make there, or rename the directory))
Q := $(if $(filter 1,$(V)),,@)

# VENV= (empty) uses PYTHON as it is, on a machine without a package index.
$(if $(word 2,$(VENV)),$(error VENV=$(VENV): make cannot use a path with blanks))
venv := $(patsubst ~/%,$(HOME)/%,$(VENV))
python := $(if $(venv),$(venv)/bin/python,$(patsubst ~/%,$(HOME)/%,$(PYTHON)))
installed := $(if $(venv),$(venv)/.installed)
# What configures and plans needs no PyTorch: a few small packages, unless all are there.
configurable := $(if $(venv),$(if $(wildcard $(installed)),$(installed),$(venv)/.installed-configure))
checkable := $(if $(venv),$(venv)/.installed-check)
# A word for the shell that runs a recipe: nothing in it is expanded or executed.
sh = '$(subst ','\'',$(1))'
# override: one on make's command line is refused as no setting, which takes the package.
override export PYTHONPATH := $(srctree)/lib$(if $(filter environment,$(origin PYTHONPATH)),:$(value PYTHONPATH))
# To hand a user's variables on in the environment, make would expand them, $(shell ...) included;
# in MAKEFLAGS they stand as they were typed. V, PYTHON and VENV are used above: those, and what
# make itself runs before it reads this file (NAME:=, NAME!=, --eval), are their user's own program.
unexport $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))

# -P: never import from the current directory.
# exec: without a shell in between, what is sent to make's child (SIGTERM) reaches the command.
run = $(Q)exec $(call sh,$(python)) -P -m adamwprune
script = $(Q)exec $(call sh,$(python)) $(call sh,$(srctree))/scripts
benchmarks = $(Q)exec $(call sh,$(python)) $(call sh,$(srctree))/benchmarks
# What works before there is a virtual environment.
bare = $(Q)exec $(call sh,$(patsubst ~/%,$(HOME)/%,$(PYTHON))) $(call sh,$(srctree))/scripts
# Without those that a rule cannot name.
plain = $(foreach name,$(1),$(if \
	$(strip $(foreach odd,: = % ; | &,$(findstring $(odd),$(name)))),,$(name)))
defconfigs := $(addprefix defconfig-,$(call plain,$(notdir $(wildcard $(srctree)/defconfigs/*))))
commands := all matrix retry measure stop reproduce certify profile train memory-comparison \
	update-graphs graph-check html-report watch export track export-model publish
planning := plan status why menuconfig config oldconfig olddefconfig savedefconfig listnewconfig \
	helpnewconfig list-defconfigs alldefconfig allyesconfig allnoconfig randconfig defconfig

##@ Experiments
all: ## Train the runs that are missing, print the table, draw the figures (default)
matrix: ## Train the runs that are missing
plan: ## Show the expanded matrix, what is done and what was dropped, without running it
retry: ## Train the runs that failed again, and no others
measure: ## Train again, one at a time, the runs that shared their device: for their times
status: ## Show what runs now, how far it is and when the matrix will be done
stop: ## Stop what trains here or on a cluster, at a checkpoint
why: ## Explain a run, RUN=ID: done, stale and since which change, missing, failed
reproduce: ## Repeat a recorded run, RUN=ID, and compare it with its record
certify: ## Prove that today's code gives the bits of the records' code; CHECK=N repeats
profile: ## Profile some steps of a run, RUN=ID: where the time goes, a trace for Perfetto
train: ## Train a configuration that is one run, in the foreground
memory-comparison: ## Six optimizers x none, magnitude, movement x 50, 70, 90%; tables and figures
update-graphs: ## Publish memory-comparison: figures in images/, records in results/published/
graph-check: ## Redraw the published figures from their records; fail where data differ
html-report: ## Write results/report.html: runs, verdicts and curves for a browser, one file
watch: ## Serve that page while runs train elsewhere: it fills as they go; WATCH_PORT=
export: ## Write all records as one table, results/export.csv
track: ## Write runs to TensorBoard, W&B or Trackio, TRACKER_NAME=y; follow running ones
export-model: ## Write a run's network, RUN=ID, without its zeros; FORMAT=onnx; sizes, latency
publish: ## Keep CONFIG='s records in results/published/; PUBLISHED=1 goes on from them

.PHONY: memory-models
memory-models: $(installed) ## Bytes by owner for LeNet-5, ResNets and GPT-2s; needs 8 GB
	$(benchmarks) memory

##@ Configuration
menuconfig: ## Configure in a terminal, which shows how many runs that makes
##> config           Ask about every symbol, a line each
##> oldconfig        Bring .config up to date, asking about new symbols
##> olddefconfig     Bring .config up to date with defaults, listing what was dropped
##> defconfig        The quickstart's configuration
##> defconfig-NAME   A configuration from defconfigs/; defconfig-A+B merges
##> savedefconfig    Write .config's minimal form to the file defconfig
##> listnewconfig    List symbols that .config does not set
##> helpnewconfig    The same, with their help texts
##> list-defconfigs  List defconfigs/
##> alldefconfig     Every symbol at its default
##> allyesconfig     Every member of every family
##> allnoconfig      As few members as make one run
##> randconfig       A random legal configuration (KCONFIG_SEED=n repeats one)

# The words are the same here and for adamwprune, lib/adamwprune/__main__.py.
.PHONY: $(commands) $(planning) $(defconfigs) defconfig-
$(commands): $(installed)
	$(run) $(call sh,$@)
$(planning) $(defconfigs) defconfig-: $(configurable)
	$(run) $(call sh,$@)

# Names that are not there, and merges; the targets above are listed for tab completion. A pattern
# takes no word with a slash, defconfig-adamw+../file.
defconfig-%: $(configurable)
	$(run) $(call sh,$@)
files := $(call plain,$(foreach word,$(filter defconfig-%,$(MAKECMDGOALS)),$(if \
	$(findstring /,$(word)),$(word))))
.PHONY: $(files)
$(files): $(configurable)
	$(run) $(call sh,$@)

##@ Checking and cleaning
.PHONY: check-fast
check-fast: $(checkable) ## ruff, mypy, import contracts, tests that train nothing: under 3 minutes
	$(script)/check.py --fast

.PHONY: check
check: $(checkable) ## ruff, mypy, import contracts and all tests
	$(script)/check.py

.PHONY: check-long
check-long: $(checkable) ## check, and the tests that take minutes: full products, 900 configurations
	$(script)/check.py --long

.PHONY: check-faults
check-faults: $(checkable) ## Plant known faults in a copy, one at a time; fail where no test notices
	$(script)/check_faults.py

.PHONY: clean
clean: ## Remove what is rebuilt in seconds: caches, figures, report.html
	$(bare)/clean.py clean

.PHONY: mrproper
mrproper: ## clean, and the configuration and the virtual environment
	$(bare)/clean.py mrproper

.PHONY: distclean
distclean: ## mrproper, and results and downloaded data; asks first
	$(bare)/clean.py distclean

.PHONY: help
help: ## Show this
	$(bare)/help.py $(call sh,$(srctree))/Makefile

# Any other word: the nearest target is named. Not for files that are there.
$(srctree)/Makefile $(srctree)/pyproject.toml: ;
.DEFAULT:
	$(bare)/help.py $(call sh,$(srctree))/Makefile $(call sh,$@)

##@ Measuring
.PHONY: bench
bench: $(installed) ## Speed and memory against a plain loop and torch, in results/bench/; BENCH_ARGS=
	$(benchmarks)

.PHONY: bench-compare
bench-compare: $(installed) ## Two sessions of make bench side by side, A=FILE B=FILE
	$(benchmarks) compare

# The environment, made anew when the list of dependencies changes.
$(venv)/.installed: $(srctree)/pyproject.toml
	$(bare)/setup_venv.py $(call sh,$(venv))

$(venv)/.installed-configure: $(srctree)/pyproject.toml
	$(bare)/setup_venv.py $(call sh,$(venv)) configure

$(venv)/.installed-check: $(srctree)/pyproject.toml $(venv)/.installed
	$(bare)/setup_venv.py $(call sh,$(venv)) check
