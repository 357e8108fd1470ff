#!/bin/sh
# Prepares a fresh Debian, Ubuntu or RHEL-like machine for Magpie, and turns it into an image with --seal. Run it as root,
# from cloud-init, Packer or a shell. Running it again is safe.
#
#   install.sh --package URL_OR_PATH [--sha256 HEX] [--packages "a b"] [--ec2] [--seal]
#
#   --package   the .deb or .rpm of magpie-agent; a URL needs --sha256
#   --sha256    expected digest of the package
#   --packages  more packages of the distribution to install
#   --ec2       let the agent read its enrol document from EC2's instance metadata
#   --seal      at the end, remove everything that must differ between hosts; the machine is then only good as an image
#
# Puppet is installed from the distribution if it is missing. Its own services are masked: only the agent runs Puppet.
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive
PATH=/opt/puppetlabs/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

package='' sha256='' packages='' ec2='' seal=''
while [ $# -gt 0 ]; do
    case $1 in
        --package | --sha256 | --packages)
            [ $# -ge 2 ] || fail "$1 needs a value"
            case $1 in
                --package) package=$2 ;;
                --sha256) sha256=$2 ;;
                *) packages=$2 ;;
            esac
            shift
            ;;
        --ec2) ec2=yes ;;
        --seal) seal=yes ;;
        *) fail "unknown argument $1; see the head of this script" ;;
    esac
    shift
done
[ -n "$package" ] || fail "--package is missing"
[ "$(id -u)" = 0 ] || fail "only root can install packages"

if command -v apt-get >/dev/null; then
    kind=deb
elif command -v dnf >/dev/null || command -v yum >/dev/null; then
    kind=rpm
else
    fail "this machine has no apt-get, dnf or yum"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# apt reads local packages as its own user, so the directory must be readable.
chmod 755 "$work"

fetch() {
    if command -v curl >/dev/null; then
        curl --fail --silent --show-error --location --retry 5 --output "$2" "$1"
    else
        wget --quiet --tries 5 --output-document "$2" "$1"
    fi
}

# Puts the package into $file and checks its digest.
file=$work/magpie-agent.$kind
case $package in
    http://* | https://*)
        [ -n "$sha256" ] || fail "a package from a URL needs --sha256"
        fetch "$package" "$file"
        ;;
    *) cp "$package" "$file" ;;
esac
if [ -n "$sha256" ]; then
    found=$(sha256sum "$file")
    [ "${found%% *}" = "$sha256" ] || fail "$package has the digest ${found%% *}, not $sha256"
fi

# A machine that has just booted may be updating itself: wait for the lock.
apt() {
    apt-get -q -y -o DPkg::Lock::Timeout=600 "$@"
}

from_distribution() {
    case $kind in
        deb) apt install --no-install-recommends "$@" ;;
        rpm) "$(command -v dnf || command -v yum)" -q -y install "$@" ;;
    esac
}

knows() {
    case $kind in
        deb) apt-cache show "$1" >/dev/null 2>&1 ;;
        rpm) "$(command -v dnf || command -v yum)" -q info "$1" >/dev/null 2>&1 ;;
    esac
}

install_puppet() {
    for name in puppet-agent openvox-agent puppet; do
        if knows "$name"; then
            from_distribution "$name"
            return
        fi
    done
    fail "no package repository of this machine has Puppet: add one with Puppet 7 or 8 or OpenVox, or install Puppet first"
}

# Mask first: Debian's package would start it.
for unit in puppet.service pxp-agent.service puppet-run.timer; do
    systemctl --quiet mask "$unit" 2>/dev/null || :
done
if [ "$kind" = deb ] && { [ -n "$packages" ] || ! command -v puppet >/dev/null; }; then
    apt update
fi
command -v puppet >/dev/null || install_puppet
# shellcheck disable=SC2086 # a list of words
[ -z "$packages" ] || from_distribution $packages

# Before installation, which starts the agent.
if [ -n "$ec2" ]; then
    mkdir -p /etc/systemd/system/magpie-agent.service.d
    printf '[Service]\nEnvironment=MAGPIE_METADATA=http://169.254.169.254\n' \
        >/etc/systemd/system/magpie-agent.service.d/ec2.conf
fi
case $kind in
    deb) apt install --no-install-recommends --reinstall --allow-downgrades "$file" ;;
    rpm) rpm --upgrade --replacepkgs --oldpackage "$file" ;;
esac

if [ -n "$seal" ]; then
    # Stop both, so that neither writes again what is removed.
    [ ! -d /run/systemd/system ] || systemctl stop magpie-agent.service magpie-record.service
    [ "$kind" = rpm ] || apt-get clean
    /usr/lib/magpie/agent seal
fi
