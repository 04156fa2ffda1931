#!/usr/bin/env bash
# Make the run a service of this host that starts now and at every boot: start.sh RUN_DIR WORDS FOR run.py...
# Runs on a host.
set -euo pipefail
run_dir="$1"
shift
base="$(cd "$(dirname "$0")/../../.." && pwd)"

{
  echo '#!/usr/bin/env bash'
  printf 'exec'
  printf ' %q' "$base/venv/bin/python" -u "$base/source/tpu_scripts/worker/run.py" "$@"
  echo
} >"$base/run.sh"
sed -e "s|@BASE@|$base|g" -e "s|@USER@|$(id -un)|g" -e "s|@RUN_DIR@|$run_dir|g" \
  "$base/source/tpu_scripts/worker/dar-jax.service" | sudo tee /etc/systemd/system/dar-jax.service >/dev/null
sudo systemctl daemon-reload
# It may have used up its starts.
sudo systemctl reset-failed dar-jax 2>/dev/null || true
sudo systemctl enable --quiet dar-jax
sudo systemctl restart dar-jax
echo "$(hostname): started"
