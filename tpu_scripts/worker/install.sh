#!/usr/bin/env bash
# Install the source this file belongs to, for TPU, in an environment beside it. Runs on a host.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The images come with Python 3.10, dar_jax wants 3.11 or later: uv brings one. The variable is for images whose system
# Python is closed to pip (PEP 668).
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv==0.13.9
python3 -m uv venv --quiet --clear --python 3.12 ../venv
python3 -m uv pip install --quiet --python ../venv/bin/python -c constraints.txt -e '.[tpu,gcs,gemini]'
echo "$(hostname): dar_jax is installed"
