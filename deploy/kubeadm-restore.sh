#!/usr/bin/env bash
# Restores a snapshot on a node of kubeadm's into a new directory, and points the hostPath of
# the etcd manifest at it: docs/kubeadm.md says when, and what comes before and after.
#
#   kubeadm-restore.sh [--root DIR] [--patience SECONDS] [--bump-revision N] --to DIRECTORY FILE
#
# The old directory is not touched. The snapshot is restored, and wholly checked, while the old
# member still runs; only then the manifest is replaced, in one step, and the kubelet starts the
# member again. Owner and mode are those of the old directory. The host is found below the root
# directory; DIRECTORY is the host's name for it. ETCDCTL and ETCDUTL name the programs.
set -euo pipefail

ctl=${ETCDCTL:-etcdctl} util=${ETCDUTL:-etcdutl}
root= to= patience=300 file= more=()
say() { echo "kubeadm-restore: $*" >&2; }
wrong() { say "$*"; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --root | --to | --patience | --bump-revision)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      case $1 in
        --root) root=${2%/} ;;
        --to) to=${2%/} ;;
        --patience) patience=$2 ;;
        --bump-revision) more=(--bump-revision="$2" --mark-compacted) ;;
      esac
      shift 2 ;;
    -*) wrong "$1 is none of --root --to --patience --bump-revision" ;;
    *) [ -z "$file" ] || wrong "one file, not $file and $1"; file=$1; shift ;;
  esac
done
[ -n "$file" ] || wrong "the snapshot's file is missing"
[ -z "$root" ] || root=$(realpath -m -- "$root")
[[ $to =~ ^/[A-Za-z0-9._/-]+$ ]] || wrong "--to is an absolute path of letters, digits and ._/- to a new directory on this host"
[[ $patience =~ ^[0-9]+$ ]] || wrong "--patience is a number of seconds, not $patience"

manifest=$root/etc/kubernetes/manifests/etcd.yaml time=$(date +%Y-%m-%d_%H%M%S)
before=$root/etc/kubernetes/etcd.yaml.$time
built= changed= scratch=$(mktemp -d)
at_end() {
  local code=$?
  rm -rf -- "$scratch"
  [ "$code" -ne 0 ] || return 0
  if [ -n "$changed" ]; then
    say "the manifest points at $to, and the member does not answer; crictl logs says why"
    say "to go back to the old data, which was not touched: mv $before $manifest"
  else
    [ -z "$built" ] || rm -rf -- "$built"
    rm -f -- "$before" "$root/etc/kubernetes/manifests/.etcd.yaml.part"
    say "nothing was changed"
  fi
}
trap at_end EXIT
trap 'exit 130' INT TERM
fail() { say "$*"; exit 1; }

# 1. What the manifest says.
[ -w "$manifest" ] || fail "$manifest is not there, or there is no right to change it"
[ -r "$file" ] || fail "$file cannot be read"
[ ! -e "$root$to" ] || fail "$root$to is there already; choose a new directory"
flag() { sed -n "s/^ *- --$1=//p" "$manifest"; }
name=$(flag name) peers=$(flag initial-advertise-peer-urls) data=$(flag data-dir)
urls=$(flag listen-client-urls)
for needed in name peers data urls; do
  [ -n "${!needed}" ] || fail "$manifest lacks one of --name --initial-advertise-peer-urls --data-dir --listen-client-urls"
done
# The volume that is mounted at the data directory, and its path on the host.
volume=$(awk -v path="$data" '$1 == "-" && $2 == "mountPath:" { at = $3 } $1 == "name:" && at == path { print $2; exit }' "$manifest")
[ -n "$volume" ] || fail "$manifest mounts nothing at $data"
from=$(awk -v name="$volume" '/^  volumes:/ { in_volumes = 1 } in_volumes && $1 == "path:" { at = $2 } in_volumes && $1 == "name:" && $2 == name { print at; exit }' "$manifest")
[ -d "$root$from" ] || fail "$manifest: the hostPath of volume $volume is no directory: $from"
[ "$(grep -cE "^ *path: $from\$" "$manifest")" = 1 ] || fail "$manifest has the path $from more than once"
client=(--cacert="$root$(flag trusted-ca-file)" --cert="$root$(flag cert-file)" --key="$root$(flag key-file)")

# 2. The new directory. A token of its own makes it another cluster: members of the lost one
# keep away, and what answers afterwards is told from what answered before.
built=$root$to
cluster=
for url in ${peers//,/ }; do cluster+=${cluster:+,}$name=$url; done
"$util" snapshot restore "$file" --data-dir="$built" --name="$name" --initial-cluster="$cluster" \
  --initial-advertise-peer-urls="$peers" --initial-cluster-token="restored-$time" \
  ${more[@]+"${more[@]}"} >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; fail "$file cannot be restored"; }
id=$(sed -n 's/.*"cluster-id": *"\([0-9a-f]*\)".*/\1/p' "$scratch/log" | sort -u)
chown -R --reference="$root$from" -- "$built" || fail "no right to give $built the owner of $from"
chmod --reference="$root$from" -- "$built"
say "restored $file to $to"

# 3. The manifest, in one step; the kubelet passes over names that begin with a dot.
cp -p -- "$manifest" "$before"
part=$root/etc/kubernetes/manifests/.etcd.yaml.part
cp -p -- "$manifest" "$part"
sed -E "s#^( *path: )$from\$#\1$to#" "$manifest" >"$part"
changed=1
mv -- "$part" "$manifest"
say "the hostPath is $to now; the manifest before is $before"

# 4. The member that answers is the restored one.
unset ETCDCTL_ENDPOINTS ETCDCTL_CACERT ETCDCTL_CERT ETCDCTL_KEY
export ETCDCTL_API=3
ask() { "$ctl" --endpoints="${urls%%,*}" "${client[@]}" --command-timeout=3s "$@" 2>/dev/null; }
is_restored() {
  local answer
  answer=$(ask endpoint status -w fields | sed -n 's/^"ClusterID" : //p') || return 1
  [ -n "$answer" ] && [ "$(printf %x "$answer")" = "$id" ] && ask endpoint health >/dev/null
}
end=$((SECONDS + patience))
until is_restored; do
  [ $SECONDS -lt $end ] || fail "no answer of the restored member at ${urls%%,*} in $patience s"
  sleep 0.5
done
say "etcd serves the restored data at ${urls%%,*}; the old data is in $from"
