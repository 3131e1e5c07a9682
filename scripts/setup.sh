# shellcheck shell=bash
# Set-up, sourced by scripts/bench and scripts/test, which define $root. `set_up EXTRA` (or '') leaves in $python an
# interpreter that can import roofprobe and what it needs, or says in one line what to do and exits with status 2.
#
# Order: what pip cannot bring is checked before anything is downloaded; then .venv is made; then pip runs under a file of
# tested versions. A stamp inside .venv remembers for what that was done, so that the next run only compares it (10 ms).

: "${root:?}"
venv=$root/.venv
stamp=$venv/roofprobe-setup                 # three lines: interpreter, requirements, extras
unfinished=$venv/roofprobe-setup-unfinished # there while .venv is being made or changed; left there: half-made
sudo="sudo "
((EUID)) || sudo=""

say() { printf 'roofprobe: %s\n' "$*" >&2; }
refuse() { say "$*" && exit 2; }

set_up() {
    local extra=$1
    if [[ -n ${ROOFPROBE_PYTHON:-} ]]; then
        use_given_python "$extra"
        return
    fi
    python=$venv/bin/python
    is_up_to_date "$extra" && return
    # A second terminal waits here for the first one's set-up.
    local lock
    exec {lock}<"$root/pyproject.toml"
    flock "$lock"
    is_up_to_date "$extra" || install "$extra"
    exec {lock}<&-
}

# ---- what is installed ----

is_up_to_date() {
    local stamped
    [[ -x $python && -r $stamp && ! -e $unfinished ]] || return 1
    mapfile -t stamped <"$stamp"
    [[ ${stamped[0]:-} == "$(interpreter)" && ${stamped[1]:-} == "$(requirements)" ]] || return 1
    [[ -z $1 || " ${stamped[2]:-} " == *" $1 "* ]]
}

# A distribution's upgrade can put another Python behind the same link; a shared folder can meet another architecture.
interpreter() { printf '%s %s' "$HOSTTYPE" "$(readlink -f -- "$venv/bin/python")"; }

# What decides the contents of .venv. The driver by the cheap signs only: nvidia-smi can take a second to answer.
requirements() {
    local driver=none
    [[ -r /sys/module/nvidia/version ]] && driver=$(</sys/module/nvidia/version)
    local files=("$root/pyproject.toml" "$root/constraints/cpu.txt" "$root/constraints/gpu.txt")
    printf '%s %s %s %s' "$(cat -- "${files[@]}" | sha256sum | cut -c -64)" "$driver" "$(type -P nvidia-smi)" "$root"
}

