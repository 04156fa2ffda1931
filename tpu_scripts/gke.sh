#!/usr/bin/env bash
# Start a run on GKE as a JobSet (jobset.yaml), on a cluster that kubectl points to and that has node pools for it.
#
#   tpu_scripts/gke.sh my.yaml --name tldr --topology v5e:4x4 --image REGION-docker.pkg.dev/P/R/dar_jax \
#     --run-dir gs://my-bucket/runs/tldr --secret OPENAI_API_KEY=openai-key -- steps=500
#
#   CONFIG, --run-dir, --secret, --env, --compile-cache, --start-timeout, -- key.sub=value   as for launch.sh
#   --topology T          one slice, as dar-jax plan writes it
#   --slices N            so many of them; default 1
#   --chips-per-host N    of the node pool's machines; default 4 (or all, where a slice has fewer)
#   --image I             made by tpu_scripts/Dockerfile
#   --account A           the Kubernetes service account; Workload Identity lets it read the secrets, use the bucket
#   --namespace N         default: kubectl's own
#   --queue Q             Kueue's local queue; on a cluster made by xpk: multislice-queue
#   --spot                on spot nodes
#   --max-restarts N      so often it starts again by itself; default 100
#
# After a preemption or a crash all hosts start again and go on with the run. --dry-run prints the manifest too.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=settings.sh
. "$here/settings.sh"
# shellcheck source=topologies.sh
. "$here/topologies.sh"
# shellcheck source=runs.sh
. "$here/runs.sh"
options="$options $run_options topology slices chips-per-host image account namespace queue spot! max-restarts"
chips_per_host="" image="" account="" namespace="" queue="" max_restarts=100
parse "$@"
require name topology image
read_topology "$topology"
read_run

case "$generation" in
  v4) label=tpu-v4-podslice ;;
  v5e) label=tpu-v5-lite-podslice ;;
  v5p) label=tpu-v5p-slice ;;
  v6e) label=tpu-v6e-slice ;;
esac
chips_per_host="${chips_per_host:-$((chips < 4 ? chips : 4))}"
if [ "$((chips % chips_per_host))" != 0 ]; then fail "--chips-per-host $chips_per_host: $topology has $chips chips"; fi

# A YAML flow sequence of strings, which JSON's are too.
strings() {
  local word line=""
  for word in "$@"; do line="$line, \"$(printf '%s' "$word" | sed 's/[\\"]/\\&/g')\""; done
  printf '[%s]' "${line#, }"
}

# fill NAME VALUE: the text on standard input with @NAME@ filled in.
fill() {
  sed "s|@$1@|$(printf '%s' "$2" | sed 's/[\\|&]/\\&/g')|g"
}

leave_out() {
  if [ -z "$2" ]; then grep -vF "# [$1]"; else sed "s/  # \[$1\]\$//"; fi
}

manifest() {
  sed 1,3d "$here/jobset.yaml" | leave_out spot "$spot" | leave_out queue "$queue" | leave_out account "$account" |
    fill NAME "$name" | fill QUEUE "$queue" | fill ACCOUNT "$account" | fill MAX_RESTARTS "$max_restarts" |
    fill SLICES "$slices" | fill HOSTS "$((chips / chips_per_host))" | fill CHIPS_PER_HOST "$chips_per_host" |
    fill ACCELERATOR "$label" | fill SHAPE "$shape" | fill IMAGE "$image" |
    fill ARGUMENTS "$(strings "${told[@]}" --config /config/config.yaml -- ${rest[@]+"${rest[@]}"})"
}

kubectl=(kubectl)
if [ -n "$namespace" ]; then kubectl+=("--namespace=$namespace"); fi
run "${kubectl[@]}" delete configmap "$name" --ignore-not-found
run "${kubectl[@]}" create configmap "$name" "--from-file=config.yaml=$config"
if [ -n "$dry_run" ]; then
  printf "%s <<'END'\n%s\nEND\n" "$(quoted "${kubectl[@]}" apply -f -)" "$(manifest)" >&3
else
  manifest | "${kubectl[@]}" apply -f -
fi
