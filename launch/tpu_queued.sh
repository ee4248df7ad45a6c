#!/usr/bin/env bash
# Trains on a Cloud TPU slice: requests it, waits, installs, runs on all workers, restarts, deletes.
#
#   NAME=vit-b ZONE=us-west4-a TYPE=v5litepod-256 RUNTIME=v2-alpha-tpuv5-lite BUCKET=gs://my-bucket \
#     bash launch/tpu_queued.sh --config=vit_b --config.data.root=gs://my-bucket/data
#
# The arguments are those of `python -m luab_jax.main`; --workdir is $BUCKET/runs/$NAME unless given. The training runs
# detached on the workers, so this script may be stopped (Ctrl-C) and started again: the same command follows the run.
#
#   SPOT=1            request a Spot slice, which is cheaper and may be preempted at any time
#   SLICES=2          several slices (Multislice)
#   MAX_RESTARTS=20   restarts after exit code 3, a lost connection or a preemption, before the script gives up
#   KEEP=1            do not delete the slice at the end
#   SERVICE_ACCOUNT=  account of the VMs (roles/storage.objectUser on the bucket)
#   PROJECT=          if it is not gcloud's default
#   POLL_S=30         seconds between two looks
#   bash launch/tpu_queued.sh delete      deletes the slice, and with it the run
#
# Exit codes: those of the training (0 done, 1 failed, 2 wrong usage), 3 if it gave up and the same command resumes.
set -euo pipefail

say() { printf '%s %s\n' "$(date -u +%H:%M:%S)" "$*" >&2; }

for variable in NAME ZONE TYPE RUNTIME BUCKET; do
  [ -n "${!variable:-}" ] || { echo "error: $variable is not set; see the first lines of $0" >&2; exit 2; }
done
[[ $BUCKET == gs://* ]] || { echo "error: BUCKET=$BUCKET must be gs://NAME" >&2; exit 2; }
[[ $NAME =~ ^[a-z][a-z0-9-]*$ ]] || { echo "error: NAME=$NAME: lower-case letters, digits and dashes only" >&2; exit 2; }
command -v gcloud > /dev/null || { echo "error: gcloud is not installed (https://cloud.google.com/sdk/docs/install)" >&2; exit 2; }
[ $# -gt 0 ] || { echo "error: no arguments for the training, such as --config=vit_b" >&2; exit 2; }

SOURCE=$(cd "$(dirname "$0")/.." && pwd)
SLICES=${SLICES:-1} MAX_RESTARTS=${MAX_RESTARTS:-20} POLL_S=${POLL_S:-30}
WHERE=(--zone="$ZONE" --quiet)
[ -z "${PROJECT:-}" ] || WHERE+=(--project="$PROJECT")
NODES=("$NAME")
if [ "$SLICES" -gt 1 ]; then
  NODES=()
  for ((i = 0; i < SLICES; i++)); do NODES+=("$NAME-$i"); done
fi
EXIT_FILE="\$HOME/luab_jax.exit"

queued() { gcloud compute tpus queued-resources "$@" "${WHERE[@]}"; }

state() { # of the queued resource; ABSENT if there is none
  local text
  if text=$(queued describe "$NAME" --format='value(state.state)' 2>&1); then
    echo "${text##*$'\n'}"
  elif [[ $text == *NOT_FOUND* || $text == *"not found"* ]]; then
    echo ABSENT
  else
    say "gcloud: ${text%%$'\n'*}"
    echo UNKNOWN
  fi
}

delete() {
  say "deleting $NAME"
  queued delete "$NAME" --force
}

create() {
  local options=(--accelerator-type="$TYPE" --runtime-version="$RUNTIME" --async)
  if [ "$SLICES" -gt 1 ]; then
    options+=(--node-count="$SLICES" --node-prefix="$NAME")
  else
    options+=(--node-id="$NAME")
  fi
  [ "${SPOT:-0}" != 1 ] || options+=(--spot)
  [ -z "${SERVICE_ACCOUNT:-}" ] || options+=(--service-account="$SERVICE_ACCOUNT")
  say "requesting $NAME: $SLICES x $TYPE in $ZONE, SPOT=${SPOT:-0}"
  queued create "$NAME" "${options[@]}"
}

acquire() { # until the slice is there
  local now before=
  while true; do
    now=$(state)
    [ "$now" = "$before" ] || say "$NAME is $now"
    before=$now
    case $now in
      ACTIVE) return ;;
      ABSENT) create ;;
      FAILED | SUSPENDED) delete ;; # it is not allocated again; a new request is
      *) sleep "$POLL_S" ;;         # in the queue, being provisioned or deleted
    esac
  done
}

on_all() { # runs a command on every worker of every slice; prints what they print
  local node
  for node in "${NODES[@]}"; do
    gcloud compute tpus tpu-vm ssh "$node" --worker=all --command="$1" "${WHERE[@]}" < /dev/null || return
  done
}

