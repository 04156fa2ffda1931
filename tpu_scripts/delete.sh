#!/usr/bin/env bash
# Give the TPU back, which ends its cost: first the run saves and leaves, then all hosts and their disks go.
#
#   tpu_scripts/delete.sh
#
#   --now   do not wait for the run to save (when the hosts are gone already)
#
# The run folder in the bucket stays.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=settings.sh
. "$here/settings.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
options="$options now!"
now=""
parse "$@"
require project zone name

state="$(resource_state)"
if [ -z "$state" ]; then
  note "$name is not there"
  exit
fi
case "$now:$state" in
  :ACTIVE | :READY)
    options_again "$host_options"
    "$here/stop.sh" "${again[@]}" >&3 || fail "the run was not stopped; delete.sh --now deletes all the same"
    ;;
esac
if [ -n "$direct" ]; then
  run gcloud compute tpus tpu-vm delete "$name" "--project=$project" "--zone=$zone" --quiet
else
  run gcloud compute tpus queued-resources delete "$name" "--project=$project" "--zone=$zone" --force --quiet
fi
