#!/bin/sh
# Runs the browser test against servers in a network namespace of its own that has nothing but loopback, so that
# whatever a browser sends by itself (mDNS, STUN, update checks) reaches nobody.
#
#   tests/browser/run.sh http://127.0.0.1:3000 COMMAND [ARGUMENT…]
#
# COMMAND starts the servers in the foreground and is ended with SIGTERM afterwards. Needs root, or a kernel that lets
# everybody make user namespaces, Node 20, Chromium at $CHROMIUM or /usr/bin/chromium, and `npm ci` in this folder.
#
# RUN=click_to_open.mjs runs that script instead of the tests: it measures how long two windows take to connect. RUN=pictures.mjs makes the
# pictures of docs/images anew.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ "${HIPPIUS_OWN_NETWORK:-}" != 1 ]; then
    root=
    [ "$(id -u)" = 0 ] || root=--map-root-user
    exec unshare --net ${root:+"$root"} -- env HIPPIUS_OWN_NETWORK=1 "$0" "$@"
fi
ip link set lo up

WEB_URL=$1
export WEB_URL
shift
"$@" &
servers=$!
trap 'kill -TERM "$servers" 2>/dev/null || true; wait "$servers" 2>/dev/null || true' EXIT INT TERM

node --input-type=module -e '
  const until = Date.now() + 30_000;
  for (;;) {
    try { if ((await fetch(process.env.WEB_URL + "/healthz")).ok) break; } catch {}
    if (Date.now() > until) { console.error("no web server at " + process.env.WEB_URL); process.exit(1); }
    await new Promise((wake) => setTimeout(wake, 50));
  }'
if [ -n "${RUN:-}" ]; then
    node "$here/$RUN"
else
    node --test --test-concurrency=1 "$here"/*.test.mjs
fi
