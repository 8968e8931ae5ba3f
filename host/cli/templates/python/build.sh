#!/bin/sh
# Builds {{name}}.wasm, or the file given as argument.
set -eu
cd "$(dirname "$0")"
# --stub-wasi removes the imports of WASI, which stages must not have.
exec componentize-py --wit-path wit --world {{kind}} componentize --stub-wasi app --output "${1:-{{name}}.wasm}"
