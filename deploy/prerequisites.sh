#!/bin/sh
# Installs what building, the local provider and the checks need, with apt-get: prerequisites.sh [test|bench|package]
# If nothing is missing, it does nothing and needs no root.
set -eu

# command:package, with Debian's and Ubuntu's package names
wanted="mmdebstrap:mmdebstrap slirp4netns:slirp4netns nft:nftables ip:iproute2 newuidmap:uidmap \
git:git cc:gcc make:make tar:tar"
if [ "${1:-}" = test ]; then
    wanted="$wanted puppet:puppet-agent puppet-lint:puppet-lint ruby:ruby ps:procps prometheus:prometheus python3:python3 ssh-keygen:openssh-client script:bsdutils"
    # The virtual machine of the outage suite, and tools to make its disks.
    wanted="$wanted qemu-system-x86_64:qemu-system-x86 busybox:busybox-static mkfs.ext4:e2fsprogs setpriv:util-linux chrt:util-linux ldd:libc-bin"
    # Compiles the BPF program: always the same version, so that the bytes are the same. Other releases use the committed object.
    ! grep -q "^VERSION_CODENAME=bookworm" /etc/os-release 2>/dev/null || wanted="$wanted clang-14:clang-14 llvm-strip-14:llvm-14"
fi
# Make the packages; the tests do that too.
case "${1:-}" in
    test | package) wanted="$wanted dpkg-deb:dpkg rpmbuild:rpm strip:binutils" ;;
esac
# The recorders to compare with in benchmarks, and what one of them is built with.
[ "${1:-}" != bench ] || wanted="$wanted ps:procps setpriv:util-linux pidstat:sysstat atop:atop clang-19:clang-19"

PATH="$PATH:/usr/sbin:/sbin"
packages=
for pair in $wanted; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || packages="$packages ${pair#*:}"
done
# The Puppet modules that the third-party role tests apply. Debian's Python needs a package to make a virtual
# environment.
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
        # Only the command is needed: Debian's package would also start an agent that looks for a Puppet master.
        *puppet-agent*) [ ! -d /run/systemd/system ] || systemctl mask --quiet puppet.service ;;
        # Likewise: atop would record this machine from now on.
        *" atop"*) [ ! -d /run/systemd/system ] || systemctl mask --quiet atop.service atopacct.service atop-rotate.timer ;;
    esac
    case "$packages" in
        *prometheus*) [ ! -d /run/systemd/system ] || systemctl mask --quiet prometheus.service ;;
    esac
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
}

# moto, which stands in for EC2 in the tests; installed in cargo's target directory, so no other program uses it.
install_moto() {
    pinned="$(dirname "$0")/../tests/ec2/requirements.txt"
    home="${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/moto"
    ! cmp -s "$pinned" "$home/requirements.txt" || return 0
    python3 -m venv --clear "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check --requirement "$pinned"
    cp "$pinned" "$home/requirements.txt"
}

# Debian's cloud kernel, for the virtual machine of the outage suite. It is unpacked, not installed.
fetch_kernel() {
    home="${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/kernel"
    [ ! -f "$home/vmlinuz" ] || return 0
    newest_kernel >/dev/null || apt-get update -qq
    if ! package="$(newest_kernel)"; then
        echo "missing: Debian's package linux-image-cloud-amd64; add an apt source for Debian and try again" >&2
        exit 1
    fi
    rm -rf "$home"
    mkdir -p "$home"
    (
        cd "$home"
        download "$package" || { apt-get update -qq; download "$package"; }
        dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x --wildcards --strip-components=2 './boot/vmlinuz-*'
        rm "$package"_*.deb
        # Last: the file marks the download as complete.
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
