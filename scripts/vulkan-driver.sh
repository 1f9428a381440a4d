#!/bin/sh
# Makes sure that this Linux machine has a Vulkan driver: silent when there is one, otherwise
# installs Mesa's software driver (lavapipe) with the system's package manager.
#
#   scripts/vulkan-driver.sh            install when missing (`make driver`)
#   scripts/vulkan-driver.sh --check    install nothing; exit code 1 when missing, and what to do
#
# A driver is the loader library (libvulkan.so.1), a manifest (an `icd.d/*.json`) where the loader
# looks for one, and, unless the driver is a software one, the device that it drives. The last part
# matters because distributions ship the manifests of all cards together, and one for a card that
# is not there gives no adapter.
set -eu

say() {
    echo "vulkan-driver: $*" >&2
}

# The loader library, where the dynamic linker would find it.
has_loader() {
    if PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
        return 0
    fi
    rest="${LD_LIBRARY_PATH:-}:/lib:/usr/lib:/lib64:/usr/lib64:/usr/local/lib"
    while [ -n "$rest" ]; do
        directory=${rest%%:*}
        case "$rest" in *:*) rest=${rest#*:} ;; *) rest= ;; esac
        [ -n "$directory" ] && [ -e "$directory/libvulkan.so.1" ] && return 0
    done
    return 1
}

# A render node of this PCI vendor that we may open; with no argument, of any vendor.
has_render_node() {
    for node in /dev/dri/renderD*; do
        [ -w "$node" ] || continue
        [ $# -eq 0 ] && return 0
        vendor=$(cat "/sys/class/drm/${node##*/}/device/vendor" 2>/dev/null) || vendor=
        [ "$vendor" = "$1" ] && return 0
    done
    return 1
}

# The driver that this manifest announces can have an adapter here.
is_usable() {
    [ -f "$1" ] || return 1
    case "${1##*/}" in
    *lvp* | *swiftshader*) return 0 ;;
    *nvidia*) [ -e /dev/nvidia0 ] || [ -e /dev/dxg ] || has_render_node 0x10de ;;
    dzn*) [ -e /dev/dxg ] ;;
    intel*) has_render_node 0x8086 ;;
    radeon* | amd*) has_render_node 0x1002 ;;
    nouveau*) has_render_node 0x10de ;;
    virtio*) has_render_node 0x1af4 ;;
    *) has_render_node ;; # boards whose graphics is not a PCI device have no vendor number
    esac
}

# The manifests that the user chose; when they are set, the loader looks nowhere else.
chosen=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}

# One of the chosen manifests exists. They are taken at the user's word, whatever they drive.
has_chosen_manifest() {
    rest=$chosen
    while [ -n "$rest" ]; do
        entry=${rest%%:*}
        case "$rest" in *:*) rest=${rest#*:} ;; *) rest= ;; esac
        [ -f "$entry" ] && return 0
        for manifest in "$entry"/*.json; do
            [ -f "$manifest" ] && return 0
        done
    done
    return 1
}

# One of the manifests in the loader's own search path is usable.
has_usable_manifest() {
    rest="${XDG_CONFIG_HOME:-${HOME:-}/.config}:${XDG_CONFIG_DIRS:-/etc/xdg}:/etc"
    rest="$rest:${XDG_DATA_HOME:-${HOME:-}/.local/share}"
    rest="$rest:${XDG_DATA_DIRS:-/usr/local/share:/usr/share}"
    while [ -n "$rest" ]; do
        directory=${rest%%:*}
        case "$rest" in *:*) rest=${rest#*:} ;; *) rest= ;; esac
        for manifest in "${directory%/}"/vulkan/icd.d/*.json; do
            is_usable "$manifest" && return 0
        done
    done
    return 1
}

has_driver() {
    has_loader || return 1
    if [ -n "$chosen" ]; then has_chosen_manifest; else has_usable_manifest; fi
}

# Runs a command as root: directly, or with sudo, which may ask only where somebody can answer.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif ! command -v sudo >/dev/null; then
        say "not root, and there is no sudo. Run as root: $*"
        return 1
    elif [ -t 2 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

install_mesa() {
    if command -v apt-get >/dev/null; then
        # Old lists may still do, so a failed update is not the end.
        as_root apt-get -q update || say "trying with the package lists at hand"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 \
            install --no-install-recommends mesa-vulkan-drivers libvulkan1
    elif command -v dnf >/dev/null; then
        as_root dnf -y install mesa-vulkan-drivers vulkan-loader
    elif command -v pacman >/dev/null; then
        # Without `-y`: new lists beside old packages are a partial upgrade, which Arch forbids.
        as_root pacman -S --needed --noconfirm vulkan-swrast vulkan-icd-loader
    else
        say "knows apt-get, dnf and pacman, and found none of them."
        return 1
    fi
}

[ "$(uname -s)" = Linux ] || exit 0
has_driver && exit 0

if [ -n "$chosen" ] && ! has_chosen_manifest; then
    say "VK_DRIVER_FILES or VK_ICD_FILENAMES is set to $chosen, where no driver manifest is,"
    say "and the Vulkan loader then looks nowhere else. Correct the variable or unset it."
    exit 1
fi

if [ "${1:-}" = --check ]; then
    say "no Vulkan driver found. \`make driver\` installs Mesa's software driver with the system's"
    say "package manager. If there is a driver all the same, call cargo yourself (see README.md)."
    exit 1
fi

say "no Vulkan driver found; installing Mesa's software driver"
# Standard output belongs to the program that make starts next.
if ! install_mesa </dev/null >&2; then
    say "Mesa's software driver could not be installed. Install a Vulkan driver by hand: the"
    say "package is mesa-vulkan-drivers (Debian, Ubuntu, Fedora) or vulkan-swrast (Arch)."
    exit 1
fi
if ! has_driver; then
    say "Mesa is installed, yet its driver (lvp_icd*.json) is not where the Vulkan loader looks."
    say "Check XDG_DATA_DIRS, or set VK_DRIVER_FILES to the full path of that file."
    exit 1
fi
