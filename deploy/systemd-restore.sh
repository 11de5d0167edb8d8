#!/usr/bin/env bash
# Restores a snapshot on a host whose etcd is a systemd unit, into a new directory, and points
# the unit's data directory at it: docs/systemd.md says when, and what comes before and after.
#
#   systemd-restore.sh [--root DIR] [--unit NAME] [--name NAME] [--peer-urls URLS]
#                      [--bump-revision N] --to DIRECTORY FILE
#
# The old directory is not touched. The snapshot is restored, and wholly checked, while the unit
# still runs. Then the unit is stopped, the one place that sets the data directory is changed
# (--data-dir in ExecStart, or ETCD_DATA_DIR in the unit, a drop-in, or its EnvironmentFile), and
# the unit is started. Owner and mode are those of the old directory. Name and peer URLs are those
# of the unit, unless given. The host is found below the root directory. SYSTEMCTL and ETCDUTL
# name the programs.
set -euo pipefail

util=${ETCDUTL:-etcdutl} systemctl=${SYSTEMCTL:-systemctl}
root= unit=etcd name= peers= to= file= more=()
say() { echo "systemd-restore: $*" >&2; }
wrong() { say "$*"; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --root | --unit | --name | --peer-urls | --bump-revision | --to)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      case $1 in
        --root) root=${2%/} ;;
        --unit) unit=${2%.service} ;;
        --name) name=$2 ;;
        --peer-urls) peers=$2 ;;
        --bump-revision) more=(--bump-revision="$2" --mark-compacted) ;;
        --to) to=${2%/} ;;
      esac
      shift 2 ;;
    -*) wrong "$1 is none of --root --unit --name --peer-urls --bump-revision --to" ;;
    *) [ -z "$file" ] || wrong "one file, not $file and $1"; file=$1; shift ;;
  esac
done
[ -n "$file" ] || wrong "the snapshot's file is missing"
[ -z "$root" ] || root=$(realpath -m -- "$root")
[[ $to =~ ^/[A-Za-z0-9._/-]+$ ]] || wrong "--to is an absolute path of letters, digits and ._/- to a new directory on this host"

time=$(date +%Y-%m-%d_%H%M%S) place= drop_in=$root/etc/systemd/system/$unit.service.d/restored.conf
built= changed= stopped= scratch=$(mktemp -d)
at_end() {
  local code=$?
  rm -rf -- "$scratch"
  [ "$code" -ne 0 ] || return 0
  if [ -n "$stopped" ]; then
    say "the unit is stopped, or does not come up with $to; journalctl -u $unit says why"
    say "to go back to the old data, which was not touched, run:"
    [ -z "$changed" ] || printf '  cp -p %q %q\n' "$place.$time" "$place" >&2
    printf '  %q daemon-reload\n  %q restart %q\n' "$systemctl" "$systemctl" "$unit" >&2
  else
    [ -z "$built" ] || rm -rf -- "$built"
    say "nothing was changed"
  fi
}
trap at_end EXIT
trap 'exit 130' INT TERM
fail() { say "$*"; exit 1; }

# 1. What the unit says: its own file, its drop-ins, and the files of its environment.
[ -r "$file" ] || fail "$file cannot be read"
[ ! -e "$root$to" ] || fail "$root$to is there already; choose a new directory"
files=()
for folder in etc/systemd/system usr/lib/systemd/system lib/systemd/system; do
  if [ -f "$root/$folder/$unit.service" ]; then files+=("$root/$folder/$unit.service"); break; fi
done
[ ${#files[@]} -gt 0 ] || fail "there is no unit $unit.service"
for path in "$root/etc/systemd/system/$unit.service.d"/*.conf; do
  [ ! -f "$path" ] || files+=("$path")
done
while read -r path; do
  [ ! -f "$root$path" ] || files+=("$root$path")
done < <(sed -n 's/^EnvironmentFile=-\{0,1\}//p' "${files[@]}")
# A setting as flag or variable, the last one found.
setting() {
  local variable
  variable=ETCD_$(tr a-z- A-Z_ <<<"$1")
  sed -nE "/^#/d; s/.*[[:space:]]--?$1[= ]\"?([^ \"\\]+).*/\1/p; s/^(.*[=\" \t])?$variable=\"?([^ \"]*).*/\2/p" "${files[@]}" | tail -n 1
}
sets='^([^#].*)?[[:space:]]--?data-dir[= ]|^([^#].*[=" \t])?ETCD_DATA_DIR='
places=$(grep -lE -- "$sets" "${files[@]}" || true)
[ "$(grep -hcE -- "$sets" "${files[@]}" | awk '{ n += $1 } END { print n }')" = 1 ] ||
  fail "exactly one line must set the data directory of $unit; it is set in: ${places:-no file}"
place=$places from=$(setting data-dir)
case $place in
  "$root"/etc/*) [ -w "$place" ] || fail "no right to change $place" ;;
  *) fail "$place belongs to a package: copy it to /etc/systemd/system and run again" ;;
esac
[ -d "$root$from" ] || fail "the data directory of $unit is no directory: $from"
name=${name:-$(setting name)} name=${name:-default} name=${name//%H/$(uname -n)}
peers=${peers:-$(setting initial-advertise-peer-urls)} peers=${peers:-http://localhost:2380}

# 2. The new directory.
built=$root$to
cluster=
for url in ${peers//,/ }; do cluster+=${cluster:+,}$name=$url; done
"$util" snapshot restore "$file" --data-dir="$built" --name="$name" --initial-cluster="$cluster" \
  --initial-advertise-peer-urls="$peers" --initial-cluster-token="restored-$time" \
  ${more[@]+"${more[@]}"} >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; fail "$file cannot be restored"; }
chown -R --reference="$root$from" -- "$built" || fail "no right to give $built the owner of $from"
chmod --reference="$root$from" -- "$built"
say "restored $file to $to, for member $name at $peers"

# 3. Stop, point at it, start.
stopped=1
"$systemctl" stop "$unit" || fail "$unit does not stop"
cp -p -- "$place" "$place.$time"
cp -p -- "$place" "$place.part"
sed -E "/$sets/s#(data-dir[= ]\"?|ETCD_DATA_DIR=\"?)$from/?([ \"]|\$)#\1$to\2#" "$place.$time" >"$place.part"
changed=1
mv -- "$place.part" "$place"
# A unit that may write nothing but its own directory has to be allowed the new one. What an
# earlier restore allowed stays for the way back; "-" is for a directory that is gone.
if grep -q '^ProtectSystem=' "${files[@]}"; then
  mkdir -p -- "${drop_in%/*}"
  printf '[Service]\nReadWritePaths=-%s\n' "$to" >>"$drop_in"
fi
[ "$(setting data-dir)" = "$to" ] || fail "$place could not be changed to $to"
say "$place says $to now; before it was $place.$time"
"$systemctl" daemon-reload || fail "systemd does not read its units again"
"$systemctl" start "$unit" || fail "$unit does not start"
"$systemctl" is-active --quiet "$unit" || fail "$unit did not stay up"
say "$unit runs with the restored data in $to; the old data is in $from"