is_sound() {
    [[ -x $python && ! -e $unfinished ]] || return 1
    [[ ! -r $stamp || $(head -n 1 -- "$stamp") == "$(interpreter)" ]] || return 1
    "$python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

install() {
    local extras=$1 constraints=cpu.txt driver fresh="" base=$python

    is_sound || fresh=yes
    [[ -z $fresh ]] || base=$(find_python)
    check_build_tools "$base" "${fresh:+ensurepip}"
    driver=$(driver_version)
    if [[ -n $driver ]]; then
        constraints=gpu.txt
        check_driver "$driver"
        extras=${extras:+$extras,}cuda13
    fi

    local started=$SECONDS what=${extras:+ with }${extras//,/, }
    trap 'say "interrupted; the next run starts the set-up again"; exit 130' INT TERM HUP
    if [[ -n $fresh ]]; then
        say "making .venv and installing the libraries$what into it; the first time takes a minute or more ..."
        mkdir -p -- "$venv"
        : >"$unfinished"
        find -- "$venv" -mindepth 1 -maxdepth 1 ! -name "${unfinished##*/}" -exec rm -rf -- {} +
        "$base" -m venv "$venv" || refuse "could not make $venv with $base (see above)"
    else
        say "bringing .venv up to date$what ..."
        : >"$unfinished"
    fi
    local editable=.${extras:+[$extras]}
    if ! (cd -- "$root" && exec "$python" -m pip install -qq --no-input --disable-pip-version-check \
        --constraint "constraints/$constraints" --editable "$editable"); then
        # pip leaves a working environment as it was when it can't find or fetch something.
        [[ -n $fresh ]] || rm -f -- "$unfinished"
        refuse "pip could not install roofprobe under constraints/$constraints (see above); mend that and run this again"
    fi
    printf '%s\n' "$(interpreter)" "$(requirements)" "${extras//,/ }" >"$stamp.new"
    mv -- "$stamp.new" "$stamp"
    rm -f -- "$unfinished"
    trap - INT TERM HUP
    say "set-up done in $((SECONDS - started)) s"
}

# ---- an environment of the user's own ----

use_given_python() {
    python=$(type -P "$ROOFPROBE_PYTHON") || refuse "ROOFPROBE_PYTHON=$ROOFPROBE_PYTHON is not a program; give the path of a Python"
    [[ $python == /* ]] || python=$PWD/$python
    local version missing
    version=$(version_of "$python") || refuse "ROOFPROBE_PYTHON=$ROOFPROBE_PYTHON does not run as Python; give the path of a Python"
    is_new_enough "$version" || refuse "ROOFPROBE_PYTHON is Python $version; roofprobe needs 3.11 or newer. Give a newer one"
    check_build_tools "$python"
    missing=$("$python" -P "$root/scripts/missing_requirements.py" "$root/pyproject.toml" ${1:+"$1"}) ||
        refuse "could not look up what $python has installed (see above)"
    [[ -z $missing ]] || refuse "ROOFPROBE_PYTHON lacks $missing. Run: $(printf '%q' "$python") -m pip install $missing"
    export PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH}
}

# ---- what pip cannot bring ----

version_of() { # fails for what is no Python
    local version
    version=$("$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) && [[ $version == [0-9]*.*.* ]] &&
        printf '%s' "$version"
}

is_new_enough() { # is_new_enough MAJOR.MINOR.PATCH
    local major minor
    IFS=. read -r major minor _ <<<"$1"
    ((major > 3 || (major == 3 && minor >= 11)))
}

find_python() { # the distribution's own first: that is the one whose headers it packages
    local name path version found=none
    for name in python3 python3.12 python3.13 python3.11 python3.14; do
        path=$(type -P "$name") || continue
        version=$(version_of "$path") || continue # a pyenv shim may stand for nothing
        if is_new_enough "$version"; then
            printf '%s' "$path"
            return
        fi
        [[ $found != none ]] || found="$version at $path"
    done
    local remedy="Install Python 3.12 and put it on PATH"
    for name in python3.12 python3.13 python3.11 python3.14; do
        if apt-cache show "$name" >/dev/null 2>&1; then
            remedy="Run: $(install_command "$name" "$name-venv" "$name-dev")"
            break
        fi
    done
    refuse "needs Python 3.11 or newer, found $found. $remedy"
}

# Triton compiles a small launcher in C at its first launch: it takes $CC, else gcc, else clang, and wants Python.h.
check_build_tools() { # check_build_tools PYTHON [MODULE that must be there as well]
    local lacking packages=() names=() minor
    if ! type -P "${CC:-gcc}" >/dev/null && { [[ -n ${CC:-} ]] || ! type -P clang >/dev/null; }; then
        names+=("a C compiler (${CC:-gcc or clang})")
        packages+=(gcc libc6-dev)
    fi
    lacking=$("$1" -c '
import importlib, os, sys, sysconfig
scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # as Triton does, for Debian
if not os.path.exists(os.path.join(sysconfig.get_path("include", scheme), "Python.h")):
    print("Python.h dev")
try:
    for module in sys.argv[1:]:
        importlib.import_module(module)
except ImportError:
    print("venv venv")
' ${2:+"$2"}) || refuse "$1 does not start (see above)"
    minor=$(version_of "$1")
    minor=${minor%.*}
    local name suffix
    while read -r name suffix; do
        [[ -n $name ]] || continue
        names+=("$name for Python $minor")
        packages+=("python$minor-$suffix")
    done <<<"$lacking"
    ((${#names[@]})) || return 0
    local list
    list=$(printf ', %s' "${names[@]}")
    refuse "needs ${list:2}. Run: $(install_command "${packages[@]}")"
}

install_command() { # install_command DEBIAN-PACKAGE...
    local list="$*"
    if type -P apt-get >/dev/null; then
        printf '%s' "${sudo}apt-get update && ${sudo}apt-get install -y $list"
    elif type -P dnf >/dev/null; then # there the headers are in -devel, and venv is part of Python
        list=$(printf '%s\n' "$@" | sed -e '/-venv$/d' -e 's/^libc6-dev$/glibc-devel/' -e 's/-dev$/-devel/' | paste -sd ' ')
        printf '%s' "${sudo}dnf install -y $list"
    else
        printf '%s' "your system's package manager, for what Debian calls $list"
    fi
}

# Empty where there is no NVIDIA GPU to talk to. A container may have the driver without nvidia-smi.
driver_version() {
    local control=/dev/nvidiactl answer
    if type -P nvidia-smi >/dev/null; then
        answer=$(timeout 30 nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>&1 | head -n 1) || true
        if [[ $answer =~ ^[0-9]+\. ]]; then
            printf '%s' "$answer"
        elif [[ -e $control ]]; then
            refuse "the NVIDIA driver does not answer (nvidia-smi: $answer). Run: ${sudo}reboot"
        fi
    elif [[ -e $control && -r /sys/module/nvidia/version ]]; then
        cat /sys/module/nvidia/version
    fi
}

check_driver() { # against what constraints/gpu.txt says it needs
    local needed package
    needed=$(sed -n 's/^# driver >= //p' "$root/constraints/gpu.txt")
    ((${1%%.*} < needed)) || return 0
    package=nvidia-driver-$needed-open
    local remedy="Install driver $needed or newer from nvidia.com/drivers"
    if apt-cache show "$package" >/dev/null 2>&1; then
        remedy="Run: $(install_command "$package") && ${sudo}reboot"
    fi
    refuse "needs NVIDIA driver $needed or newer for the torch in constraints/gpu.txt, found $1. $remedy" \
        "(or use an environment made for this driver: ROOFPROBE_PYTHON=/path/to/python scripts/bench)"
}
