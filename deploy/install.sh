#!/bin/sh
# Installs edgepose as a service of this machine, upgrades it and uninstalls it. See docs/operations.md.
#
# /opt/edgepose/releases/VERSION-HASH   one virtual environment each, with its unit and documents in share/
# /opt/edgepose/current                 symbolic link to the current one: an upgrade switches it, and a failed upgrade switches it back
set -eu

usage() {
    cat <<'END'
Usage: install.sh [OPTION...]
Installs edgepose under /opt/edgepose as the service "edgepose". Needs root, systemd and Python 3.10 or newer with venv.
A second run changes nothing.

Actions (default: install):
  --upgrade             replace the installed version by this one; the configuration stays. A running service is restarted;
                        where the new version does not start, the old one is restored
  --uninstall           remove program, unit and command; keep configuration and state
  --purge               with --uninstall: also remove configuration and state
  --make-wheelhouse DIR fill DIR with all wheels for an installation without network, and install nothing (needs no root)

Options:
  --source PATH         checkout or wheel of edgepose (default: the checkout that contains this script)
  --wheelhouse DIR      install from the wheels in DIR only, without network
  --extras LIST         cpu, gpu or tensorrt; also bundles, encryption, mavlink, metrics, triton, web, with a comma (default: cpu). Give it again at an
                        upgrade.
                        On a Jetson, tensorrt uses JetPack's own TensorRT: it implies --system-packages and /usr/bin/python3
  --python PATH         interpreter (default: the newest of /usr/bin/python3.*)
  --system-packages     give access to all of the system's Python packages, and use suitable ones instead of the pinned ones
                        (requirements/*.txt). GStreamer's package (python3-gi) works without this option where the service
                        runs with the system's own Python
  --with NAME           also install the drop-in deploy/drop-ins/NAME.conf; may be repeated
  --start               start the service, now and at each boot
  --dry-run             print what would be done, and do nothing
  --help                print this text
END
}

say() { printf '%s\n' "$*"; }
fail() {
    code=$1
    shift
    printf 'install.sh: %s\n' "$*" >&2
    exit "$code"
}

# --- options --------------------------------------------------------------------------------------------------------------------

checkout=$(cd "$(dirname "$0")/.." && pwd)
action=install extras=cpu
purge='' start='' dry='' wheelhouse='' source='' python='' system_packages='' drop_ins=''
value() { [ -n "${2:-}" ] || fail 64 "$1 needs a value; see --help"; }
folder_of() { (cd "$1" 2>/dev/null && pwd) || fail 66 "$1 is not a folder"; }
while [ $# -gt 0 ]; do
    case $1 in
    --upgrade | --uninstall)
        [ "$action" = install ] || fail 64 "--$action and $1 exclude each other"
        action=${1#--}
        ;;
    --make-wheelhouse) value "$@"; action=make-wheelhouse wheelhouse=$2; shift ;;
    --purge) purge=yes ;;
    --source) value "$@"; source=$2; shift ;;
    --wheelhouse) value "$@"; wheelhouse=$(folder_of "$2"); shift ;;
    --extras) value "$@"; extras=$2; shift ;;
    --python) value "$@"; python=$2; shift ;;
    --system-packages) system_packages=yes ;;
    --with) value "$@"; drop_ins="$drop_ins $2"; shift ;;
    --start) start=yes ;;
    --dry-run) dry=yes ;;
    --help | -h) usage; exit 0 ;;
    *) fail 64 "unknown option $1; see --help" ;;
    esac
    shift
done
engines=0
for extra in $(printf '%s' "$extras" | tr ',' ' '); do
    case $extra in
    cpu | gpu | tensorrt) engines=$((engines + 1)) ;;
    bundles | encryption | mavlink | metrics | triton | web) ;;
    *) fail 64 "unknown extra $extra; expected cpu, gpu or tensorrt, and optionally bundles, encryption, mavlink, metrics, triton or web, with a comma" ;;
    esac
done
[ "$engines" = 1 ] || fail 64 "--extras is $extras; expected one of cpu, gpu and tensorrt, and optionally bundles, encryption, mavlink, metrics, triton or web, with a comma"
[ -z "$purge" ] || [ "$action" = uninstall ] || fail 64 "--purge requires --uninstall"

# A Jetson's TensorRT is in the system's packages, built for the system's Python; PyPI has none for it. Its driver belongs to one version of
# CUDA, and cuda-python must fit that. ONNX Runtime on the CPU runs while an engine is built.
jetpack='' more_packages=''
tegra_release=${TEGRA_RELEASE:-/etc/nv_tegra_release}
case ,$extras, in *,tensorrt,*) [ ! -e "$tegra_release" ] || jetpack=yes ;; esac
if [ -n "$jetpack" ]; then
    system_packages=yes
    python=${python:-/usr/bin/python3}
    extras=$(printf '%s' "$extras" | sed 's/tensorrt/cpu/')
    case $(sed -n '1s/^# R\([0-9]*\) .*/\1/p' "$tegra_release") in
    36) more_packages='cuda-python<13' ;;
    3[89] | [4-9]?) more_packages='cuda-python>=13,<14' ;;
    *) fail 69 "this is $(head -n 1 "$tegra_release" | cut -c 1-30), whose Python or TensorRT is too old; expected JetPack 6.1 or newer" ;;
    esac
