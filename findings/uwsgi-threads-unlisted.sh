#!/usr/bin/env bash
# uWSGI >= 2.0.27 has threads although uwsgi.opt names none, so who asks uwsgi.opt warns for nothing.
set -euo pipefail

new=2.0.30.post1 old=2.0.26 sentry=2.75.0
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

cat <<TEXT
Versions: pyuwsgi $new and $old; sentry-sdk $sentry.
Expected: uwsgi.opt, which monitoring clients ask, tells whether a Python thread of the application runs.
Seen:     until 2.0.26 it does. Since 2.0.27 threads are on by default, and no option appears in uwsgi.opt: the clients
          go on saying "without thread support". uwsgi.has_threads is right in both.
Hint:     ask uwsgi.has_threads.

TEXT

cat > "$work/app.py" <<'PYTHON'
import os
import threading
import time
import warnings

import sentry_sdk
import uwsgi

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    # No event is ever sent; nothing listens there.
    sentry_sdk.init("http://key@127.0.0.1:9/1", default_integrations=False, release="1")
warned = any("without thread support" in str(warning.message) for warning in caught)

with open(os.environ["FACTS"], "w") as facts:
    print("  named in uwsgi.opt:", sorted({"enable-threads", "threads"} & set(uwsgi.opt)), file=facts)
    print("  uwsgi.has_threads:", uwsgi.has_threads, file=facts)
    print("  Sentry warns of uWSGI without thread support:", warned, file=facts)


def run():
    time.sleep(1)  # The application is loaded by then: from here on the worker only waits for requests.
    open(os.environ["FACTS"] + ".thread", "w").close()


threading.Thread(target=run, daemon=True).start()


def application(environ, start_response):
    start_response("204 No Content", [])
    return []
PYTHON

for version in "$new" "$old"; do
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" install --quiet --disable-pip-version-check \
    "pyuwsgi==$version" "sentry-sdk==$sentry" urllib3==2.8.0 certifi==2026.10.19.post1
  export FACTS="$work/$version/facts"
  "$work/$version/bin/uwsgi" --http-socket "$work/socket" --lazy-apps --wsgi-file "$work/app.py" \
    > "$work/$version/log" 2>&1 &
  server=$!
  for _ in $(seq 300); do [ -s "$FACTS" ] && break; sleep 0.1; done
  for _ in $(seq 50); do [ -e "$FACTS.thread" ] && break; sleep 0.1; done
  kill -KILL "$server"
  wait "$server" 2>/dev/null || true
  server=
  echo "pyuwsgi $version"
  cat "$FACTS" || { tail -20 "$work/$version/log"; exit 1; }
  [ -e "$FACTS.thread" ] && echo "  a thread ran while the worker waited: True" \
    || echo "  a thread ran while the worker waited: False"
done > "$work/seen"

cat "$work/seen"
diff -u - "$work/seen" <<TEXT || { echo "This has changed."; exit 1; }
pyuwsgi $new
  named in uwsgi.opt: []
  uwsgi.has_threads: 1
  Sentry warns of uWSGI without thread support: True
  a thread ran while the worker waited: True
pyuwsgi $old
  named in uwsgi.opt: []
  uwsgi.has_threads: 0
  Sentry warns of uWSGI without thread support: True
  a thread ran while the worker waited: False
TEXT
