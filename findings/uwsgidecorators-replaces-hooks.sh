#!/usr/bin/env bash
# Importing uwsgidecorators replaces the post-fork hook and the spooler that somebody else gave to uWSGI.
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
Version:  pyuwsgi $version, with the uwsgidecorators it brings.
Expected: an import only adds decorators; a hook that is set already is called in the worker, before or after those of
          @postfork.
Seen:     the import alone sets uwsgi.post_fork_hook and uwsgi.spooler. The earlier hook is never called, and nothing
          is logged. (uWSGI calls one hook, so whoever sets it last wins.)
Hint:     import uwsgidecorators first, then chain: call the hook found there from your own.

TEXT

cat > "$work/app.py" <<'PYTHON'
import os

import uwsgi


def tell(line):
    with open(os.environ["FACTS"], "a") as facts:
        print(line, file=facts)


def ours():
    tell("in the worker: the hook set before the import")


def spool(arguments):
    return uwsgi.SPOOL_OK


uwsgi.post_fork_hook = ours
uwsgi.spooler = spool

import uwsgidecorators

tell(f"after the import: post_fork_hook is still ours: {uwsgi.post_fork_hook is ours}")
tell(f"after the import: spooler is still ours: {uwsgi.spooler is spool}")


@uwsgidecorators.postfork
def theirs():
    tell("in the worker: the hook of @postfork")


def application(environ, start_response):
    start_response("204 No Content", [])
    return []
PYTHON

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "pyuwsgi==$version"
export FACTS="$work/seen"
# A process group of its own, so that the master and its worker end together.
setsid "$work/venv/bin/uwsgi" --master --http-socket "$work/socket" --wsgi-file "$work/app.py" > "$work/log" 2>&1 &
server=$!
for _ in $(seq 300); do grep -qs "in the worker" "$FACTS" && break; sleep 0.1; done
sleep 1  # Time for a second hook.

cat "$work/seen" || { tail -20 "$work/log"; exit 1; }
diff -u - "$work/seen" <<'TEXT' || { echo "This has changed."; exit 1; }
after the import: post_fork_hook is still ours: False
after the import: spooler is still ours: False
in the worker: the hook of @postfork
TEXT
