#!/bin/sh
# Builds {{name}}.wasm, or the file given as argument.
set -eu
cd "$(dirname "$0")"
# The bindings allocate from Go's runtime before it has started; -checklinkname=0 allows this.
GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -buildvcs=false \
  -ldflags="-s -w -checklinkname=0" -o core.wasm .
# LOGSHIP: the path of logship, if it is not on PATH.
exec "${LOGSHIP:-logship}" stage componentize core.wasm --kind {{kind}} --output "${1:-{{name}}.wasm}"
