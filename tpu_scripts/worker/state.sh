#!/usr/bin/env bash
# Print how the run on this host is: HOST STATE EXIT_STATUS RESTARTS. Runs on a host.
#
#   absent   never started here
#   running  under way, or about to be started again
#   done     ended with status 0
#   ended    stopped, or given up: EXIT_STATUS says why (2 a setting, 3 the judge, 4 its budget, 5 stopped)
set -euo pipefail

show() { systemctl show dar-jax --property="$1" | cut -d= -f2-; }

status="$(show ExecMainStatus)"
case "$(show ActiveState)" in
  active | activating | reloading | deactivating) state=running ;;
  *) if [ "$(show ExecMainStartTimestampMonotonic)" = 0 ] || [ "$(show LoadState)" = not-found ]; then
    state=absent
  elif [ "$status" = 0 ]; then
    state="done"
  else
    state=ended
  fi ;;
esac
echo "$(hostname) $state $status $(show NRestarts)"
