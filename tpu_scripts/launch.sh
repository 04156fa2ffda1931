#!/usr/bin/env bash
# Check the hosts, then start a run on all of them, or go on with the one in its run folder.
#
#   tpu_scripts/launch.sh my.yaml --run-dir gs://my-bucket/runs/tldr --secret OPENAI_API_KEY=openai-key -- steps=500
#
#   CONFIG                the config file, which is sent; a run that exists goes by its own
#   --run-dir gs://B/F    where the run goes on if there is one, and starts if not
#   --secret VAR=NAME     gives the run the environment variable VAR (OPENAI_API_KEY, GEMINI_API_KEY, HF_TOKEN) with the
#                         newest version of NAME in Secret Manager; may come again
#   --env VAR=VALUE       another environment variable of the run; may come again
#   --compile-cache URL   kept over hosts and restarts; default: compile-cache in the run folder's bucket; none: off
#   --start-timeout S     how long a host waits for the others; default 1800, as cold ones need minutes
#   --no-checks           do not check versions, bucket, secrets and a collective over all hosts before
#   -- key.sub=value      overrides
#
# After a signal, a crash or a reboot the run goes on by itself; after status 0 (done), 2 (a setting cannot be used),
# 3 (the judge failed too often) and 4 (its budget is spent) it does not. Hosts that are taken away are watch.sh's business.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=settings.sh
. "$here/settings.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
# shellcheck source=runs.sh
. "$here/runs.sh"
options="$options $run_options no-checks!"
no_checks=""
parse "$@"
require project zone name
read_run

python="$base/venv/bin/python"

check_hosts() {
  local checked answers kinds
  checked="$(quoted --run-dir "$run_dir" ${secrets[@]+"${secrets[@]}"})"
  answers="$(ask_hosts "a-host a-digest" all all "$python $worker/preflight.py $checked")"
  kinds="$(awk 'NF == 2 { print $2 }' <<<"$answers" | sort -u | wc -l)"
  if [ "$kinds" -ne 1 ]; then
    note "$answers"
    fail "the hosts differ in what is installed (see the digests above); run setup.sh again"
  fi
  # jax gives up by itself where hosts do not come, but not where a collective hangs.
  on_hosts all all "timeout -k 10 $((start_timeout + 300)) $python $worker/collective.py --timeout $start_timeout"
}

if [ -z "$no_checks" ]; then check_hosts; fi
to_hosts "$config" dar_jax.yaml
start=("$run_dir" "${told[@]}" --config "$base/config.yaml" -- ${rest[@]+"${rest[@]}"})
on_hosts all all "cp dar_jax.yaml $base/config.yaml && bash $worker/start.sh $(quoted "${start[@]}")"
