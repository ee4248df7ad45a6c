#!/usr/bin/env bash
# The demo's road, command by command: demo.sh OUT "TARGETS" "SEEDS". Every command resumes or reuses what is there.
# A seed draws its own data, and seeds the training on it.
set -euo pipefail
out=$1 targets=$2 seeds=$3

run() { echo "+ $*" >&2; "$@"; }

started=$SECONDS
results=()
for target in $targets; do
  for seed in $seeds; do
    data="$out/data-seed$seed"
    workdir="$out/runs/$target-seed$seed"
    [ -n "${drawn:-}" ] || run python -m data_prep demo --out="$data" --seed="$seed"
    run python -m luab_jax.main --config=configs/demo.py --workdir="$workdir" \
      --config.data.root="$data/prepared" --config.byproduct.target="$target" --config.seed="$seed"
    run python -m luab_jax.evaluate --checkpoint="$workdir" --suites=all --data="$data" \
      --out="$workdir/results.json" > "$workdir/evaluation.txt"
    results+=("$workdir/results.json")
  done
  drawn=yes
done
run python -m luab_jax.report "${results[@]}" --out="$out/table.txt"
run python -m luab_jax.report "${results[@]}" --out="$out/report.html"
echo
cat "$out/table.txt"
echo
echo "data $out/data-seed*, runs $out/runs (metrics.jsonl, checkpoints, results.json, results.examples.jsonl, evaluation.txt), table $out/table.txt"
echo "the same with figures, for a browser: $out/report.html"
echo "$((SECONDS - started)) s"
