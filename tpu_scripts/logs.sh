#!/usr/bin/env bash
# Show what the run says on its hosts, each line with the name of the host.
#
#   tpu_scripts/logs.sh --follow
#   tpu_scripts/logs.sh --node all --worker all --lines 20
#
#   --node N     the slice, or all; default 0
#   --worker N   the host of the slice, or all; default 0, the only one that reports steps
#   --lines N    so many of the newest lines; default 100
#   --follow     and those to come
#
# Hosts that are gone left theirs beside the run folder: fetch.sh --logs.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=settings.sh
. "$here/settings.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
options="$options node worker lines follow!"
node=0 worker=0 lines=100 follow=""
parse "$@"
require project zone name
on_hosts "$node" "$worker" "sudo journalctl --unit=dar-jax --output=short-iso --lines=$lines ${follow:+--follow}"
