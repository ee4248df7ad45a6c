#!/usr/bin/env bash
# From pictures to a report: docs/collect_loop.sh DIR. Every command can be run again after an interruption.
# The annotators are simulated; with people, serve the project instead (`collect serve`) and send them links.
set -euo pipefail
dir=$1
run() { echo "+ $*" >&2; "$@"; }

# Drawn pictures of eight classes, a project and its plan.
[ -e "$dir/project/project.toml" ] || run python -m data_prep collect demo "$dir" --no_serve
run python -m data_prep collect simulate "$dir/project" --annotators=3 --ledger="$dir/ledger.jsonl"
run python -m data_prep collect status "$dir/project"

# The last line of an export is the command that prepares it.
run python -m data_prep collect export "$dir/project" --out="$dir/export" --prepared="$dir/prepared" | tee "$dir/export.txt"
prepare=$(tail -n 1 "$dir/export.txt")
echo "+ $prepare" >&2
eval "$prepare"
run python -m data_prep folder --source="$dir/val" --split=val --out="$dir/prepared"

# Training on the clicks, evaluation, report.
run python -m luab_jax.main --config=configs/demo.py --workdir="$dir/run" \
  --config.data.root="$dir/prepared" --config.byproduct.target=click_last ${TRAIN_FLAGS:-}
run python -m luab_jax.evaluate --checkpoint="$dir/run" --suites=all --data="$dir" --out="$dir/results.json"
run python -m luab_jax.report "$dir/results.json" --out="$dir/report.html"
run python -m luab_jax.report "$dir/results.json"
