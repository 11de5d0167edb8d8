#!/usr/bin/env bash
# Replaces one member of a cluster, under load: docs/rolling.md says when and why.
#
#   roll.sh --member HOST:PORT --endpoints HOST:PORT,... --stop CMD --start CMD [--swap CMD]
#           [--patience SECONDS]
#
# The stop command returns once the member has ended, as systemctl's does.
#
# Checks that every endpoint is healthy and no alarm is raised, hands leadership away, runs
# the stop command, waits until the member is gone, runs the swap and the start command, and
# waits until the member is healthy and has applied what the cluster had. Ends with 1, with
# nothing stopped, when the cluster is not fit for it. TLS and users come from etcdctl's
# variables (ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY, ETCDCTL_USER); ETCDCTL names the program.
set -euo pipefail

ctl=${ETCDCTL:-etcdctl} member= endpoints= stop= start= swap=: patience=120
while [ $# -gt 0 ]; do
  case $1 in
    --member) member=$2 ;;
    --endpoints) endpoints=$2 ;;
    --stop) stop=$2 ;;
    --start) start=$2 ;;
    --swap) swap=$2 ;;
    --patience) patience=$2 ;;
    *) echo "roll: $1 is none of --member --endpoints --stop --start --swap --patience" >&2; exit 2 ;;
  esac
  shift 2
done
for needed in member endpoints stop start; do
  [ -n "${!needed}" ] || { echo "roll: --$needed is missing" >&2; exit 2; }
done

say() { echo "roll: $*" >&2; }
fail() { say "$*"; exit 1; }
ask() { local of=$1; shift; "$ctl" --endpoints="$of" --command-timeout=3s "$@" 2>/dev/null; }
healthy() { ask "$1" endpoint health >/dev/null; }
field() {
  local lines
  lines=$(ask "$1" endpoint status -w fields | sed -n "s/^\"$2\" : //p")
  printf '%s\n' "${lines%%$'\n'*}"
}
# Waits for a command to succeed.
await() {
  local what=$1 end=$((SECONDS + patience)); shift
  until "$@"; do
    [ $SECONDS -lt $end ] || fail "not within $patience s: $what"
    sleep 0.2
  done
}

# 1. Is the cluster fit to do without one member?
others=$(tr , '\n' <<<"$endpoints" | grep -vxF "$member" || true)
[ -n "$others" ] || fail "no other endpoint than $member: a lone member is just restarted"
for endpoint in $member $others; do
  healthy "$endpoint" || fail "$endpoint is not healthy; nothing was stopped"
done
[ -z "$(ask "$member" alarm list)" ] || fail "an alarm is raised; nothing was stopped"

# 2. Leadership goes to another voter, so that the stop is no election.
leads() { [ "$(field "$1" MemberID)" = "$(field "$1" Leader)" ]; }
if leads "$member"; then
  for heir in $others; do
    [ "$(field "$heir" IsLearner)" = true ] && continue
    id=$(printf %x "$(field "$heir" MemberID)")
    say "$member leads; leadership goes to $id at $heir"
    ask "$member" move-leader "$id" >/dev/null && break
  done
  not_leading() { ! leads "$member"; }
  await "$member gives leadership away" not_leading
fi

# 3. Stop, swap, start.
before=$(field "${others%%$'\n'*}" RaftIndex)
say "stopping $member"
bash -c "$stop"
gone() { ! ask "$member" endpoint status >/dev/null; }
await "$member is gone" gone
bash -c "$swap"
say "starting $member"
bash -c "$start"

# 4. Healthy is an answer to a linearizable read; caught up is what was there before it left.
await "$member is healthy" healthy "$member"
caught_up() { local at; at=$(field "$member" RaftAppliedIndex); [ -n "$at" ] && [ "$at" -ge "$before" ]; }
await "$member has caught up" caught_up
for endpoint in $others; do await "$endpoint is healthy" healthy "$endpoint"; done
say "$member is back, at index $(field "$member" RaftAppliedIndex)"
