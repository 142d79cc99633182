# One line per target; what a target does stands in crates/xtask (docs/TESTING.md tells the parts and their budgets).
XTASK := cargo run --quiet --package xtask --

.DEFAULT_GOAL := help
.PHONY: help demo cluster test check e2e faults sim conformance chart bench load docs setup

help: ; @$(XTASK) help
demo: ; @$(XTASK) demo $(ARGS)
cluster: ; @$(XTASK) cluster $(N) $(ARGS)
test: ; @$(XTASK) test
check: ; @$(XTASK) check
e2e: ; @$(XTASK) e2e $(ARGS)
faults: ; @$(XTASK) faults $(ARGS)
conformance: ; @$(XTASK) conformance
sim: ; @$(XTASK) sim SEEDS=$(SEEDS) FROM=$(FROM) SEED=$(SEED) PLANTED=$(PLANTED)
chart: ; @$(XTASK) chart
bench: ; @$(XTASK) bench $(ARGS)
load: ; @$(XTASK) load $(ARGS)
docs: ; @$(XTASK) docs
setup: ; @$(XTASK) setup
