#!/usr/bin/env bash
# Ask for TPUs and wait until they are there.
#
#   tpu_scripts/create.sh --topology v5e:2x4 --spot
#   tpu_scripts/create.sh --topology v5p:4x4x4 --slices 2 --gcloud --network=my-network
#
#   --topology T          one slice, as dar-jax plan writes it: v5e:2x4, v6e:4x4, v4:2x2x2, v5p:4x4x4
#   --slices N            so many of them (multi-slice); default 1
#   --spot                cheaper, and taken away at any time; watch.sh brings it back
#   --reserved            from the project's reservation
#   --flex-start 24h      for so long and no longer, 7 days at most (in gcloud's alpha)
#   --service-account A   who the hosts are: it reads the secrets and writes the bucket; default: the project's own
#   --runtime-version V   the image of the hosts; default: the one for the generation
#   --gcloud FLAG         another flag of gcloud ... create; may come again
#   --no-wait             return when the request is in the queue
#   --poll SECONDS        between two looks at the queue; default 30
#
# This makes a queued resource (with --direct a TPU VM, now or not at all). It is billed until delete.sh.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=settings.sh
. "$here/settings.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
# shellcheck source=topologies.sh
. "$here/topologies.sh"
options="$options $create_options no-wait! poll"
no_wait="" poll=30
parse "$@"
require project zone name topology
read_accelerator "$topology"

# What the hosts may do is for the roles of their account to say, not for scopes.
flags=("${accelerator[@]}" --scopes=https://www.googleapis.com/auth/cloud-platform "--project=$project" "--zone=$zone")
if [ -n "$service_account" ]; then flags+=("--service-account=$service_account"); fi
if [ -n "$spot" ]; then flags+=(--spot); fi
if [ -n "$reserved" ]; then flags+=(--reserved); fi
while IFS= read -r flag; do flags+=("$flag"); done < <(lines "$gcloud")

if [ -n "$direct" ]; then
  if [ "$slices" != 1 ]; then fail "--slices $slices: several slices come as a queued resource; leave --direct out"; fi
  if [ -n "$flex_start" ]; then fail "--flex-start: it comes as a queued resource; leave --direct out"; fi
  run gcloud compute tpus tpu-vm create "$name" "--version=${runtime_version:-$runtime}" "${flags[@]}"
  exit
fi

release=(gcloud)
if [ -n "$flex_start" ]; then
  release=(gcloud alpha)
  flags+=(--provisioning-model=flex-start "--max-run-duration=$flex_start")
fi
nodes=("--node-id=$name")
if [ "$slices" != 1 ]; then nodes=("--node-count=$slices" "--node-prefix=$name"); fi
run "${release[@]}" compute tpus queued-resources create "$name" "${nodes[@]}" \
  "--runtime-version=${runtime_version:-$runtime}" "${flags[@]}"
if [ -n "$no_wait" ]; then exit; fi

before=""
while :; do
  state="$(resource_state)"
  if [ "$state" != "$before" ]; then note "$name: ${state:-not there}"; fi
  case "$state" in
    ACTIVE) break ;;
    FAILED | SUSPENDING | SUSPENDED | DELETING | "") fail "$name is ${state:-gone}; delete.sh, then ask again" ;;
  esac
  before="$state"
  sleep "$poll"
done