fi

top=/opt/edgepose
releases=$top/releases
current=$top/current
command=/usr/local/bin/edgepose
units=/etc/systemd/system
unit=$units/edgepose.service
engine_unit=$units/edgepose-engine.service
web_unit=$units/edgepose-web.service
sysusers=/etc/sysusers.d/edgepose.conf
configuration=/etc/edgepose
settle_s=5
changes=0
units_changed=
umask 022 # the service's user must be able to read the files that root installs
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# change TEXT COMMAND...: print the text and run the command; only print in a dry run.
change() {
    changes=$((changes + 1))
    if [ -n "$dry" ]; then
        say "would $1"
        return
    fi
    say "$1"
    shift
    "$@" # not in a condition, where set -e has no effect
}
put() { install -D -m "$1" "$2" "$3"; }
# put_if_other MODE FROM TO
put_if_other() {
    cmp -s "$2" "$3" && return 0
    change "write $3" put "$1" "$2" "$3"
    units_changed=yes
}
remove() { if [ -e "$1" ] || [ -L "$1" ]; then change "remove $1" rm -rf -- "$1"; fi; }
is_active() { systemctl --quiet is-active edgepose.service; }
# pip VENV COMMAND ARGUMENT...
pip() {
    runner=$1/bin/pip verb=$2
    shift 2
    if [ -n "$wheelhouse" ] && [ "$action" != make-wheelhouse ]; then set -- --no-index --find-links "$wheelhouse" "$@"; fi
    "$runner" --quiet "$verb" "$@"
}

# --- source -----------------------------------------------------------------------------------------------------------------------

work=
unfinished=
clean_up() {
    [ -z "$work" ] || rm -rf -- "$work"
    [ -z "$unfinished" ] || rm -rf -- "$unfinished"
    [ -z "$unfinished" ] || rmdir "$releases" "$top" 2>/dev/null || true
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

find_python() {
    if [ -z "$python" ]; then
        for candidate in /usr/bin/python3.14 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 /usr/bin/python3.10 /usr/bin/python3; do
            [ ! -x "$candidate" ] || { python=$candidate; break; }
        done
    fi
    [ -n "$python" ] || fail 69 "no Python found; expected /usr/bin/python3 (Debian package python3), or --python"
    python_version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || fail 69 "$python does not run"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail 69 "$python is Python $python_version; expected 3.10 or newer"
    [ -z "$jetpack" ] || "$python" -c 'import tensorrt' 2>/dev/null ||
        fail 69 "JetPack's TensorRT is not installed for $python; expected: sudo apt-get install python3-libnvinfer"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail 69 "$python cannot create virtual environments; install Debian's python3-venv"
    case $(readlink -f "$python") in
    /root/* | /home/* | /run/user/*)
        [ "$action" = make-wheelhouse ] || fail 69 "$python is in a home folder, which the service cannot read; expected one such as /usr/bin/python3"
        ;;
    esac
}

find_source() {
    if [ -z "$source" ] && [ -n "$wheelhouse" ] && [ "$action" != make-wheelhouse ]; then
        # shellcheck disable=SC2012 # names of wheels have no special characters
        source=$(ls "$wheelhouse"/edgepose-*.whl 2>/dev/null | sort -V | tail -n 1)
    fi
    source=${source:-$checkout}
    case $source in
    *.whl)
        [ -f "$source" ] || fail 66 "$source does not exist; expected a wheel of edgepose"
        source=$(readlink -f "$source")
        version=${source##*/edgepose-}
        version=${version%%-*}
        ;;
    *)
        source=$(folder_of "$source")
        [ -f "$source/edgepose/__init__.py" ] || fail 66 "$source is not a checkout of edgepose; expected a checkout or a wheel"
        version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$source/edgepose/__init__.py")
        ;;
    esac
}

