#!/usr/bin/env bash
# Makes a cluster of one member, on this control plane host, from what cluster-backup.sh wrote:
# docs/openshift.md says when, and how the other members are added again.
#
#   cluster-restore.sh [--root DIR] [--endpoint URL] [--restore-pod FILE] [--patience SECONDS] DIR
#
# DIR has one snapshot_*.db and one static_kuberesources_*.tar.gz. Everything is checked before
# anything is stopped. When a later step fails it says which, what to do to go on, and the
# commands that bring back what was before; old data is only ever moved. The host is found below
# the root directory. The restore-etcd pod (FILE, or the host's own) restores
# /var/lib/etcd-backup/snapshot.db when /var/lib/etcd has no member, and runs etcd on it.
# CRICTL, ETCDCTL and ETCDUTL name the programs; certificates as in cluster-backup.sh.
set -euo pipefail
umask 077

ctl=${ETCDCTL:-etcdctl} util=${ETCDUTL:-etcdutl} cri=${CRICTL:-crictl}
root= endpoint=https://localhost:2379 restore_pod= patience=600 dir=
say() { echo "restore: $*" >&2; }
wrong() {
  say "$*"
  say "usage: cluster-restore.sh [--root DIR] [--endpoint URL] [--restore-pod FILE] [--patience SECONDS] DIR"
  exit 2
}
while [ $# -gt 0 ]; do
  case $1 in
    --root | --endpoint | --restore-pod | --patience)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      case $1 in
        --root) root=${2%/} ;;
        --endpoint) endpoint=$2 ;;
        --restore-pod) restore_pod=$2 ;;
        --patience) patience=$2 ;;
      esac
      shift 2 ;;
    -*) wrong "$1 is none of --root --endpoint --restore-pod --patience" ;;
    *) [ -z "$dir" ] || wrong "one directory, not $dir and $1"; dir=${1%/}; shift ;;
  esac
done
[ -n "$dir" ] || wrong "the directory of the backup is missing"
[ -z "$root" ] || root=$(realpath -m -- "$root")
[[ $patience =~ ^[0-9]+$ ]] || wrong "--patience is a number of seconds, not $patience"

