#!/usr/bin/env bash
# Install dar_jax on every host: the committed files of this repository, in an environment of their own.
#
#   tpu_scripts/setup.sh
#
#   --ref REF   the commit to send; default HEAD. What is not committed is not sent.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=settings.sh
. "$here/settings.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
options="$options ref"
ref=HEAD
parse "$@"
require project zone name

if [ -n "$(ask "" git -C "$here/.." status --porcelain --untracked-files=no)" ]; then
  note "there are changes that are not committed; they are not sent"
fi
archive="${TMPDIR:-/tmp}/dar_jax-$name.tar.gz"
run git -C "$here/.." archive --format=tar.gz --output="$archive" "$ref"
to_hosts "$archive" dar_jax.tar.gz
own="sudo mkdir -p $base && sudo chown -R \"\$(id -un)\" $base"
unpack="rm -rf $base/source && mkdir $base/source && tar -xzf dar_jax.tar.gz -C $base/source"
on_hosts all all "$own && $unpack && bash $worker/install.sh"
