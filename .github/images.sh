#!/usr/bin/env bash
# Build the Docker targets and use each as user 1000: `.github/images.sh [api] [lab] [build]` (all, if none is named).
# With buildah, which needs no daemon; its base image must be there, or a registry within reach.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v buildah >/dev/null || { echo "buildah is missing: apt-get install buildah"; exit 2; }
export STORAGE_DRIVER=${STORAGE_DRIVER:-vfs} BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}

inside() {  # run a command in the container, as the image's user and in its folder
    buildah run --user 1000 "$container" -- "$@"
}

until_answered() {
    for _ in $(seq 120); do curl --silent --fail "$@" && return; sleep 1; done
    echo "no answer: $*" >&2
    return 1
}

use_api() {
    inside cifake serve --port 8765 & server=$!
    until_answered --output /dev/null http://127.0.0.1:8765/health
    inside python -c 'from PIL import Image; Image.new("RGB", (32, 32), "teal").save("/tmp/image.png")'
    inside cat /tmp/image.png > "$scratch/image.png"
    curl --silent --fail --form data=@"$scratch/image.png" http://127.0.0.1:8765/predict/ | tee "$scratch/prediction.json"
    echo
    grep --quiet '"prediction"' "$scratch/prediction.json"
    inside cifake predict /tmp/image.png
}

use_lab() {
    inside jupyter lab --no-browser --ip=127.0.0.1 --port=8766 --IdentityProvider.token=check & server=$!
    until_answered --output /dev/null "http://127.0.0.1:8766/api/contents/notebooks/01_data.ipynb?token=check"
    inside jupyter execute --timeout=600 notebooks/01_data.ipynb
}

use_build() {
    inside ploomber build
    inside python -c 'import pathlib; print(pathlib.Path("outputs/sample/report.html").stat().st_size, "bytes of report")'
}

scratch=$(mktemp -d)
container='' server=''
clean() {
    [[ -z $server ]] || { pkill -P "$server" || true; kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; server=''; }
    [[ -z $container ]] || { buildah rm "$container" >/dev/null; container=''; }
}
trap 'clean; rm -rf "$scratch"' EXIT

for target in "${@:-api lab build}"; do
    for one in $target; do
        echo "== $one"
        buildah build --quiet --layers --format docker --target "$one" --tag "cifake-$one" .
        container=$(buildah from "cifake-$one")
        "use_$one"
        clean
        echo "== $one: done"
    done
done
