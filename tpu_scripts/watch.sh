#!/usr/bin/env bash
# Bring a run to its end: ask for TPUs, install, launch, and all of it again whenever they are taken away.
#
#   tpu_scripts/watch.sh my.yaml --topology v5e:2x4 --spot --run-dir gs://my-bucket/runs/tldr -- steps=500
#
#   CONFIG, options and overrides of launch.sh; options of create.sh; --ref of setup.sh
#   --keep            leave the TPU, and its cost, when the run is over
#   --patience N      looks at a TPU that lacks one of its slices before all are replaced; default 20
#   --poll SECONDS    between two looks; default 30
#
# It remembers nothing: end it and start it again as you like, on a machine that stays awake. When the run is over, its
# TPU is deleted and its exit status is that of watch.sh: 0 done, 2 a setting cannot be used, 3 the judge failed too
# often or only tied, 4 its budget is spent, 7 numbers are no longer finite, another one where it could not be kept up. After stop.sh the TPU is left, and the status is that of a signal.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=settings.sh
. "$here/settings.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
# shellcheck source=topologies.sh
. "$here/topologies.sh"
# shellcheck source=runs.sh
. "$here/runs.sh"
options="$options $create_options $run_options ref keep! patience poll"
ref=HEAD keep="" patience=20 poll=30
parse "$@"
require project zone name topology
read_run

options_again "$host_options" && there=("${again[@]}")
options_again "$create_options" && create=("$here/create.sh" "${there[@]}" "${again[@]}" --poll "$poll")
options_again "$run_options"
launch=("$here/launch.sh" "${there[@]}" "$config" "${again[@]}" -- ${rest[@]+"${rest[@]}"})
# A mistake in them shows now, not when a TPU is there.
"${create[@]}" --dry-run >/dev/null
"${launch[0]}" --dry-run "${launch[@]:1}" >/dev/null
# Every host ever made for this run gets the same commit.
ref="$(ask "$ref" git -C "$here/.." rev-parse "$ref")"

say() { note "$(date -u +%H:%M:%S) $name: $*"; }

replace() {
  say "$1"
  unwell=0
  if [ -n "$state" ]; then "$here/delete.sh" "${there[@]}" --now >&3 || return 0; fi
  "${create[@]}" >&3 || return 0
  assumed_state=ACTIVE
}

# The hosts that still run something, wait for the ones that are new.
bring_up() {
  say "installing and launching"
  if { "$here/stop.sh" "${there[@]}" && "$here/setup.sh" "${there[@]}" --ref "$ref" && "${launch[@]}"; } >&3; then
    failures=0 assumed_run="a-host done 0 0"
    return
  fi
  failures=$((failures + 1))
  if [ "$failures" -ge 5 ]; then over 1 "it could not be brought up"; fi
}

over() {
  say "the run is over, status $1${2:+: $2}"
  # 5 by dar-jax itself, the others where SIGTERM came before it could listen.
  case "$keep:$1" in
    1:* | :5 | :15 | :143) say "the TPU is still there, and billed" ;;
    *) "$here/delete.sh" "${there[@]}" --now >&3 ;;
  esac
  exit "$1"
}

lacks_a_slice() {
  local states="$1"
  [ -z "$dry_run" ] && [ "$(grep -cw READY <<<"$states")" != "$slices" ]
}

look() {
  local answers states
  if ! states="$(slice_states)"; then say "the cloud does not answer" && return; fi
  if lacks_a_slice "$states"; then
    unwell=$((unwell + 1))
    say "a slice is missing ($unwell of $patience)"
    if [ "$unwell" -ge "$patience" ]; then replace "replacing all"; fi
    return
  fi
  unwell=0
  # Hosts may be silent for reasons of this machine's own: no cause to take a TPU from a run.
  if ! answers="$(run_states)" || [ -z "$answers" ]; then say "the hosts do not answer" && return; fi
  states=" $(awk '{ print $2 }' <<<"$answers" | sort -u | tr '\n' ' ')"
  case "$states" in
    *" absent "*) bring_up ;;
    *" running "*) ;;
    " done ") over 0 ;;
    *) over "$(awk '$2 == "ended" { print $3; exit }' <<<"$answers")" ;;
  esac
}

unwell=0 failures=0 assumed_state="" assumed_run="a-host absent 0 0"
while :; do
  state="$(resource_state)" || state=unknown
  case "$state" in
    ACTIVE | READY) look ;;
    "" | FAILED | SUSPENDED | PREEMPTED | TERMINATED) replace "${state:-there is no TPU yet}" ;;
    *) say "$state" ;;
  esac
  if [ -z "$dry_run" ]; then sleep "$poll"; fi
done
