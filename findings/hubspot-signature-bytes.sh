#!/usr/bin/env bash
# HubSpot's Python client refuses a genuine request when it is given the body as bytes.
set -euo pipefail

version=12.0.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat <<TEXT
Version:  hubspot-api-client $version, hubspot.utils.signature.Signature.
Expected: the body as bytes, as Flask's request.get_data() gives it, is what was signed: it is accepted, or at least
          refused with a TypeError.
Seen:     the signature is computed over Python's notation of the bytes (b'...'): every genuine request is refused, as
          if the secret were wrong.
Hint:     give it request.get_data(as_text=True).

TEXT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "hubspot-api-client==$version" \
  certifi==2026.10.19.post1 python-dateutil==4.0.0 six==1.17.0 urllib3==2.8.0

cat > "$work/check.py" <<'PYTHON'
import base64
import hashlib
import hmac
import time

from hubspot.utils.signature import Signature

SECRET = "made-up-secret"
URL = "https://bot.example.com/webhooks"
BODY = '[{"subscriptionType": "conversation.newMessage", "objectId": 1}]'.encode()
NOW = str(int(time.time() * 1000))

# As HubSpot's documentation says of each version; the bytes that are signed are those that are sent.
genuine = {
    "v1": hashlib.sha256(SECRET.encode() + BODY).hexdigest(),
    "v2": hashlib.sha256(SECRET.encode() + b"POST" + URL.encode() + BODY).hexdigest(),
    "v3": base64.b64encode(
        hmac.digest(SECRET.encode(), b"POST" + URL.encode() + BODY + NOW.encode(), "sha256")
    ).decode(),
}
for version, signature in genuine.items():
    for body in (BODY.decode(), BODY):
        valid = Signature.is_valid(signature, SECRET, body, URL, "POST", version, NOW)
        print(version, f"{type(body).__name__:5}", "accepted" if valid else "refused")
print("over bytes it signs the text:", str(BODY)[:3])
same = Signature.get_signature(SECRET, BODY, "v1") == hashlib.sha256((SECRET + str(BODY)).encode()).hexdigest()
print("so it is:", same)
PYTHON
"$work/venv/bin/python" "$work/check.py" > "$work/seen"

cat "$work/seen"
diff -u - "$work/seen" <<'TEXT' || { echo "This has changed."; exit 1; }
v1 str   accepted
v1 bytes refused
v2 str   accepted
v2 bytes refused
v3 str   accepted
v3 bytes refused
over bytes it signs the text: b'[
so it is: True
TEXT
