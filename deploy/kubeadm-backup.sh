#!/usr/bin/env bash
# Saves a snapshot of kubeadm's etcd on this node, over mutual TLS: docs/kubeadm.md says more.
#
#   kubeadm-backup.sh [--root DIR] [--endpoint URL] [--cacert FILE] [--cert FILE] [--key FILE] FILE
#
# The endpoint is by default the first of the manifest's --listen-client-urls, and the three
# files those that the manifest names for the server. The host is found below the root
# directory. ETCDCTL and ETCDUTL name the programs.
set -euo pipefail
umask 077 # the file holds every Secret of the cluster

ctl=${ETCDCTL:-etcdctl} util=${ETCDUTL:-etcdutl}
root= endpoint= cacert= cert= key= file=
say() { echo "kubeadm-backup: $*" >&2; }
fail() { say "$*"; exit 1; }
wrong() { say "$*"; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --root | --endpoint | --cacert | --cert | --key)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      if [ "$1" = --root ]; then root=${2%/}; else printf -v "${1#--}" %s "$2"; fi
      shift 2 ;;
    -*) wrong "$1 is none of --root --endpoint --cacert --cert --key" ;;
    *) [ -z "$file" ] || wrong "one file, not $file and $1"; file=$1; shift ;;
  esac
done
[ -n "$file" ] || wrong "the file to write is missing"
[ -z "$root" ] || root=$(realpath -m -- "$root")
[ ! -e "$file" ] || fail "$file is there already; nothing was done"

# The value of a flag in the manifest.
manifest=$root/etc/kubernetes/manifests/etcd.yaml
flag() { sed -n "s/^ *- --$1=//p" "$manifest"; }
# One of the three files: as given, or as the manifest has it.
given_or() { if [ -n "$1" ]; then echo "$1"; else echo "$root$(flag "$2")"; fi; }
if [ -z "$endpoint" ] || [ -z "$cacert" ] || [ -z "$cert" ] || [ -z "$key" ]; then
  [ -r "$manifest" ] || fail "$manifest cannot be read (no rights?): give --endpoint, --cacert, --cert and --key"
  urls=$(flag listen-client-urls)
  endpoint=${endpoint:-${urls%%,*}}
  cacert=$(given_or "$cacert" trusted-ca-file)
  cert=$(given_or "$cert" cert-file)
  key=$(given_or "$key" key-file)
fi
for needed in "$cacert" "$cert" "$key"; do
  [ -f "$needed" ] && [ -r "$needed" ] || fail "$needed cannot be read (no rights?); nothing was done"
done

unset ETCDCTL_ENDPOINTS ETCDCTL_CACERT ETCDCTL_CERT ETCDCTL_KEY
export ETCDCTL_API=3
"$ctl" --endpoints="$endpoint" --cacert="$cacert" --cert="$cert" --key="$key" \
  snapshot save "$file" || fail "no snapshot from $endpoint; nothing was written"
"$util" snapshot status "$file" -w table || { rm -f -- "$file"; fail "the snapshot was not sound; it is removed"; }