# What is under way, and the commands that undo what was done, newest first. They are written
# down before each step, for the case that nobody is left to say them; each also holds when its
# step did not come to pass, and ends the way back when it cannot be taken.
doing= undo=() scratch= trial= stopped=
undo_by() {
  local line
  # The format comes first, the rest are words of a shell.
  # shellcheck disable=SC2059
  printf -v line "$@"
  undo=("$line" ${undo[@]+"${undo[@]}"})
  printf '%s\n' "${undo[@]}" >"$stopped/go-back.part"
  mv -- "$stopped/go-back.part" "$stopped/go-back.sh"
}
move() { # FROM TO
  undo_by '[ -e %q ] || mv %q %q' "$1" "$2" "$1"
  mv -- "$1" "$2"
}
at_end() {
  local code=$?
  [ -z "$scratch" ] || rm -rf -- "$scratch"
  [ -z "$trial" ] || rm -rf -- "$trial"
  [ "$code" -ne 0 ] || return 0
  if [ ${#undo[@]} -eq 0 ]; then
    say "nothing was stopped and nothing was changed"
    return 0
  fi
  say "failed while $doing"
  say "to go on: remove the cause and run the same command again; it sets aside what it finds"
  say "to go back to what was before, run:"
  printf '  bash -e %q\n' "$stopped/go-back.sh" >&2
  printf '  # %s\n' "${undo[@]}" >&2
}
trap at_end EXIT
trap 'exit 130' INT TERM
fail() { say "$*"; exit 1; }

kubernetes=/etc/kubernetes manifests=/etc/kubernetes/manifests
resources=/etc/kubernetes/static-pod-resources data=/var/lib/etcd backup=/var/lib/etcd-backup
others=(kube-apiserver kube-controller-manager kube-scheduler)
time=$(date +%Y-%m-%d_%H%M%S)

# The one file of the backup with such a name.
only() {
  local found=() file
  for file in "$dir/"$1; do [ ! -f "$file" ] || found+=("$file"); done
  [ ${#found[@]} -eq 1 ] || fail "$dir has ${#found[@]} files $1, and must have exactly one"
  chosen=${found[0]}
}
running() { "$cri" ps --label "io.kubernetes.container.name=$1" -q; }

# 1. May it, and is everything there? Until the end of this part nothing is changed.
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "it must be run as root: static pods are stopped and data is moved"
for path in "$manifests" "$resources" "$data"; do
  [ -d "$root$path" ] || fail "$root$path is not there: not a control plane host"
done
for path in "$kubernetes" "$manifests" "$data" "${data%/*}"; do
  [ -w "$root$path" ] || fail "no right to write to $root$path"
done
for program in "$ctl" "$util" "$cri" tar cmp; do
  command -v "$program" >/dev/null || fail "$program is not there (CRICTL, ETCDCTL and ETCDUTL name it)"
done
[ -d "$dir" ] || fail "$dir is not a directory"
only 'snapshot_*.db'; snapshot=$chosen
only 'static_kuberesources_*.tar.gz'; tarball=$chosen
restore_pod=${restore_pod:-$root$resources/etcd-certs/configmaps/restore-etcd-pod/pod.yaml}
[ -r "$restore_pod" ] || fail "no manifest of the restore-etcd pod at $restore_pod (--restore-pod FILE; deploy/restore-etcd-pod.yaml is one)"
# A crictl that does not work must not look like containers that are gone.
"$cri" ps -q >/dev/null || fail "$cri ps -q fails: containers cannot be waited for"

for path in "$root$kubernetes"/manifests-stopped/*/go-back.sh; do
  [ ! -e "$path" ] || say "an earlier restore did not come to its end; what brings back the state before it is in $path"
done

scratch=$(mktemp -d)
tar -tzf "$tarball" >"$scratch/list" || fail "$tarball is damaged"
for name in "${others[@]}"; do
  lines=$(grep -cE "^static-pod-resources/$name-pod-[0-9]+/$name-pod\.yaml$" "$scratch/list" || true)
  [ "$lines" = 1 ] || fail "$tarball has $lines manifests of $name, and must have exactly one"
done
# The file twice: as snapshot.db, and as what is restored of it. The old data stays as well.
need=$(($(stat -c %s "$snapshot") * 2 / 1024)) free=$(df -Pk "$root${data%/*}" | awk 'NR == 2 { print $4 }')
# Where that is another file system, the old data is copied.
[ "$(stat -c %d "$root$data")" = "$(stat -c %d "$root${data%/*}")" ] ||
  need=$((need + $(du -sk "$root$data" | cut -f 1)))
[ "$free" -gt "$need" ] || fail "$root${data%/*} has $free KiB free and needs $need"
# Only a restore looks at all of a snapshot: one is made, and thrown away, while all still runs.
trial=$root$data-trial-$time
"$util" snapshot restore "$snapshot" --data-dir "$trial" >"$scratch/trial" 2>&1 ||
  { cat "$scratch/trial" >&2; fail "$snapshot cannot be restored"; }
rm -rf -- "$trial"
trial=

# The certificates that the host's own scripts use, unless the environment names some.
env_file=$root$resources/etcd-certs/configmaps/etcd-scripts/etcd.env
for name in ETCDCTL_CACERT ETCDCTL_CERT ETCDCTL_KEY; do
  if [ -z "${!name:-}" ] && [ -r "$env_file" ]; then
    file=$(sed -n "s/^export $name=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "$env_file" | tail -n 1)
    # Inside of the pod the folder is mounted under another name.
    file=${file/\/static-pod-certs\//\/static-pod-resources\/etcd-certs\/}
    [ -z "$file" ] || export "$name=$root$file"
  fi
  if [ -n "${!name:-}" ] && [ ! -r "${!name}" ]; then fail "$name is ${!name}, which cannot be read"; fi
done
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=$endpoint

# 2. The static pods stop when their manifests are gone. The folder is on the same file system,
# so that each is in one of the two places.
stopped=$root$kubernetes/manifests-stopped/$time doing="making $stopped"
mkdir -p -- "${stopped%/*}"
until mkdir -- "$stopped" 2>/dev/null; do
  [ -d "$stopped" ] || fail "$stopped cannot be made"
  # Another attempt began in this second.
  sleep 1
  time=$(date +%Y-%m-%d_%H%M%S) stopped=$root$kubernetes/manifests-stopped/$time
done
undo_by 'rm -f %q' "$stopped/go-back.sh"
for name in "${others[@]}" etcd; do
  file=$name-pod.yaml
  doing="stopping $file"
  if [ -e "$root$manifests/$file" ]; then
    echo "...stopping $file"
    move "$root$manifests/$file" "$stopped/$file"
  else
    echo "...$file is not in $manifests, so it is stopped already"
  fi
done

# 3. Nobody may have the data open when it is moved.
for name in etcd etcdctl etcd-metrics kube-controller-manager kube-apiserver kube-scheduler; do
  doing="waiting for container $name to stop"
  echo "Waiting for container $name to stop"
  end=$((SECONDS + patience))
  while id=$(running "$name") || fail "$cri ps fails"; [ -n "$id" ]; do
    [ $SECONDS -lt $end ] || { echo; fail "container $name ($id) still runs after $patience s"; }
    printf .
    sleep 0.5
  done
  echo complete
done

# 4. The old data goes aside, and so does what an earlier restore has left there.
doing="setting the old data aside"
if [ -e "$root$backup" ]; then
  echo "Moving $backup of an earlier restore to $backup-$time"
  # The one of this restore makes room for it again.
  undo_by '[ ! -e %q ] || { [ ! -e %q ] || mv %q %q; mv %q %q; }' "$root$backup-$time" \
    "$root$backup" "$root$backup" "$root$backup-undone-$time" "$root$backup-$time" "$root$backup"
  mv -T -- "$root$backup" "$root$backup-$time"
fi
mkdir -- "$root$backup"
for path in "$root$data"/*; do
  name=${path##*/}
  # The second is the file system's own, where the directory is one of its own.
  if [ ! -e "$path" ] || [ "$name" = lost+found ]; then continue; fi
  echo "Moving etcd data-dir $data/$name to $backup"
  move "$path" "$root$backup/$name"
done

# 5. One member from the snapshot.
doing="copying the snapshot"
cp -- "$snapshot" "$root$backup/snapshot.db.part"
sync "$root$backup/snapshot.db.part"
cmp -s -- "$snapshot" "$root$backup/snapshot.db.part" || fail "$root$backup/snapshot.db.part differs from $snapshot"
mv -- "$root$backup/snapshot.db.part" "$root$backup/snapshot.db"

# Puts a manifest there in one step; the kubelet passes over names that begin with a dot.
start_pod() {
  cat >"$root$manifests/.$1.part"
  mv -- "$root$manifests/.$1.part" "$root$manifests/$1"
}
doing="starting the restore-etcd static pod"
echo "starting restore-etcd static pod"
# Newest first: the pod goes, its container ends, and only then its data is moved away.
undo_by '[ ! -e %q ] || mv %q %q' "$root$data/member" "$root$data/member" "$root$backup/restored-member"
undo_by 'while [ -n "$(%q ps --label io.kubernetes.container.name=etcd -q)" ]; do sleep 1; done' "$cri"
undo_by 'rm -f %q' "$root$manifests/etcd-pod.yaml"
start_pod etcd-pod.yaml <"$restore_pod"

doing="waiting for the restored member (crictl logs of container etcd says more)"
echo "Waiting for etcd at $endpoint to answer"
end=$((SECONDS + patience))
until "$ctl" --command-timeout=3s endpoint health >/dev/null 2>"$scratch/health"; do
  [ $SECONDS -lt $end ] || { echo; cat "$scratch/health" >&2; fail "no answer at $endpoint in $patience s"; }
  printf .
  sleep 0.5
done
echo complete

# 6. The others, as they were when the backup was made.
for name in "${others[@]}"; do
  file=$name-pod.yaml
  doing="starting $file"
  entry=$(grep -E "^static-pod-resources/$name-pod-[0-9]+/$file$" "$scratch/list")
  # Its certificates and configuration, when the host has lost them.
  if [ ! -d "$root$kubernetes/${entry%/*}" ]; then
    tar -C "$root$kubernetes" -xzpf "$tarball" "${entry%/*}"
  fi
  echo "starting $file"
  undo_by 'rm -f %q' "$root$manifests/$file"
  tar -xzOf "$tarball" "$entry" >"$scratch/$file"
  start_pod "$file" <"$scratch/$file"
  echo "$entry"
done
# This was the end of earlier attempts too: their ways back would lead to the wrong data.
rm -f -- "$root$kubernetes"/manifests-stopped/*/go-back.sh
echo "restored $snapshot as a cluster of one member; the old data is in $backup, the old manifests in ${stopped#"$root"}"
echo "add each other member, its data directory empty: etcdctl member add NAME --peer-urls=URL --learner --promote-when-ready"