# The pinned requirements of the installation, as arguments of pip in the folder requirements/. None with the system's packages, whose
# versions differ.
pins() {
    [ -z "$system_packages" ] || return 0
    for extra in $(printf '%s' "$extras" | tr ',' ' '); do printf -- '-r %s ' "$extra.txt"; done
}

installed_files() { (cd "$source" && find edgepose pyproject.toml -name __pycache__ -prune -o -type f -print | LC_ALL=C sort); }

# Equal installations have equal hashes: contents, extras, Python, and the files beside the program.
hash_release() {
    {
        say "$extras $python $python_version $system_packages"
        if [ -f "$source" ]; then sha256sum <"$source"; else (cd "$source" && installed_files | xargs -d '\n' sha256sum); fi
        cat "$checkout/systemd/edgepose.service" "$checkout/systemd/edgepose-engine.service" "$checkout/systemd/edgepose-web.service" \
            "$checkout/deploy/sysusers/edgepose.conf"
        for extra in $(printf '%s' "$extras" | tr ',' ' '); do cat "$checkout/requirements/$extra.txt"; done
    } | sha256sum | cut -c 1-8
}

# build_wheel VENV: builds from a copy, so that nothing is left in the checkout and nothing stale comes from its build/.
build_wheel() {
    mkdir "$work/source" "$work/wheel"
    (cd "$source" && { installed_files; ls README.md LICENSE NOTICE; } | tar -cf - -T - | tar -xf - -C "$work/source")
    pip "$1" wheel --no-deps --wheel-dir "$work/wheel" "$work/source" || fail 70 "no wheel could be built from $source; see the message of pip above"
    wheel=$(ls "$work"/wheel/edgepose-*.whl)
}

make_wheelhouse() {
    find_python
    find_source
    mkdir -p "$wheelhouse"
    wheelhouse=$(folder_of "$wheelhouse")
    work=$(mktemp -d)
    "$python" -m venv "$work/venv"
    wheel=$source
    [ -f "$source" ] || build_wheel "$work/venv"
    # shellcheck disable=SC2046 # several words on purpose
    [ -n "$system_packages" ] || (cd "$checkout/requirements" && pip "$work/venv" download --require-hashes --dest "$wheelhouse" $(pins)) ||
        fail 69 "not all pinned packages could be downloaded; see the message of pip above"
    # shellcheck disable=SC2086
    pip "$work/venv" wheel --find-links "$wheelhouse" --wheel-dir "$wheelhouse" "${wheel}[$extras]" $more_packages ||
        fail 69 "not all wheels could be downloaded; see the message of pip above"
    say "$wheelhouse contains edgepose $version and all packages of [$extras] for Python $python_version on $(uname -m)"
}

# --- releases -----------------------------------------------------------------------------------------------------------------------

build_release() {
    unfinished=$release
    mkdir -p "$releases"
    rm -rf -- "$release"
    # shellcheck disable=SC2086 # one word or none
    "$python" -m venv ${system_packages:+--system-site-packages} "$release"
    wheel=$source
    [ -f "$source" ] || build_wheel "$release"
    # shellcheck disable=SC2046
    [ -n "$system_packages" ] || (cd "$checkout/requirements" && pip "$release" install --require-hashes $(pins)) ||
        fail 69 "not all pinned packages of edgepose[$extras] could be installed; see the message of pip above"
    # shellcheck disable=SC2086 # one word or none
    pip "$release" install "${wheel}[$extras]" $more_packages || fail 69 "not all of edgepose[$extras] could be installed; see the message of pip above"
    "$release/bin/edgepose" --version >/dev/null || fail 70 "the new version cannot print its version; nothing was changed"
    for each in edgepose edgepose-engine edgepose-web; do put 0644 "$checkout/systemd/$each.service" "$release/share/systemd/$each.service"; done
    put 0644 "$checkout/deploy/sysusers/edgepose.conf" "$release/share/deploy/sysusers/edgepose.conf"
    for document in "$checkout"/docs/*.md; do put 0644 "$document" "$release/share/docs/${document##*/}"; done
    sync -f "$release"
    : >"$release/.complete"
    unfinished=
}

# In one step: a program start at any moment gets either the old version or the new one.
switch_to() {
    ln -sfn "releases/${1##*/}" "$current.new"
    mv -T "$current.new" "$current"
}

with_web() { case ",$extras," in *,web,*) ;; *) return 1 ;; esac; }

