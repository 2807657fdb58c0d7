#!/usr/bin/env bash
# Refresh the explicit pin files of the environments: NAME.linux-64.pin.txt beside NAME.yaml, with the
# address and checksum of every package, which Snakemake then installs from in place of solving.
#   envs/pin.sh            all environments; wants conda on PATH
# Do it after every change of a .yaml here, run the tests, and commit the files.
set -euo pipefail
cd "$(dirname "$0")"
command -v conda >/dev/null || { echo "conda is not on PATH; pin files are made with it" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for env in *.yaml; do
    name=${env%.yaml}
    conda env create --quiet --file "$env" --prefix "$work/$name" >&2
    conda list --explicit --md5 --prefix "$work/$name" >"$work/$name.txt"
    grep -q '^@EXPLICIT$' "$work/$name.txt" || { echo "$env: conda listed nothing" >&2; exit 1; }
    mv "$work/$name.txt" "$name.linux-64.pin.txt"
    echo "$name.linux-64.pin.txt: $(grep -c '#' "$name.linux-64.pin.txt") lines"
done
