#!/bin/sh
# Python for XNNPACK's build. Its list of kernel files takes seconds to make and depends on its sources
# only; they are pinned, so once per build folder is enough: update-microkernels.py --output <folder>.
case $1 in
  */update-microkernels.py)
    made="$3/cmake/gen/made-from"
    [ -f "$made" ] && [ "$(cat "$made")" = "$1" ] && exit 0
    python3 "$@" && echo "$1" >"$made"
    exit
    ;;
esac
exec python3 "$@"