with_tensorrt() { case ",$extras," in *,tensorrt,*) ;; *) return 1 ;; esac; }

# Takes minutes the first time. What it builds serves the daemon, which runs on another backend where this fails.
build_engines() {
    systemctl start edgepose-engine.service ||
        say "no engine was built, and the service uses another backend: see journalctl -u edgepose-engine, and edgepose doctor"
}

read_units() {
    systemd-sysusers "$sysusers"
    systemctl daemon-reload
}

# activate RELEASE: installs the link, the command and the release's own unit.
activate() {
    [ "$(readlink -e "$current")" = "$1" ] || change "switch $current to ${1##*/}" switch_to "$1"
    [ "$(readlink "$command")" = "$current/bin/edgepose" ] || [ -e "$command" ] ||
        change "create the command $command" ln -s "$current/bin/edgepose" "$command"
    shipped=$1/share
    [ -d "$shipped" ] || shipped=$checkout # a dry run builds nothing
    put_if_other 0644 "$shipped/systemd/edgepose.service" "$unit"
    if with_tensorrt; then put_if_other 0644 "$shipped/systemd/edgepose-engine.service" "$engine_unit"; else remove "$engine_unit"; fi
    if with_web; then put_if_other 0644 "$shipped/systemd/edgepose-web.service" "$web_unit"; else remove "$web_unit"; fi
    put_if_other 0644 "$shipped/deploy/sysusers/edgepose.conf" "$sysusers"
    for name in $drop_ins; do
        put_if_other 0644 "$checkout/deploy/drop-ins/$name.conf" "$unit.d/$name.conf"
        # Both services read and write the same encrypted files.
        if [ "$name" = encryption ] && with_web; then put_if_other 0644 "$checkout/deploy/drop-ins/$name.conf" "$web_unit.d/$name.conf"; fi
    done
    [ -z "$units_changed" ] || change "create groups and reload systemd's units" read_units
    units_changed=
}

# runs RELEASE: false after an upgrade that was interrupted between the switch and the restart.
runs() {
    main=$(systemctl show edgepose.service --property MainPID --value)
    case $(tr '\0' ' ' <"/proc/$main/cmdline") in "$1"/*) ;; *) return 1 ;; esac
}

# comes_up: READY in time, and still the same process some seconds later.
comes_up() {
    systemctl restart edgepose.service && sleep "$settle_s" && is_active &&
        [ "$(systemctl show edgepose.service --property NRestarts --value)" = 0 ]
}

restart_or_return_to() {
    comes_up && return 0
    printf '%s\n' "install.sh: ${release##*/} does not start; its last log lines:" >&2
    journalctl --no-pager --quiet --lines 5 --output cat --unit edgepose.service >&2 || true
    case $1 in '' | "$release") fail 70 "there is no older version to restore" ;; esac
    activate "$1"
    rm -rf -- "$release"
    comes_up || fail 70 "${1##*/} is installed again, but does not start either"
    fail 70 "${1##*/} is installed again and runs"
}

