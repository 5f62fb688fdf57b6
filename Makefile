# Two commands: `make repro` (raw images to tables and figures) and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
STUDY ?= digits
JOBS = # cores for Snakemake; of the command line alone, not of the environment
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY = PASSIVE # idle threads sleep: two runs side by side must not spin against each other

ON_PATH = PATH="$(CURDIR)/$(BIN):$$PATH"
# whichever folder the study stands in
STUDY_BY_DVC = $(ON_PATH) $(BIN)/python -m workflow.study

IN_GIT = git rev-parse --git-dir >/dev/null 2>&1 || { echo "error: no git repository here, and DVC needs one" \
	"(a ZIP of the source has none): git init && git add --all && git commit --quiet --message start" >&2; exit 2; }

.PHONY: repro test lint status machines weights index pages readme questions papers coverage verified schema archive crate site screenshots lock clean help

help: ## what there is to run
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

repro: $(VENV)/.ready ## raw data to tables, figures and report of one study (STUDY=digits); JOBS=4: by Snakemake, stages side by side on 4 cores
	@$(IN_GIT)
	@$(if $(JOBS),$(ON_PATH) $(BIN)/snakemake --profile local --cores $(JOBS) $(STUDY),$(STUDY_BY_DVC) repro $(STUDY))
	@$(MAKE) --no-print-directory index
	@-$(BIN)/python stages/compare.py --committed $(STUDY)

# twice as many processes as two cores: tests wait for Slurm's clock, Snakemake's, a browser, processes of their own
test: $(VENV)/.ready ## lint, then all tests, in four processes
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/snakefmt --check $(RULES)
	@$(DECLARED)
	$(ON_PATH) $(BIN)/python -m pytest --numprocesses 4 --max-worker-restart 1 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.ready ## ruff and snakefmt, and put the format right; is every import declared in pyproject.toml?
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/snakefmt $(RULES)
	@$(DECLARED)

RULES := Snakefile workflow/figures.smk

# what runs may import no package of the extra `dev`; tests and benchmarks may
DECLARED = for part in "longtail stages workflow" "tests benchmarks docs --ignore DEP002,DEP004"; do \
	$(BIN)/python -m deptry $$part || exit 1; done

status: $(VENV)/.ready ## is the study up to date?
	@$(STUDY_BY_DVC) status $(STUDY)

machines: $(VENV)/.ready ## record where and how fast the study was made, reports/machines/; commit it with the results
	$(BIN)/python stages/machines.py $(STUDY)

weights: $(VENV)/.ready ## weights of the study's runs, of each the first seed's, into reports/weights/; commit them with the results
	$(BIN)/python stages/weights.py $(STUDY)

