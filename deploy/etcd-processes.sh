#!/usr/bin/env bash
# The etcd processes of this host, told apart by the addresses they serve clients at:
#
#   etcd-processes.sh [URL]
#
# One line each: process id, --listen-client-urls, --data-dir, and the systemd unit or pod it
# belongs to, separated by tabs. Flags count, and ETCD_ variables where there are none. With a
# URL only the process that listens there; ends with 1 when there is none. ETCD is the name of
# the program (etcd). Processes of other users are seen by root alone.
set -euo pipefail
program=${ETCD:-etcd} wanted=${1:-} found=1

# The setting of a process, from its flags (one a line) or its environment.
setting() {
  local value variable
  value=$(sed -n "/^--\{0,1\}$1\$/{n;p;}; s/^--\{0,1\}$1=//p" <<<"$args")
  if [ -z "$value" ]; then
    variable=ETCD_$(tr a-z- A-Z_ <<<"$1")
    value=$(sed -n "s/^$variable=//p" <<<"$environment")
  fi
  echo "${value:-$2}"
}

for process in /proc/[0-9]*; do
  [ "$(cat "$process/comm" 2>/dev/null || true)" = "$program" ] || continue
  # It may end at any moment, and another user's is closed to us.
  args=$(tr '\0' '\n' 2>/dev/null <"$process/cmdline") || continue
  environment=$(tr '\0' '\n' 2>/dev/null <"$process/environ") || environment=
  urls=$(setting listen-client-urls http://localhost:2379)
  [ -z "$wanted" ] || [[ ,$urls, == *",$wanted,"* ]] || continue
  data=$(setting data-dir "$(setting name default).etcd")
  [[ $data == /* ]] || data=$(readlink "$process/cwd" || echo ?)/$data
  owner=$(sed -n 's#^[0-9]*:[^:]*:.*/\([^/]*\)$#\1#p' "$process/cgroup" 2>/dev/null | head -n 1 || true)
  printf '%s\t%s\t%s\t%s\n' "${process#/proc/}" "$urls" "$data" "${owner:--}"
  found=0
done
[ -z "$wanted" ] || exit $found
