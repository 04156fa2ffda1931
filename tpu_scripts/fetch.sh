#!/usr/bin/env bash
# Copy a run folder from its bucket to this machine; again, to bring a copy up to date.
#
#   tpu_scripts/fetch.sh --run-dir gs://my-bucket/runs/tldr runs/tldr
#
#   --run-dir gs://B/F    the run folder
#   --checkpoints         the checkpoints too, which are large
#   --logs                the logs of hosts that are gone, and nothing else
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=settings.sh
. "$here/settings.sh"
# shellcheck source=runs.sh
. "$here/runs.sh"
options="$options run-dir checkpoints! logs!"
checkpoints="" logs=""
parse "$@"
require_run_dir
if [ "${#words[@]}" != 1 ]; then fail "expected one folder to copy to, got: ${words[*]:-nothing}"; fi

flags=()
if [ -z "$checkpoints" ]; then flags+=('--exclude=^checkpoints/'); fi
if [ -n "$logs" ]; then run_dir="$run_dir.hosts"; fi
run mkdir -p "${words[0]}"
run gcloud storage rsync "$run_dir" "${words[0]}" ${flags[@]+"${flags[@]}"} --recursive
