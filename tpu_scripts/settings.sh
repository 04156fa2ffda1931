# shellcheck shell=bash disable=SC2034,SC2154  # variables are shared with the script that sources this
# The options of the scripts here, and the two ways to run a command: for real and dry. Sourced, never run.

# Scripts and the other sourced files add to these: ! behind one without a value, + behind one that may come again (its
# values are lines). Each sets the variable of its name. What stands behind -- is kept in `rest`, everything else in
# `words`.
options="project name dry-run! help!"
project="" name="" dry_run="" help=""
words=() rest=()

# Where a dry run shows its commands, from within $( ) as well. It shows nothing else.
exec 3>&1

note() { if [ -z "$dry_run" ]; then printf '%s\n' "$*" >&2; fi; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

# The comment at the top of a script is its help.
usage() {
  awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
  cat <<'END'

  --project P           the Google Cloud project
  --name N              the name of the TPU, or of the job
  --dry-run             print the commands, run none
END
  if declare -F usage_of_hosts >/dev/null; then usage_of_hosts; fi
  printf '\nAn option that is not given is read from the environment: --run-dir from DAR_JAX_RUN_DIR, and so on.\n'
}

read_environment() {
  local variables="${!DAR_JAX_*}" option
  # Both lists of words are walked together: DAR_JAX_RUN_DIR and run-dir.
  # shellcheck disable=SC2086
  set -- $variables
  for option in $(printf '%s' "${variables//DAR_JAX_/}" | tr '[:upper:]_' '[:lower:]-'); do
    case " $options " in *" $option"[\ +!]*) printf -v "${option//-/_}" '%s' "${!1}" ;; esac
    shift
  done
}

# Set one option; `taken` tells how many words that took.
take() {
  local option="${1#--}"
  local variable="${option//-/_}"
  case " $options " in
    *" $option! "*) printf -v "$variable" 1 && taken=1 && return ;;
    *" $option "* | *" $option+ "*) taken=2 ;;
    *) fail "--$option: there is no such option; see ${0##*/} --help" ;;
  esac
  if [ $# -lt 2 ]; then fail "--$option: a value must follow"; fi
  case " $options " in
    *" $option+ "*) printf -v "$variable" '%s%s\n' "${!variable}" "$2" ;;
    *) printf -v "$variable" '%s' "$2" ;;
  esac
}

parse() {
  local taken
  read_environment
  while [ $# -gt 0 ]; do
    case "$1" in
      --) shift && rest=("$@") && break ;;
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
      --*) take "$@" && shift "$taken" ;;
      *) words+=("$1") && shift ;;
    esac
  done
  if [ -n "$help" ]; then usage && exit 0; fi
  if [ -n "$dry_run" ]; then exec >/dev/null; fi
}

# Stop unless these options have values. There is no default project, zone or bucket.
require() {
  local option variable
  for option in "$@"; do
    variable="${option//-/_}"
    if [ -n "${!variable}" ]; then continue; fi
    fail "--$option is missing; give it, or set DAR_JAX_$(printf '%s' "$variable" | tr '[:lower:]' '[:upper:]')"
  done
}

lines() { if [ -n "$1" ]; then printf '%s\n' "${1%$'\n'}"; fi; }

# Set `again` to those options of a list that have values, as another script takes them.
options_again() {
  local option variable value
  again=()
  for option in $1; do
    variable="${option%[+!]}"
    variable="${variable//-/_}"
    case "$option" in
      *!) if [ -n "${!variable}" ]; then again+=("--${option%!}"); fi ;;
      *+) while IFS= read -r value; do again+=("--${option%+}" "$value"); done < <(lines "${!variable}") ;;
      *) if [ -n "${!variable}" ]; then again+=("--$option" "${!variable}"); fi ;;
    esac
  done
}

# Quote words for a shell, only those that need it.
quoted() {
  local word line="" quote="'\\''"
  for word in "$@"; do
    case "$word" in
      "" | *[!A-Za-z0-9_./:=,@%+-]*) line="$line '${word//\'/$quote}'" ;;
      *) line="$line $word" ;;
    esac
  done
  printf '%s' "${line# }"
}

run() {
  if [ -n "$dry_run" ]; then printf '%s\n' "$(quoted "$@")" >&3; else "$@"; fi
}

# ask ASSUMED COMMAND...: what the command prints; in a dry run, what it prints when all is well.
ask() {
  local assumed="$1"
  shift
  run "$@" || return
  if [ -n "$dry_run" ]; then printf '%s\n' "$assumed"; fi
}
