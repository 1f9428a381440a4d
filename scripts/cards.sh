#!/usr/bin/env bash
# The compilers of graphics cards on a machine without one: Mesa's drivers for AMD, NVIDIA, Apple and
# Adreno cards, over shims that accept everything and compute nothing (`mesa-drm-shim`).
#
#   scripts/cards.sh fetch                     gets the drivers from this system's Debian mirror
#   scripts/cards.sh list                      the cards there are
#   scripts/cards.sh run CARD PROGRAM [ARG…]   starts a program with this card as its only Vulkan device
#   scripts/cards.sh versions                  SUITE PACKAGE VERSION of each compiler that was fetched
#   scripts/cards.sh news                      those that are not the ones docs/cards.md was made with
#
# A card is SUITE/NAME, such as sid/navi31. What a program computes on it means nothing; registers,
# limits, features and the commands that it records are the real driver's. Two are no cards, and compute:
# sid/lavapipe, with matrices of 8 by 8 in half precision that older versions have not, and swiftshader,
# the software driver that chromium brings: another compiler, subgroups of 4.
#
# Nothing is installed: packages are unpacked into $CRISP_CARDS, by default ~/.cache/crisp/cards.
# They come from the Debian mirror among apt's sources, or from $CRISP_DEBIAN_MIRROR.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
known=$here/tests/cards/packages.txt
cache=${CRISP_CARDS:-${XDG_CACHE_HOME:-$HOME/.cache}/crisp/cards}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# sid has the newest drivers and moves on; backports of a stable release hardly change.
suites=(sid backports swiftshader)
# What compiles; its dependencies follow from it.
compilers=(mesa-vulkan-drivers mesa-drm-shim)
# SwiftShader needs nothing else of chromium.
swiftshader=(chromium-common libvulkan1 libc6 libgcc-s1)
amd=(navi21 navi31 gfx1201 vega10)
nvidia=(tu104 ga102 ad102 gh100 gb202)

fail() {
    echo "cards: $*" >&2
    exit 1
}

cards() {
    printf 'sid/%s\n' "${amd[@]}" "${nvidia[@]}" m1 adreno lavapipe
    printf 'backports/%s\n' navi21 navi31 vega10
    echo swiftshader
}

# The URL of the Debian mirror that this system's apt uses.
mirror() {
    if [ -n "${CRISP_DEBIAN_MIRROR:-}" ]; then
        echo "$CRISP_DEBIAN_MIRROR"
        return
    fi
    # Both forms of a source have the URL as a word of its own; comments and disabled files are left out.
    { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null || true; } |
        awk '!/^[ \t]*#/ { for (i = 1; i <= NF; i++) if ($i ~ /^https?:.*\/debian\/?$/) { print $i; exit } }'
}

# The apt sources of a suite.
sources() {
    local from="deb [arch=amd64 signed-by=$keyring] $url"
    case $1 in
    sid) echo "$from sid main" ;;
    swiftshader) echo "$from bookworm main" ;;
    backports) printf '%s\n' "$from bookworm main" "$from bookworm-backports main" ;;
    esac
}

# apt-get on directories of our own, as if nothing were installed: it finds all that the drivers need.
apt_get() {
    local suite=$1 state=$cache/apt/$1
    shift
    apt-get -qq -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State="$state" -o Dir::State::status=/dev/null -o Dir::Cache="$state" \
        -o APT::Sandbox::User= -o APT::Architecture=amd64 -o APT::Install-Recommends=false \
        -o Acquire::Languages=none -o Acquire::Retries=2 -o Debug::NoLocking=true "$@"
}