remove_older_than() {
    for each in "$releases"/*; do
        [ ! -d "$each" ] || [ "$each" = "$release" ] || [ "$each" = "$1" ] || remove "$each"
    done
}

# --- actions ------------------------------------------------------------------------------------------------------------------------

install_or_upgrade() {
    find_python
    find_source
    for name in $drop_ins; do
        drop_in=$checkout/deploy/drop-ins/$name.conf
        [ -f "$drop_in" ] || fail 66 "unknown drop-in $name; expected one of: $(shipped_drop_ins)"
        # shellcheck disable=SC2013 # our own files: no spaces
        for secret in $(sed -n 's/^LoadCredential\(Encrypted\)\{0,1\}=[^:]*://p' "$drop_in"); do
            [ -f "$secret" ] || fail 66 "--with $name needs $secret, which does not exist; the service would not start without it"
        done
    done
    [ ! -e "$top/bin/python" ] || fail 73 "$top is a virtual environment that this script did not create; remove it, then run this script again"
    release=$releases/$version-$(hash_release)
    old=$(readlink -e "$current" || true)
    if [ "$action" = install ] && [ -n "$old" ] && [ "$old" != "$release" ]; then
        fail 73 "${old##*/} is installed; use --upgrade to replace it by ${release##*/}"
    fi
    was_active=
    ! is_active || was_active=yes
    [ -e "$release/.complete" ] || change "build $release (Python $python_version, extras: $extras)" build_release
    [ -d "$configuration" ] || change "create $configuration" install -d -m 0750 "$configuration"
    [ -e "$configuration/config.yaml" ] ||
        change "write an example to $configuration/config.yaml" put 0600 "$checkout/deploy/config.example.yaml" "$configuration/config.yaml"
    if [ -n "$old" ] && [ -z "$dry" ]; then
        accepted=0
        "$release/bin/edgepose" check --config "$configuration/config.yaml" >"$work/check" 2>&1 || accepted=$?
        [ "$accepted" != 78 ] || fail 78 "${release##*/} refuses the configuration, and was not installed: $(cat "$work/check")"
    fi
    before=$changes
    activate "$release"
    if with_tensorrt && [ "$changes" != "$before" ]; then change "build the engines of TensorRT, which takes minutes" build_engines; fi
    if [ -n "$was_active" ] && { [ "$changes" != "$before" ] || ! runs "$release"; }; then
        change "restart the service, and check that it stays up for $settle_s s" restart_or_return_to "$old"
    fi
    if [ -n "$start" ]; then
        systemctl --quiet is-enabled edgepose.service 2>/dev/null || change "enable the service at boot" systemctl --quiet enable edgepose.service
        is_active || change "start the service" restart_or_return_to ""
    fi
    [ -z "$old" ] || [ "$old" = "$release" ] || remove_older_than "$old"
    if [ "$changes" = 0 ]; then
        say "nothing to do: ${release##*/} is installed"
    elif [ -z "$dry$old$start" ]; then
        say "next: edit $configuration/config.yaml, check it with 'edgepose check --config $configuration/config.yaml', then"
        say "      systemctl enable --now edgepose"
    fi
}

shipped_drop_ins() { (cd "$checkout/deploy/drop-ins" && for each in *.conf; do printf '%s ' "${each%.conf}"; done); }

uninstall() {
    case $(systemctl show edgepose.service --property ActiveState --value) in
    inactive | failed) ;;
    *) change "stop the service" systemctl stop edgepose.service ;;
    esac
    if systemctl --quiet is-enabled edgepose.service 2>/dev/null; then
        change "disable the service at boot" systemctl --quiet disable edgepose.service
    fi
    [ ! -e "$web_unit" ] || change "stop the web page" systemctl --quiet disable --now edgepose-web.service
    before=$changes
    remove "$unit"
    remove "$engine_unit"
    remove "$web_unit"
    for name in $(shipped_drop_ins); do remove "$unit.d/$name.conf"; done
    remove "$web_unit.d/encryption.conf"
    [ -n "$dry" ] || rmdir "$unit.d" "$web_unit.d" 2>/dev/null || true
    [ "$before" = "$changes" ] || [ -n "$dry" ] || systemctl daemon-reload
    systemctl reset-failed edgepose.service edgepose-engine.service 2>/dev/null || true
    remove "$sysusers"
    [ "$(readlink "$command")" != "$current/bin/edgepose" ] || remove "$command"
    remove "$top"
    if [ -n "$purge" ]; then
        remove "$unit.d"
        for each in "$configuration" /var/lib/edgepose /var/lib/private/edgepose; do remove "$each"; done
    fi
    [ "$changes" != 0 ] || say "nothing to do: edgepose is not installed"
    for each in "$configuration" /var/lib/private/edgepose; do
        [ ! -e "$each" ] || [ -n "$dry$purge" ] || say "left: $each (--purge also removes it)"
    done
}

if [ "$action" = make-wheelhouse ]; then
    make_wheelhouse
    exit
fi
[ "$(id -u)" = 0 ] || [ -n "$dry" ] || fail 77 "this needs root; try sudo, or --dry-run"
[ -d /run/systemd/system ] || fail 69 "systemd does not run here; see docs/getting-started.md, 'Without systemd'"
work=$(mktemp -d)
# The lock is in a folder of root: in /run/lock, which everyone can write to, another user could hold it, or leave a symbolic link that the
# redirection below would follow and truncate.
lock_folder=/run/edgepose-install
if [ -z "$dry" ]; then
    mkdir -m 0700 "$lock_folder" 2>/dev/null || true
    [ "$(stat -c '%F %u %a' "$lock_folder")" = 'directory 0 700' ] || # of a symbolic link stat says so
        fail 73 "$lock_folder is not a folder that only root can enter; remove it, then run this script again"
    exec 9>"$lock_folder/lock"
    flock -n 9 || fail 75 "another installation is running"
fi
case $action in
install | upgrade) install_or_upgrade ;;
uninstall) uninstall ;;
esac
