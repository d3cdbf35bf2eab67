"""A Django site with the HubSpot login of social-auth-core. Serves on ``localhost`` until it is ended."""

from __future__ import annotations

import json
import sys
from wsgiref.simple_server import make_server

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.middleware.csrf import get_token
from django.urls import include, path

given = json.loads(sys.stdin.readline())
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
        "social_django",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "social_django.middleware.SocialAuthExceptionMiddleware",
    ],
    SOCIAL_AUTH_LOGIN_ERROR_URL="/csrf",
    AUTHENTICATION_BACKENDS=["social_core.backends.hubspot.HubSpotOAuth2"],
    LOGIN_REDIRECT_URL="/me",
    SOCIAL_AUTH_HUBSPOT_KEY=given["app"]["client_id"],
    SOCIAL_AUTH_HUBSPOT_SECRET=given["app"]["client_secret"],
)
django.setup()


def csrf(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"csrfToken": get_token(request)})


def me(request: HttpRequest) -> JsonResponse:
    account = request.user.social_auth.get()
    known = account.extra_data
    found = {"email": request.user.email, "id": account.uid}
    return JsonResponse({**found, "access": known["access_token"], "refresh": known["refresh_token"]})


urlpatterns = [path("csrf", csrf), path("me", me), path("", include("social_django.urls", namespace="social"))]

call_command("migrate", verbosity=0)
with make_server("localhost", 0, get_wsgi_application()) as server:
    paths = {"login": "/login/hubspot/", "me": "/me", "csrf": "/csrf", "field": "csrfmiddlewaretoken"}
    print(json.dumps({"url": f"http://localhost:{server.server_port}", **paths}), flush=True)
    server.serve_forever()
