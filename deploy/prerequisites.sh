#!/bin/sh
# Installs what building, the local provider and the checks need, with the distribution's package manager.
# Does nothing, and needs no rights, where all of it is there.
set -eu

# command:package, by Debian's and Ubuntu's names
wanted="mmdebstrap:mmdebstrap slirp4netns:slirp4netns nft:nftables ip:iproute2 newuidmap:uidmap \
git:git cc:gcc make:make tar:tar"
if [ "${1:-}" = test ]; then
    wanted="$wanted puppet:puppet-agent puppet-lint:puppet-lint ruby:ruby ps:procps prometheus:prometheus python3:python3 ssh-keygen:openssh-client script:bsdutils"
    # The virtual machine of the outage suite, and what its disks are made with.
    wanted="$wanted qemu-system-x86_64:qemu-system-x86 busybox:busybox-static mkfs.ext4:e2fsprogs setpriv:util-linux chrt:util-linux ldd:libc-bin"
    # What compiles the BPF program: one compiler, so that all get the same bytes. Elsewhere the committed object will do.
    ! grep -q "^VERSION_CODENAME=bookworm" /etc/os-release 2>/dev/null || wanted="$wanted clang-14:clang-14 llvm-strip-14:llvm-14"
fi
# What makes the packages, which the tests do too.
case "${1:-}" in
    test | package) wanted="$wanted dpkg-deb:dpkg rpmbuild:rpm strip:binutils" ;;
esac
# The recorders that are measured beside ours, and what one of them is built with.
[ "${1:-}" != bench ] || wanted="$wanted ps:procps setpriv:util-linux pidstat:sysstat atop:atop clang-19:clang-19"

PATH="$PATH:/usr/sbin:/sbin"
packages=
for pair in $wanted; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || packages="$packages ${pair#*:}"
done
# Not needed to use Magpie: the modules that the third-party role tests apply; and Debian's Python cannot make a
# virtual environment by itself.
if [ "${1:-}" = test ]; then
    python3 -c 'import ensurepip' 2>/dev/null || packages="$packages python3-venv"
    for package in $(cat "$(dirname "$0")/../tests/fixtures/puppet-modules/packages"); do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || packages="$packages $package"
    done
fi
if [ "${1:-}" = bench ]; then
    [ -e /usr/include/libelf.h ] || packages="$packages libelf-dev"
    [ -e /usr/include/zlib.h ] || packages="$packages zlib1g-dev"
fi

install_packages() {
    [ -n "$packages" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "missing:$packages (these are Debian's package names); install them and try again" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "missing:$packages; run as root: apt-get install$packages" >&2
        exit 1
    fi
    case "$packages" in
        # Only the command is wanted: Debian's package would also start an agent that looks for a master.
        *puppet-agent*) [ ! -d /run/systemd/system ] || systemctl mask --quiet puppet.service ;;
        # Likewise: it would record this machine from now on.
        *" atop"*) [ ! -d /run/systemd/system ] || systemctl mask --quiet atop.service atopacct.service atop-rotate.timer ;;
    esac
    case "$packages" in
        *prometheus*) [ ! -d /run/systemd/system ] || systemctl mask --quiet prometheus.service ;;
    esac
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words on purpose
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
}

# The EC2 that the tests start, beside what cargo builds: no other program of the machine uses it.
install_moto() {
    pinned="$(dirname "$0")/../tests/ec2/requirements.txt"
    home="${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/moto"
    ! cmp -s "$pinned" "$home/requirements.txt" || return 0
    python3 -m venv --clear "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check --requirement "$pinned"
    cp "$pinned" "$home/requirements.txt"
}

# The kernel of the virtual machine that the outage suite starts: Debian's for clouds. It is unpacked, not installed.
fetch_kernel() {
    home="${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/kernel"
    [ ! -f "$home/vmlinuz" ] || return 0
    newest_kernel >/dev/null || apt-get update -qq
    if ! package="$(newest_kernel)"; then
        echo "missing: Debian's package linux-image-cloud-amd64; add a source of Debian's packages and try again" >&2
        exit 1
    fi
    rm -rf "$home"
    mkdir -p "$home"
    (
        cd "$home"
        download "$package" || { apt-get update -qq; download "$package"; }
        dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x --wildcards --strip-components=2 './boot/vmlinuz-*'
        rm "$package"_*.deb
        # Last, because it says that all is there.
        mv vmlinuz-* vmlinuz
    )
}

download() {
    apt-get download -qq -o APT::Sandbox::User=root "$1"
}

newest_kernel() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: *//p' | grep '^linux-image-'
}

install_packages
if [ "${1:-}" = test ]; then
    install_moto
    fetch_kernel
fi
