#!/bin/sh
# From labelled text to an answer of a real Triton: every stage, each one's output feeding the next.
# What it is given goes to `pipeline train`.
set -eu

say() { printf '\n\033[1m$ %s\033[0m\n' "$*" >&2; }

say pipeline train sentiment "$@"
run=$(pipeline train sentiment "$@")

say pipeline evaluate "$run"
figures=$(pipeline evaluate "$run")
echo "$figures"

say pipeline export "$run" --variants auto
pipeline export "$run" --variants auto

say pipeline verify "$run"
pipeline verify "$run"

say pipeline publish "$run"
version=$(pipeline publish "$run")
echo "$version"

say pipeline serve
ready=$(mktemp -u)
pipeline serve --model sentiment --http-port 0 --grpc-port 0 --metrics-port 0 --ready-file "$ready" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true' EXIT
while [ ! -f "$ready" ]; do
    kill -0 "$server" || exit 1
    sleep 0.2
done
url=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["grpc"])' "$ready")

say pipeline verify "$run" --endpoint "$url"
pipeline verify "$run" --endpoint "$url"

say pipeline predict sentiment --url "$url" ...
pipeline predict sentiment --url "$url" \
    "What a lovely film, I laughed from beginning to end." \
    "The battery died after two days and nobody answers my mails." \
    "Not bad at all, I would buy it again." \
    "It rained, the food was cold and the waiter was rude." \
    "@friend thank you so much, best birthday ever :)"

say pipeline report "$run"
pipeline report "$run"
echo
echo "$figures" | head -n 3
echo
echo "Version ${version##*/} of sentiment answered over gRPC. The page: $run/report.html"
