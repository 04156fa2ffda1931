# shellcheck shell=bash disable=SC2034,SC2154  # variables are shared with the script that sources this
# Google Cloud's names for the slices that `dar-jax plan --topology` writes as v5e:2x4, v5p:4x4x4. Sourced, never run.

create_options="topology slices spot! reserved! flex-start service-account runtime-version gcloud+"
topology="" slices=1 spot="" reserved="" flex_start="" service_account="" runtime_version="" gcloud=""

# Cloud TPU gives a v5p of so many cores in this shape alone (https://cloud.google.com/tpu/docs/v5p).
v5p_shapes="2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8 8x8x16 8x16x16"

# Set `generation`, `shape` and `chips` from GENERATION:SHAPE.
read_topology() {
  local expected="expected GENERATION:SHAPE as dar-jax plan has it, such as v5e:2x4, v6e:4x4, v4:2x2x2 or v5p:4x4x4"
  generation="${1%%:*}" shape="${1#*:}"
  case "$shape" in *[!0-9x]* | x* | *x | *xx*) fail "--topology $1: $expected" ;; esac
  case "$generation:$shape" in
    v5e:*x*x* | v6e:*x*x* | v4:*x*x*x* | v5p:*x*x*x*) fail "--topology $1: $expected" ;;
    v5e:*x* | v6e:*x* | v4:*x*x* | v5p:*x*x*) chips="$((${shape//x/*}))" ;;
    *) fail "--topology $1: $expected" ;;
  esac
}

# Set `accelerator`, the flags of `gcloud compute tpus` for this slice, and `runtime`, the image of its hosts
# (https://cloud.google.com/tpu/docs/runtimes).
read_accelerator() {
  read_topology "$1"
  case "$generation" in
    v5e) accelerator=("--accelerator-type=v5litepod-$chips") runtime=v2-alpha-tpuv5-lite ;;
    v6e) accelerator=("--accelerator-type=v6e-$chips") runtime=v2-alpha-tpuv6e ;;
    v4) accelerator=(--type=v4 "--topology=$shape") runtime=tpu-ubuntu2204-base ;;
    v5p)
      case " $v5p_shapes " in
        *" $shape "*) ;;
        *) fail "--topology $1: Cloud TPU makes v5p slices of the shapes $v5p_shapes" ;;
      esac
      # Named by cores, two a chip.
      accelerator=("--accelerator-type=v5p-$((2 * chips))") runtime=v2-alpha-tpuv5
      ;;
  esac
}
