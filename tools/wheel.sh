#!/usr/bin/env bash
# Builds the wheel and tries it where a user stands: an empty environment, an empty folder, no clone beside it.
# PYTHONS="python3.11 python3.12" chooses interpreters; by default every one of 3.11, 3.12 and 3.13 that starts.
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${BIN:-.venv/bin}/python" -m pip wheel --quiet --no-deps --wheel-dir "$scratch" .
wheel=$(ls "$scratch"/*.whl)
python3 - "$wheel" <<'CHECK'
import sys, zipfile

names = zipfile.ZipFile(sys.argv[1]).namelist()
tops = sorted({name.split("/")[0] for name in names if ".dist-info/" not in name})
assert tops == ["data_prep", "luab_jax"], f"the wheel installs {tops}"
print(f"{sys.argv[1].rsplit('/', 1)[1]}: {len(names)} files, top-level packages {', '.join(tops)}")
CHECK

pythons=${PYTHONS:-python3.11 python3.12 python3.13}
for python in $pythons; do
  if ! "$python" -c '' 2>/dev/null; then
    echo "$python: not installed here, left out"
    continue
  fi
  environment="$scratch/$(basename "$python")" folder="$scratch/empty-$(basename "$python")"
  mkdir "$folder"
  started=$SECONDS
  if command -v uv >/dev/null; then  # links files of its cache: seconds instead of a minute
    uv venv --quiet --python "$python" "$environment"
    uv pip install --quiet --python "$environment/bin/python" --constraint "$repository/requirements.lock" "$wheel"
  else
    "$python" -m venv "$environment"
    "$environment/bin/pip" install --quiet --constraint "$repository/requirements.lock" "$wheel"
  fi
  (
    cd "$folder"
    export PATH="$environment/bin:$PATH"
    unset PYTHONPATH
    luab-jax --version
    luab-jax data demo --out=DEMO --num_train=64 --num_val=32 --workers=1 >/dev/null
    luab-jax train --config=demo --workdir=RUN --config.data.root=DEMO/prepared --config.epochs=1 \
      --config.model.width=8 2>/dev/null
    luab-jax evaluate --checkpoint=RUN --suites=imagenet,cocc --data=DEMO --out=RUN/results.json --examples=0 \
      >/dev/null 2>&1
    luab-jax report RUN/results.json
  )
  echo "$python: $(du -sm "$environment" | cut -f1) MB installed, works in an empty folder, $((SECONDS - started)) s"
done