# Unpacks the drivers of a suite, unless these very packages lie there already.
fetch_suite() {
    local suite=$1 state=$cache/apt/$1 target=$cache/$1 get=() wanted deb driver
    mkdir -p "$state"/lists/partial "$state"/archives/partial
    sources "$suite" >"$state/sources.list"
    case $suite in
    sid) get=(install --download-only -y "${compilers[@]}" libvulkan1) ;;
    backports) get=(-t bookworm-backports install --download-only -y "${compilers[@]}" libvulkan1) ;;
    swiftshader) get=(download "${swiftshader[@]}") ;;
    esac
    apt_get "$suite" update || return 1
    wanted=$(apt_get "$suite" "${get[@]}" --print-uris | awk '{ print $2 }' | sort) || return 1
    [ "$wanted" != "$(cat "$target/packages" 2>/dev/null)" ] || return 0
    echo "cards: fetching $suite from $url" >&2
    # What is downloaded alone comes into the directory that one is in.
    (cd "$state/archives" && apt_get "$suite" "${get[@]}" >/dev/null) || return 1
    rm -rf "$target" "$target.partial"
    mkdir -p "$target.partial/lib"
    for deb in $wanted; do
        # Only libraries are wanted, and those of many packages lie side by side.
        dpkg-deb --fsys-tarfile "$state/archives/$deb" |
            tar -x -C "$target.partial/lib" --wildcards --strip-components=4 \
                './usr/lib/x86_64-linux-gnu/*.so*' 2>/dev/null || true
        # The C library is still in /lib in a stable release.
        dpkg-deb --fsys-tarfile "$state/archives/$deb" |
            tar -x -C "$target.partial/lib" --wildcards --strip-components=3 \
                './lib/x86_64-linux-gnu/*.so*' 2>/dev/null || true
        dpkg-deb --fsys-tarfile "$state/archives/$deb" |
            tar -x -C "$target.partial/lib" --strip-components=4 \
                ./usr/lib/chromium/libvk_swiftshader.so 2>/dev/null || true
    done
    for driver in vulkan_{radeon,nouveau,asahi,freedreno,lvp} vk_swiftshader; do
        printf '{"file_format_version":"1.0.0","ICD":{"api_version":"1.3.0","library_path":"%s"}}\n' \
            "$target/lib/lib$driver.so" >"$target.partial/${driver#vulkan_}.json"
    done
    echo "$wanted" >"$target.partial/packages"
    mv "$target.partial" "$target"
    rm -f "$state"/archives/*.deb
}

fetch() {
    local suite
    [ "$(uname -sm)" = "Linux x86_64" ] ||
        fail "the drivers are Debian's for Linux on x86-64, and this is $(uname -sm)"
    command -v apt-get dpkg-deb >/dev/null ||
        fail "fetching the drivers needs apt-get and dpkg-deb, which Debian and its kin have"
    [ -r "$keyring" ] || fail "no $keyring to check packages with (package debian-archive-keyring)"
    url=$(mirror)
    [ -n "$url" ] ||
        fail "no Debian mirror among apt's sources; CRISP_DEBIAN_MIRROR=http://HOST/debian names one"
    mkdir -p "$cache"
    exec 9>"$cache/lock" # one at a time
    flock 9
    for suite in "${suites[@]}"; do
        fetch_suite "$suite" && continue
        if [ -e "$cache/$suite/packages" ]; then
            echo "cards: going on with the drivers of $suite that were fetched before" >&2
        else
            echo "cards: $url gives no drivers of $suite; its cards are left out" >&2
        fi
    done
    [ -n "$(versions)" ] || fail "no drivers from $url (no network?)"
    news >&2
}

versions() {
    local suite compiler
    for suite in "${suites[@]}"; do
        [ -e "$cache/$suite/packages" ] || continue
        for compiler in "${compilers[@]}"; do
            sed -n "s/^\(${compiler}\)_\(.*\)_amd64\.deb$/$suite \1 \2/p" "$cache/$suite/packages"
        done
    done
}

news() {
    local suite package version before
    versions | while read -r suite package version; do
        before=$(awk -v s="$suite" -v p="$package" '$1 == s && $2 == p { print $3 }' "$known")
        [ "$version" = "$before" ] ||
            echo "cards: $suite has $package $version; docs/cards.md was made with ${before:-none}"
    done
}

run() {
    local suite=${1%%/*} card=${1#*/} driver shim='' chipset='' lib program
    cards | grep -x "$1" >/dev/null || fail "no card '$1'; scripts/cards.sh list says which there are"
    shift
    lib=$cache/$suite/lib
    [ -d "$lib" ] || fail "no drivers of $suite yet: scripts/cards.sh fetch"
    case $card in
    navi* | gfx* | vega*) driver=radeon shim=amdgpu ;;
    tu104) driver=nouveau shim=nouveau chipset=0x164 ;;
    ga102) driver=nouveau shim=nouveau chipset=0x172 ;;
    ad102) driver=nouveau shim=nouveau chipset=0x192 ;;
    gh100) driver=nouveau shim=nouveau chipset=0x180 ;;
    gb202) driver=nouveau shim=nouveau chipset=0x1b2 ;;
    m1) driver=asahi shim=asahi ;;
    adreno) driver=freedreno shim=freedreno ;;
    lavapipe) driver=lvp ;;
    swiftshader) driver=vk_swiftshader ;;
    esac
    export AMDGPU_GPU_ID=$card NOUVEAU_CHIPSET=$chipset
    export NVK_I_WANT_A_BROKEN_VULKAN_DRIVER=1 HK_I_WANT_A_BROKEN_VULKAN_DRIVER=1
    # Older loaders know the second name only. No cache: statistics are of what is compiled now.
    export VK_DRIVER_FILES=$cache/$suite/$driver.json VK_ICD_FILENAMES=$cache/$suite/$driver.json
    export MESA_SHADER_CACHE_DISABLE=1 NODEVICE_SELECT=1 XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
    program=$(command -v "$1") || fail "no program '$1'"
    shift
    # The drivers may be newer than this system's C library, so theirs starts the program.
    exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu" \
        ${shim:+--preload "$lib/lib${shim}_noop_drm_shim.so"} "$program" "$@"
}

case ${1:-} in
fetch) fetch ;;
list) cards ;;
versions | news) "$1" ;;
run)
    [ $# -ge 3 ] || fail "run CARD PROGRAM [ARG…]"
    shift
    run "$@"
    ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
    ;;
esac
