#!/bin/sh
# Makes {{name}}.wasm, or the file that is named.
set -eu
cd "$(dirname "$0")"
# The package of the bindings asks Go's runtime for memory before that has begun, which the linker has to be told.
GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -buildvcs=false \
  -ldflags="-s -w -checklinkname=0" -o core.wasm .
# LOGSHIP: where logship is, if not where commands are looked for.
exec "${LOGSHIP:-logship}" stage componentize core.wasm --kind {{kind}} --output "${1:-{{name}}.wasm}"
