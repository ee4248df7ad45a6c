#!/usr/bin/env bash
# The demo's road, command by command: demo.sh OUT "TARGETS" "SEEDS". Every command resumes or reuses what is there.
set -euo pipefail
out=$1 targets=$2 seeds=$3

run() { echo "+ $*" >&2; "$@"; }

started=$SECONDS
run python -m data_prep demo --out="$out/data"
results=()
for target in $targets; do
  for seed in $seeds; do
    workdir="$out/runs/$target-seed$seed"
    run python -m luab_jax.main --config=configs/demo.py --workdir="$workdir" \
      --config.data.root="$out/data/prepared" --config.byproduct.target="$target" --config.seed="$seed"
    run python -m luab_jax.evaluate --checkpoint="$workdir" --step=latest --suites=all --data="$out/data" \
      --out="$workdir/results.json" > "$workdir/evaluation.txt"
    results+=("$workdir/results.json")
  done
done
run python -m luab_jax.report "${results[@]}" --out="$out/table.txt"
echo
cat "$out/table.txt"
echo
echo "data $out/data, runs $out/runs, table $out/table.txt; $((SECONDS - started)) s"
