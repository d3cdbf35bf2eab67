#!/usr/bin/env bash
# In uWSGI's workers is_alive() says True of a thread that stayed behind in the master.
set -euo pipefail

version=2.0.30.post1
work=$(mktemp -d)
server=
clean() {
  [ -z "$server" ] || { kill -KILL -- "-$server"; wait "$server"; } 2> /dev/null || true
  rm -rf "$work"
}
trap clean EXIT

cat <<TEXT
Version:  pyuwsgi $version, as it comes, and with the option py-call-uwsgi-fork-hooks.
Expected: as after os.fork(): in the child the parent's threads are over, so is_alive() is False, and what was given to
          os.register_at_fork() is called.
Seen:     uWSGI forks in C and tells Python only with py-call-uwsgi-fork-hooks. Without it is_alive() is True of a
          thread that does not run, so "start it if it is not alive" starts nothing, and no fork hook is called.
Hint:     set the option, or compare os.getpid() with that of the process that started the thread.

TEXT

cat > "$work/app.py" <<'PYTHON'
import os
import threading
import time

import uwsgi

hooks = []
beats = []


def beat():
    while True:
        beats.append(time.monotonic())
        time.sleep(0.05)


thread = threading.Thread(target=beat, daemon=True)
thread.start()
os.register_at_fork(after_in_child=lambda: hooks.append("called"))


def look():
    alive, called, before = thread.is_alive(), bool(hooks), len(beats)
    time.sleep(1)  # Twenty beats, if the thread ran.
    with open(os.environ["FACTS"] + ".new", "w") as facts:
        print("  is_alive() in the worker:", alive, file=facts)
        print("  it runs there:", len(beats) > before, file=facts)
        print("  hook of os.register_at_fork called:", called, file=facts)
    os.rename(os.environ["FACTS"] + ".new", os.environ["FACTS"])


uwsgi.post_fork_hook = look


def application(environ, start_response):
    start_response("204 No Content", [])
    return []
PYTHON

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "pyuwsgi==$version"
for option in "" --py-call-uwsgi-fork-hooks; do
  export FACTS="$work/facts$option"
  # A process group of its own, so that the master and its worker end together. $option: none or one word.
  # shellcheck disable=SC2086
  setsid "$work/venv/bin/uwsgi" --master --http-socket "$work/socket" --wsgi-file "$work/app.py" $option \
    > "$work/log" 2>&1 &
  server=$!
  for _ in $(seq 300); do [ -e "$FACTS" ] && break; sleep 0.1; done
  { kill -KILL -- "-$server"; wait "$server"; } 2> /dev/null || true
  server=
  echo "uwsgi --master $option" | sed 's/ $//'
  cat "$FACTS" || { tail -20 "$work/log"; exit 1; }
done > "$work/seen"

cat "$work/seen"
diff -u - "$work/seen" <<'TEXT' || { echo "This has changed."; exit 1; }
uwsgi --master
  is_alive() in the worker: True
  it runs there: False
  hook of os.register_at_fork called: False
uwsgi --master --py-call-uwsgi-fork-hooks
  is_alive() in the worker: False
  it runs there: False
  hook of os.register_at_fork called: True
TEXT
