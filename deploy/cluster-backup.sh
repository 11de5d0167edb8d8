#!/usr/bin/env bash
# Backs up etcd and the static pods of this control plane host: docs/openshift.md says more.
#
#   cluster-backup.sh [--root DIR] [--endpoint URL] DIR
#
# Writes DIR/snapshot_TIME.db and DIR/static_kuberesources_TIME.tar.gz, both or none. The host
# is found below the root directory; the member is asked at the endpoint
# (https://localhost:2379). Certificates are those of ETCDCTL_CACERT, ETCDCTL_CERT and
# ETCDCTL_KEY, or else of the host's etcd.env. ETCDCTL and ETCDUTL name the programs.
set -euo pipefail
umask 077 # the files hold every Secret of the cluster

ctl=${ETCDCTL:-etcdctl} util=${ETCDUTL:-etcdutl}
root= endpoint=https://localhost:2379 dir=
say() { echo "backup: $*" >&2; }
wrong() { say "$*"; say "usage: cluster-backup.sh [--root DIR] [--endpoint URL] DIR"; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --root | --endpoint)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      if [ "$1" = --root ]; then root=${2%/}; else endpoint=$2; fi
      shift 2 ;;
    -*) wrong "$1 is neither --root nor --endpoint" ;;
    *) [ -z "$dir" ] || wrong "one directory, not $dir and $1"; dir=${1%/}; shift ;;
  esac
done
[ -n "$dir" ] || wrong "the directory to write to is missing"
[ -z "$root" ] || root=$(realpath -m -- "$root")

# Whatever fails, the two files are there or neither is.
made=() made_dir=
at_end() {
  local code=$?
  [ "$code" -ne 0 ] || return 0
  [ ${#made[@]} -eq 0 ] || rm -f -- "${made[@]}"
  [ -z "$made_dir" ] || rmdir -- "$made_dir" 2>/dev/null || true
  say "failed; no part of this backup is left in $dir, and the cluster is as it was"
}
trap at_end EXIT
trap 'exit 130' INT TERM
fail() { say "$*"; exit 1; }

# 1. May it, and is everything there?
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "it must be run as root: keys and Secrets are read"
kubernetes=/etc/kubernetes resources=/etc/kubernetes/static-pod-resources
[ -r "$root$resources" ] || fail "$root$resources cannot be read: not a control plane host, or no rights"
for program in "$ctl" "$util" tar; do
  command -v "$program" >/dev/null || fail "$program is not there (ETCDCTL and ETCDUTL name it)"
done

# The certificates that the host's own scripts use, unless the environment names some.
env_file=$root$resources/etcd-certs/configmaps/etcd-scripts/etcd.env
for name in ETCDCTL_CACERT ETCDCTL_CERT ETCDCTL_KEY; do
  if [ -z "${!name:-}" ] && [ -r "$env_file" ]; then
    file=$(sed -n "s/^export $name=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "$env_file" | tail -n 1)
    # Inside of the pod the folder is mounted under another name.
    file=${file/\/static-pod-certs\//\/static-pod-resources\/etcd-certs\/}
    [ -z "$file" ] || export "$name=$root$file"
  fi
done
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=$endpoint

# 2. The newest revision of each static pod's resources.
paths=()
for name in kube-apiserver kube-controller-manager kube-scheduler etcd; do
  newest=-1
  for path in "$root$resources/$name-pod-"*; do
    revision=${path##*-pod-}
    [[ -d $path && $revision =~ ^(0|[1-9][0-9]*)$ ]] || continue
    [ "$revision" -lt "$newest" ] || newest=$revision
  done
  [ "$newest" != -1 ] || fail "there is no $root$resources/$name-pod-N"
  [ -f "$root$resources/$name-pod-$newest/$name-pod.yaml" ] ||
    fail "$root$resources/$name-pod-$newest has no $name-pod.yaml: is a rollout under way? Try again after it"
  echo "found latest $name-pod: $resources/$name-pod-$newest"
  paths+=("static-pod-resources/$name-pod-$newest")
done

# 3. Both files, under their names only when they are whole.
[ -d "$dir" ] || { mkdir -p -- "$dir"; made_dir=$dir; }
time=$(date +%Y-%m-%d_%H%M%S)
snapshot=$dir/snapshot_$time.db tarball=$dir/static_kuberesources_$time.tar.gz
for file in "$snapshot" "$tarball"; do
  [ ! -e "$file" ] || fail "$file is there already; try again in a second"
done
made=("$snapshot" "$snapshot.part" "$tarball" "$tarball.part")
tar -C "$root$kubernetes" -czpf "$tarball.part" "${paths[@]}" ||
  fail "the static pods' resources could not be packed (changed meanwhile, or no room); try again"
"$ctl" snapshot save "$snapshot" || fail "no snapshot from $endpoint"
"$util" snapshot status "$snapshot" -w json || fail "the snapshot is not sound"
sync "$tarball.part"
mv -- "$tarball.part" "$tarball"
sync "$dir"
echo "snapshot db and kube resources are successfully saved to $dir"
