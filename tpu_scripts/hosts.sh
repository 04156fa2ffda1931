# shellcheck shell=bash disable=SC2034,SC2154  # variables are shared with the script that sources this
# The way to the hosts of a TPU: its state, commands and files on its hosts. Sourced after settings.sh, never run.

host_options="project name zone via direct! dry-run!"
options="$options zone via direct!"
zone="" via="" direct=""

# Where setup.sh puts everything on a host, for whoever logs in. What hosts run lies in its source/tpu_scripts/worker.
base=/opt/dar_jax
worker="$base/source/tpu_scripts/worker"

usage_of_hosts() {
  cat <<'END'
  --zone Z              the zone of the TPU
  --direct              a TPU VM without a queued resource
  --via HOW             reach the hosts by internal-ip or tunnel-through-iap
END
}

# at_hosts NODES WORKERS COMMAND: set `command` to what runs it there. A node is a slice, a worker a host of it.
at_hosts() {
  local flags=("--project=$project" "--zone=$zone" --quiet)
  # Without these, ssh waits for ever on a host that was taken away.
  flags+=(--ssh-flag=-oConnectTimeout=30 --ssh-flag=-oServerAliveInterval=30)
  if [ -n "$via" ]; then flags+=("--$via"); fi
  if [ -n "$direct" ]; then
    command=(gcloud compute tpus tpu-vm ssh "$name" "--worker=$2" "--command=$3" "${flags[@]}")
  else
    # gcloud goes in batches of 64 otherwise; a collective needs all hosts at a time.
    flags+=(--batch-size=all)
    command=(gcloud compute tpus queued-resources ssh "$name" "--node=$1" "--worker=$2" "--command=$3" "${flags[@]}")
  fi
}

on_hosts() {
  local command
  at_hosts "$@"
  run "${command[@]}"
}

# ask_hosts ASSUMED NODES WORKERS COMMAND: what the hosts print.
ask_hosts() {
  local assumed="$1" command
  shift
  at_hosts "$@"
  ask "$assumed" "${command[@]}"
}

# Copy a file to every host, under this name in the home folder.
to_hosts() {
  local flags=(--worker=all "--project=$project" "--zone=$zone" --quiet)
  if [ -n "$via" ]; then flags+=("--$via"); fi
  if [ -n "$direct" ]; then
    run gcloud compute tpus tpu-vm scp "$1" "$name:$2" "${flags[@]}"
  else
    run gcloud compute tpus queued-resources scp "$1" "$name:$2" --node=all --batch-size=all "${flags[@]}"
  fi
}

# Print the state of the queued resource, or of the TPU VM; nothing where there is none. The states are those of
# https://cloud.google.com/tpu/docs/queued-resources and of projects.locations.nodes in the REST reference.
resource_state() {
  local flags=("--project=$project" "--zone=$zone" "--filter=name~/$name\$")
  if [ -n "$direct" ]; then
    ask "${assumed_state-READY}" gcloud compute tpus tpu-vm list "${flags[@]}" "--format=value(state)"
  else
    ask "${assumed_state-ACTIVE}" gcloud compute tpus queued-resources list "${flags[@]}" "--format=value(state.state)"
  fi
}

# Print name, state and health of each slice. Cloud TPU numbers several of them: NAME-0, NAME-1.
slice_states() {
  ask "$name READY HEALTHY" gcloud compute tpus tpu-vm list "--project=$project" "--zone=$zone" \
    "--filter=name~\"/$name(-[0-9]+)?\$\"" "--format=value(name.basename(),state,health)"
}

# Print a line a host: its name, the state of the run there, its last exit status, how often it started again.
run_states() {
  ask_hosts "${assumed_run-a-host running 0 0}" all all \
    "bash $worker/state.sh 2>/dev/null || echo \"\$(hostname) absent 0 0\""
}
