#!/usr/bin/env bash
# Show the state of the TPU, of its slices, and of the run on each host.
#
#   tpu_scripts/status.sh
#
# A host says: its name, then absent (nothing started), running, done or ended, then the run's last exit status (2 a
# setting, 3 the judge, 4 its budget, 5 a signal, 6 a host lost, 7 not finite) and how often it was started again.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=settings.sh
. "$here/settings.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
parse "$@"
require project zone name

state="$(resource_state)"
printf '%s %s\n' "$name" "${state:-is not there}"
if [ -z "$state" ]; then exit; fi
slice_states
case "$state" in ACTIVE | READY) run_states ;; esac
