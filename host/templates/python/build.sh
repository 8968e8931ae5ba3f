#!/bin/sh
# Makes {{name}}.wasm, or the file that is named.
set -eu
cd "$(dirname "$0")"
# Without --stub-wasi the component would import WASI, of which a stage needs nothing.
exec componentize-py --wit-path wit --world {{kind}} componentize --stub-wasi app --output "${1:-{{name}}.wasm}"
