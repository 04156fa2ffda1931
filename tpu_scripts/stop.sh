#!/usr/bin/env bash
# Have the run save and leave on all hosts; the TPU stays, and is billed. launch.sh goes on with it.
#
#   tpu_scripts/stop.sh
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=settings.sh
. "$here/settings.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
parse "$@"
require project zone name
on_hosts all all "! systemctl cat dar-jax >/dev/null 2>&1 || sudo systemctl disable --now dar-jax"
