# shellcheck shell=bash
# What the tests need besides Rust, put in place where it is missing. Sourced by scripts/test and .ci/run.
#
# Nothing is fetched when everything is there, so a second run needs no network.

# A program and the Debian or Ubuntu package that has it.
readonly TOOLS="
    cc:build-essential
    ip:iproute2
    unshare:util-linux
    setsid:util-linux
    mount:mount
    nft:nftables
    python3:python3
    promtool:prometheus
    prometheus:prometheus
    node:nodejs
    npm:npm
    turnserver:coturn
"
# Names of the browser, in order of preference.
readonly BROWSERS="chromium chromium-browser google-chrome google-chrome-stable"
# The oldest Node.js that the tests run on: js-libp2p wants this one.
readonly NODE_MAJOR=22

note() { printf '\n== %s\n' "$*"; }

give_up() {
    printf '\nerror: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# Installs Debian packages. Services that come with them (Prometheus brings two) are not started.
install_packages() (
    guard=/usr/sbin/policy-rc.d
    log=target/apt.log
    if [ ! -e "$guard" ]; then
        trap 'as_root rm -f "$guard"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$guard" >/dev/null && as_root chmod 755 "$guard" || exit 1
    fi
    apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" </dev/null >>"$log" 2>&1; }
    : >"$log"
    apt update && apt install -y --no-install-recommends "$@" && exit 0
    tail -n 20 "$log" >&2
    exit 1
)

find_browser() {
    local name
    if [ -n "${CHROMIUM:-}" ]; then
        return 0
    fi
    for name in $BROWSERS; do
        if CHROMIUM=$(command -v "$name"); then
            export CHROMIUM
            return 0
        fi
    done
    return 1
}

prepare_packages() {
    local entry missing=()
    for entry in $TOOLS; do
        command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
    done
    find_browser || missing+=(chromium)
    if [ "${#missing[@]}" -eq 0 ]; then
        return
    fi
    note "installing ${missing[*]}"
    command -v apt-get >/dev/null ||
        give_up "the tests need these packages, and this system has no apt-get to install them: ${missing[*]}"
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        give_up "the tests need packages; as root: apt-get install --no-install-recommends ${missing[*]}"
    fi
    install_packages "${missing[@]}" ||
        give_up "cannot install ${missing[*]}; see target/apt.log, or install them yourself"
    find_browser || give_up "no browser after installing chromium; set CHROMIUM to the path of one"
}

# A Node.js that is too old (Debian 12 has 18, 13 has 20) is left alone; a newer one from npm goes in front of it, in target/.
prepare_node() {
    local major own=$PWD/target/node
    major=$(node -p 'process.versions.node.split(".")[0]')
    if [ "$major" -ge "$NODE_MAJOR" ]; then
        return
    fi
    if [ ! -x "$own/node_modules/.bin/node" ]; then
        note "installing Node.js $NODE_MAJOR into target/node"
        npm install --silent --no-audit --no-fund --prefix "$own" "node@$NODE_MAJOR" </dev/null ||
            give_up "the tests need Node.js $NODE_MAJOR or newer; this is $(node --version)"
    fi
    export PATH="$own/node_modules/.bin:$PATH"
}

# The packages of a folder of tests, as its lock file says.
prepare_modules() {
    local folder=$1
    if cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed"; then
        return
    fi
    note "installing the packages of $folder"
    npm ci --prefer-offline --silent --no-audit --no-fund --prefix "$folder" </dev/null ||
        give_up "cannot install the packages of $folder; 'npm ci' there says more"
    cp "$folder/package-lock.json" "$folder/node_modules/.installed"
}

# py-libp2p, in a Python environment of its own.
prepare_python() {
    local wanted=tests/interop/requirements.txt own=target/python
    if cmp -s "$wanted" "$own/.installed"; then
        return
    fi
    note "installing $(grep -v '^#' "$wanted" | tr '\n' ' ')into $own"
    rm -rf "$own"
    # Debian has the module that makes environments in a package of its own, which says so only when it is used.
    python3 -m venv "$own" >/dev/null 2>&1 || { install_packages python3-venv && python3 -m venv "$own"; } ||
        give_up "cannot make a Python environment in $own; install python3-venv"
    "$own/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" </dev/null ||
        give_up "cannot install the packages of $wanted into $own"
    cp "$wanted" "$own/.installed"
}

prepare() {
    command -v cargo >/dev/null || give_up "cargo is missing; Rust comes from https://rustup.rs"
    mkdir -p target
    prepare_packages
    prepare_node
    prepare_modules tests/browser
    prepare_modules tests/interop
    prepare_python
}