install() {
  local archive node
  archive=$(mktemp --suffix=.tar.gz)
  tar -czf "$archive" -C "$SOURCE" --exclude='*/__pycache__' setup.cfg pyproject.toml README.md requirements.lock luab_jax data_prep
  for node in "${NODES[@]}"; do
    gcloud compute tpus tpu-vm scp "$archive" "$node:luab_jax.tar.gz" --worker=all "${WHERE[@]}" || { rm -f "$archive"; return 1; }
  done
  rm -f "$archive"
  # The images bring Python 3.10; uv brings 3.11. What is in single quotes is expanded by the workers.
  # shellcheck disable=SC2016
  on_all 'set -e; mkdir -p luab_jax && tar -xzf luab_jax.tar.gz -C luab_jax && cd luab_jax
    python3 -m pip install --quiet --user uv && PATH=$HOME/.local/bin:$PATH
    [ -x .venv/bin/python ] || uv venv --quiet --python 3.11 .venv
    uv pip install --quiet --python .venv/bin/python ".[tpu,gcs]" --constraint requirements.lock'
}

quoted() { # the training's command line, for the shell of the workers
  local given=" $* " words=(.venv/bin/python -m luab_jax.main "$@" --config.distributed.enabled=true)
  [[ $given == *" --workdir="* ]] || words+=(--workdir="$BUCKET/runs/$NAME")
  [[ $given == *" --config.compilation_cache="* ]] || words+=(--config.compilation_cache="$BUCKET/compilation_cache")
  printf '%q ' "${words[@]}"
}

start() { # detached, so that a lost connection does not end it; what ran before is ended first
  on_all "cd luab_jax; [ ! -f \$HOME/luab_jax.pid ] || kill -9 -\$(cat \$HOME/luab_jax.pid) 2>/dev/null; rm -f $EXIT_FILE
    setsid nohup bash -c 'echo \$\$ > \$HOME/luab_jax.pid; $(quoted "$@" | sed "s/'/'\\\\''/g"); echo \$? > \$HOME/luab_jax.exit' > \$HOME/luab_jax.log 2>&1 < /dev/null &"
}

codes() { # one line per worker: its exit code, `running`, or `none` where nothing was started
  on_all "if [ -f $EXIT_FILE ]; then echo luab_jax_exit \$(cat $EXIT_FILE); elif [ -f \$HOME/luab_jax.pid ] && kill -0 \$(cat \$HOME/luab_jax.pid) 2>/dev/null; then echo luab_jax_exit running; else echo luab_jax_exit none; fi" |
    sed -n 's/.*luab_jax_exit //p'
}

tell() { # the last line of the log of the first worker; $1 lines at an end
  gcloud compute tpus tpu-vm ssh "${NODES[0]}" --worker=0 --command="tail -n ${1:-1} luab_jax.log" "${WHERE[@]}" < /dev/null || true
}

follow() { # until the run has ended everywhere; prints what follows from the codes: 0, 1, 2, 3, or `lost`, `unseen`
  local found missed=0 line=
  while true; do
    case $(state) in
      ACTIVE | UNKNOWN) ;; # a look that failed says nothing of the slice
      *) echo lost; return ;;
    esac
    if found=$(codes) && [ -n "$found" ]; then
      missed=0
      case $'\n'$found$'\n' in
        *$'\nrunning\n'*) ;;
        *$'\n1\n'*) echo 1; return ;;
        *$'\n2\n'*) echo 2; return ;;
        *) if [ -z "${found//[0$'\n']/}" ]; then echo 0; else echo 3; fi; return ;;
      esac
      local now
      now=$(tell)
      [ "$now" = "$line" ] || printf '%s\n' "$now" >&2
      line=$now
    elif ((++missed >= 10)); then
      echo unseen
      return
    fi
    sleep "$POLL_S"
  done
}

finish() {
  if [ "${KEEP:-0}" = 1 ]; then say "$NAME is kept, and is charged for, until: NAME=$NAME ... bash $0 delete"; else delete; fi
}

if [ "$1" = delete ]; then
  delete
  exit 0
fi
trap 'say "stopped looking; the run and its costs continue. The same command follows it, \"delete\" ends it"; exit 3' INT TERM

restarts=0 missed=0
again() { # counts a restart for the reason $1
  restarts=$((restarts + 1))
  ((restarts > MAX_RESTARTS)) || say "restart $restarts of $MAX_RESTARTS: $1"
}

while ((restarts <= MAX_RESTARTS)); do
  acquire
  if ! found=$(codes) || [ -z "$found" ]; then # the run may be going on, and a start would end it
    missed=$((missed + 1))
    say "the workers could not be reached; looking again"
    ((missed % 10)) || again "no answer to $missed looks"
    sleep "$POLL_S"
    continue
  fi
  missed=0
  if [[ $'\n'$found$'\n' == *$'\nrunning\n'* ]]; then
    say "the run is going on; following it"
  elif ! install || ! start "$@"; then
    again "the workers could not be reached"
    sleep "$POLL_S"
    continue
  fi
  result=$(follow)
  case $result in
    0)
      tell 3 >&2
      say "done: ${BUCKET}/runs/$NAME"
      finish
      exit 0
      ;;
    1 | 2)
      tell 20 >&2
      finish
      exit "$result"
      ;;
    unseen) say "no answer to 10 looks; looking again" ;; # the run may be going on: no restart
    lost) again "the slice was preempted" ;;
    *) again "exit code 3" ;;
  esac
done
say "gave up after $MAX_RESTARTS restarts; the same command resumes"
finish
exit 3
