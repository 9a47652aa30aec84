# The words of this project's daily work; .ci/run runs check, test and test-arm.
.PHONY: check test test-arm same-bits golden bench peers licences run

PYTHON ?= python3

# Format and lints.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# All tests, of all crates.
test:
	cargo test --workspace --no-fail-fast

# The kernels and the model inside on 64-bit Arm, emulated; says why where it cannot.
test-arm:
	scripts/test-arm.sh

# After a change of the model inside, or of the arithmetic: what it must give on every processor is stored anew.
same-bits:
	INSTA_UPDATE=always cargo test -p engine --test same_bits -- --skip every_instruction_set
	sed -i '/^assertion_line:/d' crates/engine/tests/snapshots/same_bits__*.snap

# The program, optimised: make run ARGS='run --image examples/receipt.png "What is the total?"'
run:
	cargo run --release -- $(ARGS)

# Licences and sources of all dependencies, and that none of them brings C or C++. Needs cargo-deny.
licences:
	cargo deny check

# Makes the committed reference files anew. Needs Python with what each script names; never needed to build or to test.
golden:
	set -e; for script in scripts/make_*fixture*.py scripts/make_golden*.py; do \
	  if [ -e "$$script" ]; then echo "$$script"; $(PYTHON) "$$script"; fi; done

# Other engines and ours in turn: make peers ARGS='CACHE --bundle fast=v3b.bluelm'; see scripts/peers/compare.py.
peers:
	$(PYTHON) scripts/peers/compare.py $(ARGS)

# Benchmarks of kernels, pictures, data and training.
bench:
	cargo bench --workspace
