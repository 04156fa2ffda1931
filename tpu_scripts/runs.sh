# shellcheck shell=bash disable=SC2034,SC2154  # variables are shared with the script that sources this
# What a run is told wherever it runs: config, folder, secrets. Sourced after settings.sh, never run.

run_options="run-dir secret+ env+ compile-cache start-timeout"
run_dir="" secret="" env="" compile_cache="" start_timeout=1800

# The run folder outlives the hosts, so it lies in a bucket.
require_run_dir() {
  require run-dir
  run_dir="${run_dir%/}"
  case "$run_dir" in
    *[!A-Za-z0-9._/:-]*) fail "--run-dir $run_dir: only letters, digits and . _ - / can be used" ;;
    gs://?*/?*) ;;
    *) fail "--run-dir $run_dir: expected gs://BUCKET/FOLDER" ;;
  esac
}

# Set `secrets` to words for worker/run.py. Names travel, the keys themselves never do, and no message repeats what may
# be one.
read_secrets() {
  local pair place expected="expected VARIABLE=NAME, such as OPENAI_API_KEY=openai-key"
  secrets=()
  for pair in $secret; do
    place="${pair#*=}"
    if [[ $place =~ ^(sk-|AIza|hf_) ]]; then
      fail "--secret: that is a key; store it in Secret Manager and give its name there"
    fi
    if ! [[ $pair =~ ^[A-Z][A-Z0-9_]*=(projects/[^/]+/secrets/)?[A-Za-z0-9_-]+$ ]]; then fail "--secret: $expected"; fi
    if [[ $place != */* ]]; then
      require project
      place="projects/$project/secrets/$place"
    fi
    secrets+=(--secret "${pair%%=*}=$place")
  done
}

# Set `variables` to words for worker/run.py from lines VARIABLE=VALUE.
read_variables() {
  local pair
  variables=()
  while IFS= read -r pair; do
    case "${pair%%=*}" in
      *KEY | *TOKEN | *SECRET* | *PASSWORD*) fail "--env ${pair%%=*}: a key comes by --secret, never on a command line" ;;
    esac
    if ! [[ $pair =~ ^[A-Z_][A-Z0-9_]*= ]]; then fail "--env: expected VARIABLE=VALUE, such as HF_HOME=/dev/shm/hf"; fi
    variables+=(--env "$pair")
  done < <(lines "$env")
}

# Check what a run is told; set `config`, `secrets`, and `told` to the words for worker/run.py but config and overrides.
read_run() {
  local bucket
  if [ "${#words[@]}" != 1 ]; then fail "expected one CONFIG, got: ${words[*]:-nothing}; overrides stand behind --"; fi
  config="${words[0]}"
  if [ ! -f "$config" ]; then fail "$config: there is no such config file"; fi
  require_run_dir
  read_secrets
  read_variables
  bucket="${run_dir#gs://}"
  told=(--run-dir "$run_dir" --compile-cache "${compile_cache:-gs://${bucket%%/*}/compile-cache}")
  told+=(--start-timeout "$start_timeout" ${secrets[@]+"${secrets[@]}"} ${variables[@]+"${variables[@]}"})
}
