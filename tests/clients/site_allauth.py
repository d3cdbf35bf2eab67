"""A Django site with django-allauth's HubSpot login, with PKCE. Serves on ``localhost`` until it is ended."""

from __future__ import annotations

import json
import sys
from typing import Any
from wsgiref.simple_server import make_server

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.middleware.csrf import get_token
from django.urls import include, path

given = json.loads(sys.stdin.readline())
app = {"client_id": given["app"]["client_id"], "secret": given["app"]["client_secret"]}
settings.configure(
    ALLOWED_HOSTS=["localhost"],
    SECRET_KEY="a site of the tests",
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "allauth",
        "allauth.account",
        "allauth.socialaccount",
        "allauth.socialaccount.providers.hubspot",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "allauth.account.middleware.AccountMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
        }
    ],
    LOGIN_REDIRECT_URL="/me",
    SOCIALACCOUNT_STORE_TOKENS=True,
    SOCIALACCOUNT_PROVIDERS={"hubspot": {"OAUTH_PKCE_ENABLED": True, "APP": app}},
)
django.setup()

from allauth.socialaccount.models import SocialAccount, SocialToken  # noqa: E402


def csrf(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"csrfToken": get_token(request)})


def me(request: HttpRequest) -> JsonResponse:
    account = SocialAccount.objects.get(user=request.user)
    tokens = SocialToken.objects.get(account=account)
    found: dict[str, Any] = {"email": request.user.email, "id": account.uid}
    return JsonResponse({**found, "access": tokens.token, "refresh": tokens.token_secret})


urlpatterns = [path("csrf", csrf), path("me", me), path("accounts/", include("allauth.urls"))]

call_command("migrate", verbosity=0)
with make_server("localhost", 0, get_wsgi_application()) as server:
    paths = {"login": "/accounts/hubspot/login/", "me": "/me", "csrf": "/csrf", "field": "csrfmiddlewaretoken"}
    print(json.dumps({"url": f"http://localhost:{server.server_port}", **paths}), flush=True)
    server.serve_forever()
