#!/usr/bin/env bash
# The service by curl: examples/client/swap.sh [URL] [TARGET] [FOLDER]. Writes four files into FOLDER.
# curl itself waits as Retry-After says. Where the service wants a key: FACESWAPD_KEY=... examples/client/swap.sh
set -euo pipefail
url=${1:-http://127.0.0.1:8000} target=${2:-will} out=${3:-.}
photos=$(cd "$(dirname "$0")/.." && pwd)
ask() {
  curl --silent --show-error --fail-with-body --retry 4 --retry-max-time 30 \
    ${FACESWAPD_KEY:+--header "Authorization: Bearer $FACESWAPD_KEY"} "$@"
}

ask "$url/identities" -o "$out/identities.json"
# The 64x64 face, from a form; then the whole photo, from a raw body.
ask -F image=@"$photos/a.jpg" "$url/swap?target=$target" -o "$out/face.png"
ask -H 'Content-Type: image/jpeg' --data-binary @"$photos/a.jpg" \
  "$url/swap?target=$target&output=photo&format=jpeg" -o "$out/photo.jpg"
# Many photos, one of them without a face: results.json in the ZIP says which and why.
ask -F image=@"$photos/a.jpg" -F image=@"$photos/no-face.jpg" -H 'Accept: application/zip' \
  "$url/swap/batch?target=$target" -o "$out/swaps.zip"

# What goes wrong is a problem (RFC 9457): decide by its type.
curl --silent -F image=@"$photos/no-face.jpg" ${FACESWAPD_KEY:+--header "Authorization: Bearer $FACESWAPD_KEY"} \
  "$url/swap?target=$target" | sed -E 's/.*"type":"([^"]+)".*/as expected: \1/'
