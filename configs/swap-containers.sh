#!/bin/sh
# swap-containers.sh SERVICE IMAGE [OPTIONS OF docker run...]
#
# Starts a container of IMAGE, lets relayd's SERVICE change over to it, and removes the ones before it once they have
# finished what they had. If the new one does not get ready, it is removed instead, and the old one goes on serving.
# SERVICE is one with `targets` (configs/targets.yaml). The first container is started by this script too, before relayd.
#
#   PORT=8000             where the app in the container listens
#   ENGINE=docker         or podman
#   CONFIG=relayd.yaml    if set: the old address, in double quotes, is replaced in it by the new one, for relayd's next
#                         start and for HUP
#   RELAYD_SOCKET         relayd's control socket, if it is not in the usual place
#
# Exit codes are relayctl's: 0 swapped; 1 failed, and the old one serves; 4 another rollover is in progress …
set -eu

if [ $# -lt 2 ]; then
  echo "usage: swap-containers.sh SERVICE IMAGE [OPTIONS OF docker run...]" >&2
  exit 2
fi
service=$1
image=$2
shift 2
engine=${ENGINE:-docker}
label=relayd.service=$service

address_of() {
  # The first network's address; relayd must be able to reach it.
  ip=$($engine inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$1")
  echo "${ip%% *}:${PORT:-8000}"
}

old=$($engine ps --quiet --filter "label=$label")
new=$($engine run --detach --label "$label" --name "$service-$(date +%Y%m%d%H%M%S)-$$" "$@" "$image")
address=$(address_of "$new")

if [ -z "$old" ] && ! relayctl status "$service" >/dev/null 2>&1; then
  echo "$new is the first: relayd may be started, with targets: [\"$address\"]"
  exit 0
fi

status=0
relayctl rollover "$service" --target "$address" --until drained || status=$?
case $status in
  0) ;;
  1 | 2 | 3 | 4 | 6) # relayd does not use the new one
    $engine rm --force "$new" >/dev/null
    exit "$status"
    ;;
  *) # not waited for to the end: which one serves is not known here
    echo "both are left running: relayctl status $service says which one serves" >&2
    exit "$status"
    ;;
esac

for each in $old; do
  before=$(address_of "$each")
  if [ -n "${CONFIG:-}" ]; then sed -i "s|\"$before\"|\"$address\"|g" "$CONFIG"; fi
  $engine rm --force "$each" >/dev/null
done
