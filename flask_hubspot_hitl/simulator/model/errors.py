"""The answers that say no, as HubSpot writes them: its error body and categories (OpenAPI, ``Error``)."""

from __future__ import annotations

import uuid
from typing import Any

from .world import JSON


class ApiError(Exception):
    """An answer that says no, with HubSpot's error body."""

    def __init__(self, status: int, category: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body: JSON = {
            "status": "error",
            "message": message,
            "correlationId": str(uuid.uuid4()),
            "category": category,
            **more,
        }

    @classmethod
    def invalid(cls, where: str, why: str) -> ApiError:
        """400: something in the request is wrong."""
        detail = {"message": why, "in": where, "code": "INVALID"}
        return cls(400, "VALIDATION_ERROR", f"Invalid input at {where}: {why}", errors=[detail])

    @classmethod
    def missing(cls, what: str) -> ApiError:
        """404: there is no such thing."""
        return cls(404, "OBJECT_NOT_FOUND", f"{what} does not exist")

    @classmethod
    def scopes(cls, *needed: str) -> ApiError:
        """403: the token has none of these scopes (docs/hubspot.rst: Token errors)."""
        page = "https://developers.hubspot.com/scopes"
        detail = {
            "message": "One or more of the following scopes are required.",
            "context": {"requiredGranularScopes": list(needed)},
        }
        why = "This app hasn't been granted all required scopes to make this call. "
        why += f"Read more about required scopes here: {page}."
        return cls(403, "MISSING_SCOPES", why, errors=[detail], links={"scopes": page})


def error_body(status: int, message: str) -> JSON:
    """An error body for an answer that comes from the edge and not from a family."""
    categories = {401: "EXPIRED_AUTHENTICATION", 403: "FORBIDDEN", 404: "OBJECT_NOT_FOUND", 409: "CONFLICT"}
    category = categories.get(status, "RATE_LIMITS" if status == 429 else "VALIDATION_ERROR")
    return ApiError(status, category if status < 500 else "INTERNAL_ERROR", message).body
