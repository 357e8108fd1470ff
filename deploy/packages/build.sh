#!/bin/sh
# Packs built binaries as .deb and .rpm: build.sh [--fast] BINARIES OUTPUT [VERSION]
#
# BINARIES is the directory with `agent`, `recorder` and `ctl`, such as target/release. VERSION overrides the version in
# Cargo.toml; --fast takes a tenth of the time and makes larger files. Prints the packages' paths. Needs no root. The same
# binaries at the same commit give the same bytes.
set -eu
deb_compression='-Zxz -z6'
rpm_compression=w6.xzdio
if [ "$1" = --fast ]; then
    deb_compression='-Zgzip -z1'
    rpm_compression=w1.zstdio
    shift
fi
binaries=$(realpath "$1")
mkdir -p "$2"
output=$(realpath "$2")
version=${3:-}
cd "$(dirname "$0")/../.."
umask 022

for tool in dpkg-deb rpmbuild strip; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: make prerequisites-package installs it" >&2; exit 1; }
done

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
: "${version:=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)}"
# A pre-release such as 1.0.0-rc.1 becomes 1.0.0~rc.1, which sorts before 1.0.0 in both formats.
version=$(printf %s "$version" | tr - '~')

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# Adds a file to the tree of $package in each format: put FORMATS MODE FILE PATH
put() {
    for format in $1; do
        install -D -m "$2" "$3" "$stage/$format/$package/$4"
    done
}

# CHANGELOG.md in Debian's form (deb-changelog(5)): its newest section is this version's entry.
changelog() {
    printf '%s (%s) unstable; urgency=medium\n\n' "$package" "$version"
    awk '/^## / { if (seen++) exit } /^- / { sub("-", "  *"); print; next } /^  / { print "  " $0 }' CHANGELOG.md
    printf '\n -- Magpie maintainers <maintainers@magpie.invalid>  %s\n' "$(LC_ALL=C date -uR -d "@$SOURCE_DATE_EPOCH")"
}

lay_out_what_every_package_has() {
    changelog | gzip -9n >"$stage/changelog.gz"
    put 'deb rpm' 644 "$stage/changelog.gz" "usr/share/doc/$package/changelog.gz"
    put deb 644 deploy/packages/copyright "usr/share/doc/$package/copyright"
    put rpm 644 LICENSE "usr/share/licenses/$package/LICENSE"
}

lay_out_agent() {
    for program in agent recorder; do
        put 'deb rpm' 755 "$stage/$program" "usr/lib/magpie/$program"
    done
    for unit in deploy/systemd/*.service; do
        put 'deb rpm' 644 "$unit" "usr/lib/systemd/system/${unit##*/}"
    done
    put 'deb rpm' 644 deploy/packages/magpie-agent/80-magpie.preset usr/lib/systemd/system-preset/80-magpie.preset
    gzip -9n <deploy/packages/magpie-agent/magpie-agent.8 >"$stage/magpie-agent.8.gz"
    put 'deb rpm' 644 "$stage/magpie-agent.8.gz" usr/share/man/man8/magpie-agent.8.gz
}

lay_out_ctl() {
    put 'deb rpm' 755 "$stage/ctl" usr/bin/ctl
    mkdir "$stage/man"
    "$stage/ctl" manual "$stage/man"
    gzip -9n "$stage"/man/*
    for page in "$stage"/man/*; do
        put 'deb rpm' 644 "$page" "usr/share/man/man1/${page##*/}"
    done
    for shell in bash zsh fish; do
        "$stage/ctl" completions "$shell" >"$stage/completions.$shell"
    done
    put 'deb rpm' 644 "$stage/completions.bash" usr/share/bash-completion/completions/ctl
    put 'deb rpm' 644 "$stage/completions.fish" usr/share/fish/vendor_completions.d/ctl.fish
    put deb 644 "$stage/completions.zsh" usr/share/zsh/vendor-completions/_ctl
    put rpm 644 "$stage/completions.zsh" usr/share/zsh/site-functions/_ctl
}

make_deb() {
    tree=$stage/deb/$package
    # In KiB, as dpkg-gencontrol(1) counts: files rounded up, one for anything else.
    size=$(find "$tree" -printf '%y %s\n' | awk '{ sum += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print sum }')
    architecture=$(dpkg --print-architecture)
    mkdir "$tree/DEBIAN"
    (cd "$tree" && find usr -type f | LC_ALL=C sort | xargs md5sum) >"$tree/DEBIAN/md5sums"
    sed "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$size/" \
        "deploy/packages/$package/control" >"$tree/DEBIAN/control"
    for script in postinst prerm postrm; do
        [ ! -e "deploy/packages/$package/$script" ] ||
            install -m 755 "deploy/packages/$package/$script" "$tree/DEBIAN/$script"
    done
    find "$tree" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
    # shellcheck disable=SC2086 # a list of words
    dpkg-deb --root-owner-group $deb_compression --build "$tree" "$output/${package}_${version}_$architecture.deb" >/dev/null
}

# HOME is set so that the user's ~/.rpmmacros has no effect and rpmbuild leaves nothing there. The programs are already
# stripped and have no sources here, so rpmbuild must not process the files or extract anything from them.
make_rpm() {
    find "$stage/rpm/$package" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
    HOME=$stage rpmbuild -bb --quiet \
        --define "version $version" --define "tree $stage/rpm/$package" \
        --define "_topdir $stage/rpmbuild" --define "_tmppath $stage" --define "_rpmdir $output" \
        --define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' \
        --define '__os_install_post %{nil}' --define 'debug_package %{nil}' --define '_build_id_links none' \
        --define 'use_source_date_epoch_as_buildtime 1' --define '_buildhost localhost' \
        --define "_binary_payload $rpm_compression" \
        "deploy/packages/$package/$package.spec"
}

for program in agent recorder ctl; do
    strip -o "$stage/$program" "$binaries/$program"
done
for package in magpie-agent magpie-ctl; do
    lay_out_what_every_package_has
    "lay_out_${package#magpie-}"
    make_deb
    make_rpm
done
ls "$output"/magpie-*"$version"*
