#!/usr/bin/env bash
# What one short visit to a GPU settles, in the order of worth; nothing is installed and nothing is set on the card.
#
#   bash benchmarks/gpu.sh [--rehearse] [--seconds=530] [--only=STEP,...] [--variants=V,...] [--photos=DIR] [--study_photos=DIR] [--out=DIR]
#
# --rehearse  toy sizes on the CPU: every step, in some minutes.
# --seconds   of the whole visit. A step gets what is left, at most its own limit; one with less than 10 s is left out.
# --only      steps by name, with commas between, in this order: environment vit_b vit_b_peer resnet50 resnet50_peer
#             loader evaluation augmentation small corruptions nvjpeg study small_peers loader_peer
# --variants  of vit_b and resnet50, by name: luab baseline untuned xla recipe
# --photos    folder of <class>/<name>.JPEG (default: imagenet_fullres below LUAB_JAX_TEST_DATA)
# --study_photos  folder in the layout of imagenet_ab_40 (default: that below LUAB_JAX_TEST_DATA)
# --out       gets results.jsonl (a line as soon as it is measured), summary.txt, programs and traces of the profiles
#
# Needs the package's own requirements; torch, timm and torchvision for the peers. The programs compiled are kept in
# LUAB_GPU_CACHE (default: a folder of /tmp), so that a second visit compiles only what changed.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

out=gpu_out
photos=${LUAB_JAX_TEST_DATA:-../shared/data}/imagenet_fullres
study_photos=${LUAB_JAX_TEST_DATA:-../shared/data}/imagenet_ab_40
budget=530
only=environment,vit_b,vit_b_peer,resnet50,resnet50_peer,loader,evaluation,augmentation,small,corruptions,nvjpeg,study,small_peers,loader_peer
variants=
rehearse=
for argument in "$@"; do
  case $argument in
    --rehearse) rehearse=--rehearse ;;
    --seconds=*) budget=${argument#*=} ;;
    --only=*) only=${argument#*=} ;;
    --variants=*) variants=$argument ;;
    --photos=*) photos=${argument#*=} ;;
    --study_photos=*) study_photos=${argument#*=} ;;
    --out=*) out=${argument#*=} ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "benchmarks/gpu.sh" >&2; exit 2 ;;
  esac
done
[ -d "$photos" ] || { echo "error: $photos is no folder; give photos by --photos=DIR or set LUAB_JAX_TEST_DATA" >&2; exit 1; }
mkdir -p "$out" || exit 1

PYTHON=${PYTHON:-python3}
cache=${LUAB_GPU_CACHE:-${TMPDIR:-/tmp}/luab_gpu_cache}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=2
export JAX_COMPILATION_CACHE_DIR=$cache JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=1
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}
export TORCHINDUCTOR_CACHE_DIR=$cache/torch
[ -n "$rehearse" ] && export JAX_PLATFORMS=cpu CUDA_VISIBLE_DEVICES=

# step NAME LIMIT MODULE ARGUMENTS...
step() {
  local name=$1 limit=$2 module=$3 left began=$SECONDS code
  shift 3
  [ -n "$rehearse" ] && limit=$((3 * limit)) # two cores, and others on them
  left=$((budget - SECONDS))
  if ((left < 10)); then
    echo "-- $name: left out, $left s are left"
    return
  fi
  ((left < limit)) && limit=$left
  echo "-- $name: $SECONDS s gone, at most $limit s"
  LUAB_GPU_STEP_S=$limit timeout --signal=TERM --kill-after=5 "$limit" "$PYTHON" -m "benchmarks.gpu.$module" --out="$out" $rehearse "$@"
  code=$?
  echo "-- $name: exit $code after $((SECONDS - began)) s"
  ((code == 0)) || failed+=("$name (exit $code)")
  ((code == 124 || code == 137)) && sleep 2 # the driver frees the memory of what was killed
}

failed=()
for name in ${only//,/ }; do
  case $name in
    environment) step environment 50 environment ;;
    vit_b) step vit_b 170 training vit_b $variants ;;
    vit_b_peer) step vit_b_peer 90 peer vit_b ;;
    resnet50) step resnet50 140 training resnet50 $variants ;;
    resnet50_peer) step resnet50_peer 110 peer resnet50 ;;
    loader) step loader 60 reading --photos="$photos" ;;
    evaluation) step evaluation 60 evaluating --photos="$photos" ;;
    augmentation) step augmentation 45 augmenting ;;
    small) step small 90 training vit_s vit_ti resnet18 --variants=luab ;;
    corruptions) step corruptions 60 corrupting --photos="$photos" ;;
    nvjpeg) step nvjpeg 25 nvjpeg --photos="$photos" ;;
    study) step study 150 studying --photos="$study_photos" ;;
    small_peers) step small_peers 120 peer vit_s vit_ti resnet18 ;;
    loader_peer) step loader_peer 60 reading --peer --photos="$photos" ;;
    *) echo "error: --only=$name is no step; bash benchmarks/gpu.sh --help names them" >&2; exit 2 ;;
  esac
done

JAX_PLATFORMS=cpu "$PYTHON" -m benchmarks.gpu.summary --out="$out" | tee "$out/summary.txt"
echo
echo "$SECONDS s in all; results in $out"
if ((${#failed[@]})); then
  printf 'not finished: %s\n' "${failed[*]}"
  exit 1
fi