# all that the pages show, what makes them, and they themselves; their sums are kept in reports/.pages when they are made,
# those of the code beside them: as long as it is the same, in a fresh clone as long as it is git's, pages of runs whose
# files have not changed are left alone
CODE := longtail stages requirements.lock Makefile
PAGES := reports docs/*.yaml params.yaml dvc.lock papers data/published $(CODE)
SUMS = find -L $(1) -type f ! -name '.*' ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 cksum
SUMS_AS = test "$$($(call SUMS,$(1)))" = "$$(cat $(2) 2>/dev/null)"
SAME_CODE = if test -e reports/.code; then $(call SUMS_AS,$(CODE),reports/.code); \
	else test -z "$$(git status --porcelain -- $(CODE) reports/pages 2>&1)"; fi

index: $(VENV)/.ready ## pages of all studies: reports/index.html, the runs' pages, compare.html, results.csv, the claims, the reviewers' pages
	@$(call SUMS_AS,$(PAGES),reports/.pages) || $(MAKE) --no-print-directory pages \
		CHANGED=$$($(SAME_CODE) && echo --changed)

pages: $(VENV)/.ready # what `index` makes, whether or not anything has changed
	@for study in $$($(BIN)/python -c "from longtail.base import params; print(*params.load(None)['studies'])"); do \
		test ! -d reports/metrics/$$study || test -d reports/figures/$$study -a -n "$(CHANGED)" || echo $$study; done | \
		xargs -P 2 -I STUDY $(BIN)/python stages/figures.py STUDY --metrics reports/metrics/STUDY \
		--analysis reports/analysis/STUDY --runs reports/runs/STUDY --published data/published --words docs/words.yaml \
		--out reports/figures/STUDY --print reports/figures_print/STUDY
	$(BIN)/python stages/claims.py --claims docs/claims.yaml --reports reports --published data/published --out reports
	@$(BIN)/python stages/results.py --reports reports --out reports/results.csv
	@$(BIN)/python stages/compare_page.py --reports reports --out reports/compare.html
	@$(BIN)/python stages/review.py --reports reports --coverage docs/coverage.yaml --judgements docs/review.yaml \
		--out reports/review & beside=$$!; \
	$(BIN)/python stages/cards.py --reports reports --sources docs/data_sources.yaml --words docs/words.yaml --out reports/cards && \
	$(BIN)/python stages/run_pages.py --reports reports --words docs/words.yaml --out reports/pages $(CHANGED) && wait $$beside
	$(BIN)/python stages/index.py --reports reports --coverage docs/coverage.yaml --claims docs/claims.yaml \
		--published data/published --words docs/words.yaml --judgements docs/review.yaml --out reports/index.html
	$(BIN)/python stages/browse.py --reports reports --words docs/words.yaml
	@$(call SUMS,$(PAGES)) > reports/.pages && $(call SUMS,$(CODE)) > reports/.code

readme: $(VENV)/.ready ## put the generated tables, sentences and badges into README.md and docs/index.md
	@for file in README.md docs/index.md; do $(BIN)/python stages/readme.py --reports reports --coverage docs/coverage.yaml \
		--published data/published --words docs/words.yaml --judgements docs/review.yaml --readme $$file || exit 1; done

questions: $(VENV)/.ready ## write docs/questions.md: what users ask, answered with the numbers of the records
	$(BIN)/python stages/questions.py --reports reports --published data/published --methods docs/METHODS.md \
		--judgements docs/review.yaml --out docs/questions.md

papers: $(VENV)/.ready ## bring papers/ up to date: the copies of dvc.yaml, the generated parts of the README files
	@for folder in $$(dirname papers/*/params.yaml); do name=$$(sed -n '1s/^# //p' $$folder/README.md 2>/dev/null); \
		$(BIN)/python stages/paper.py $$folder --reports reports --published data/published --review docs/review.yaml \
		--coverage docs/coverage.yaml --claims docs/claims.yaml \
		$${name:+--name "$$name"} || exit 1; done

coverage: $(VENV)/.ready ## write docs/coverage.md: which table or figure is made where, and what of it was run
	$(BIN)/python stages/coverage.py --coverage docs/coverage.yaml --reports reports --out docs/coverage.md

verified: $(VENV)/.ready ## write docs/verified.md: when all of it was last verified, where and how; after a commit of records
	@$(BIN)/python benchmarks/filing.py
	$(BIN)/python stages/verified.py --out docs/verified.md

schema: $(VENV)/.ready ## write docs/schema/: the formats of the JSON files in reports/
	$(BIN)/python stages/schema.py --out docs/schema

archive: $(VENV)/.ready ## all reports as one file, reports.zip, with a README and checksums
	$(BIN)/python stages/archive.py --reports reports --out reports.zip

crate: $(VENV)/.ready ## the run of a study (STUDY=digits) as a Workflow Run RO-Crate, STUDY.crate.zip
	$(BIN)/python stages/crate.py $(STUDY) --out $(STUDY).crate.zip

site: $(VENV)/.ready ## docs/ as a site in site/; open site/index.html
	rm -rf site && $(BIN)/python -m sphinx --quiet --fail-on-warning docs site

screenshots: $(VENV)/.ready ## the pictures of docs/report.md, from the pages in reports/, in Chromium
	$(BIN)/python -m tests.helpers.screenshots

lock: ## resolve requirements.lock anew from pyproject.toml (hashes, no index address)
	@command -v uv >/dev/null 2>&1 || $(MAKE) --no-print-directory .uv/bin/uv
	$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
		--extra dev --custom-compile-command "make lock" -o requirements.lock pyproject.toml

clean: ## the environment only; results stay
	rm -rf $(VENV)

# uv where it is; else from pip, in an environment of its own
UV = $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)

.uv/bin/uv:
	$(PYTHON) -m venv .uv && .uv/bin/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.ready: requirements.lock pyproject.toml
	@command -v uv >/dev/null 2>&1 || $(MAKE) --no-print-directory .uv/bin/uv
	$(UV) venv --quiet --clear --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation-package longtail -e .
	@touch $@
