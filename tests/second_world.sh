#!/usr/bin/env bash
# Runs a command in the second dependency world: Python 3.13, TFX 1.21 and TensorFlow 2.21, in a Debian 13 root folder.
#   tests/second_world.sh python -m pytest
# Root folder and environment are made once in .worlds/ (git-ignored) and kept until their inputs change. The whole
# machine appears inside as /host, so that the checkout is the same files and downloads are shared; mounts live in a
# namespace of their own and go with the command, however it ends. Exit code 77: this machine cannot hold a second world.
set -euo pipefail

checkout=$(cd "$(dirname "$0")/.." && pwd -P)
worlds=$checkout/.worlds
root=$worlds/debian13
packages=ca-certificates,g++,make,python3,python3-dev,python3-venv

cannot() {
  echo "no second world: $*" >&2
  exit 77
}

# In the namespace: mount, enter, make the environment if need be, run.
if [[ ${1:-} == --inside ]]; then
  shift
  mount --rbind / "$root/host"
  mount --rbind /dev "$root/dev"
  mount --rbind /sys "$root/sys"
  mount -t proc proc "$root/proc"
  exec chroot "$root" /bin/bash -c '
    set -euo pipefail
    cd "/host$CHECKOUT"
    make --no-print-directory --silent env VENV=.worlds/venv PYTHON=/usr/bin/python3
    flock -u 9
    PATH=$PWD/.worlds/venv/bin:$PATH
    "$@" || exit' bash "$@"
fi

[[ $(uname -sm) == "Linux x86_64" ]] || cannot "it is for Linux x86_64, and this is $(uname -sm)"
((EUID == 0)) || cannot "debootstrap and chroot want root"
unshare --mount --pid --fork mount --bind / /mnt 2>/dev/null || cannot "this container may not mount"
command -v debootstrap >/dev/null || cannot "debootstrap is not installed (apt-get install debootstrap)"
mkdir -p "$worlds"
exec 9>"$worlds/lock"
flock 9  # until the world stands, so that two runs make one

if [[ $(cat "$root/.made" 2>/dev/null) != "$packages" ]]; then
  (($(df --output=avail -B1G "$worlds" | tail -1) >= 8)) || cannot "less than 8 GB free for $worlds"
  rm -rf --one-file-system "$root" "$worlds/venv"
  echo "making $root" >&2
  make_root() { # in a namespace of its own: a debootstrap that fails leaves its /proc and /sys mounted
    unshare --mount debootstrap --variant=minbase --include=$packages trixie "$root" >"$worlds/debootstrap.log" 2>&1
  }
  # a mirror may fail once in hundreds of packages; what was fetched is not fetched again
  make_root || make_root || cannot "debootstrap failed: $(tail -1 "$worlds/debootstrap.log")"
  mkdir "$root/host"
  rm -rf "$root"/var/cache/apt/archives/*.deb
  echo "$packages" >"$root/.made"
fi
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
bundle=/etc/ssl/certs/ca-certificates.crt
cp -L "${SSL_CERT_FILE:-$bundle}" "$root$bundle"  # a machine behind an inspecting proxy has its own

cache=$(cd "$checkout" && "$(.ci/environment --uv)" cache dir)
export CHECKOUT=$checkout UV_CACHE_DIR=/host$cache HOME=/root TMPDIR=/tmp LANG=C.UTF-8
export SSL_CERT_FILE=$bundle REQUESTS_CA_BUNDLE=$bundle CURL_CA_BUNDLE=$bundle PIP_CERT=$bundle
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH
exec unshare --mount --pid --fork --kill-child "$0" --inside "${@:-true}"
