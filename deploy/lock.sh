#!/usr/bin/env bash
# Rewrites the lock files from pyproject.toml: every package with its version and the hashes of all its files, one lock
# for x86-64 and aarch64 and for every Python from 3.11 on. Versions already locked stay unless `--upgrade` is given.
# uv only resolves; installing is pip's, see docs/decisions/0006.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly tool=build/lock
[[ -x $tool/bin/uv ]] || { "${PYTHON:-python3}" -m venv $tool && $tool/bin/pip install --quiet 'uv>=0.9,<1'; }

compile() { # OUTPUT ARGUMENT…
    local output="$1"
    shift
    $tool/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --strip-extras \
        --no-annotate --custom-compile-command "make lock" --no-emit-index-url --no-emit-find-links \
        --output-file "$output" "$@"
}

compile requirements.lock pyproject.toml --group build "$@"
compile requirements-dev.lock pyproject.toml --group dev --constraints requirements.lock "$@"
compile requirements-node.lock --group node "$@"
