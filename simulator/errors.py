"""PagerDuty's error answers, as data."""

import json
from typing import Any

CAP_WORDS = (
    "Offset+limit exceeds maximum allowed value of 10000. Please try to refine your search to "
    "reduce the returned set of records below this number, like adding a date range."
)
ACCOUNT_KEY_WORDS = (
    "Because this request was made using an account-level access token, we were unable to determine "
    "the user's identity. Please use a user-level token."
)
HTML = (
    "<html>\r\n<head><title>{0} {1}</title></head>\r\n<body><h1>{0} {1}</h1></body>\r\n</html>\r\n"
)
REASONS = {
    401: "Unauthorized", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Time-out",
}  # fmt: skip


class Refusal(Exception):
    """An error answer, raised by the code that decides on it."""

    def __init__(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.content_type = content_type


def refusal(status: int, message: str, code: int | None = None, **more: Any) -> Refusal:
    """Return the usual shape: a message, its code, and other members."""
    error: dict[str, Any] = {"message": message}
    if code is not None:
        error["code"] = code
    return Refusal(status, json.dumps({"error": error | more}, ensure_ascii=False).encode())


def html(status: int) -> Refusal:
    """Return an answer in HTML. Gateways send these, and PagerDuty does for a refused key."""
    return Refusal(
        status, HTML.format(status, REASONS[status]).encode(), "text/html; charset=utf-8"
    )


def invalid(words: Any = " is invalid.") -> Refusal:
    """Return the 400 for an invalid argument. *words* become `errors`."""
    listed = words if isinstance(words, dict) else [words]
    return refusal(400, "Invalid Input Provided", 2001, errors=listed)


def over_cap(code: str) -> Refusal:
    """Return one of the two known bodies for offset + limit above 10 000."""
    if code == "2001":
        return invalid("Offset must be less than 10001.")
    return refusal(400, "Arguments Caused Error", 2002, errors=[CAP_WORDS])


def not_found(code: int | None = 2100) -> Refusal:
    """Return the 404. Some endpoints leave out the code."""
    return refusal(404, "Not Found", code)


def lacks_ability(ability: str) -> Refusal:
    """Return the 402 that names the ability the plan lacks."""
    words = f"The {ability} account ability is required to access this resource."
    return refusal(402, "Required abilities are unavailable", 2014, errors=[words],
                   missing_abilities=ability)  # fmt: skip


def denied() -> Refusal:
    """Return the 403 of a key that may only read."""
    return refusal(403, "Access Denied", 2010)


def forbidden() -> Refusal:
    """Return the 403 of a role, scope or entitlement that is missing."""
    return refusal(403, "Insufficient permissions", 403, errors=[])


def rate_limited() -> Refusal:
    """Return the 429 with its body."""
    return refusal(429, "Rate Limit Exceeded", 2020)


def too_slow() -> Refusal:
    """Return the 408."""
    return refusal(408, "The request took too long to process", 2016)


def account_key_has_no_user() -> Refusal:
    """Return the 400 of /users/me for an account key, where `error` is a plain string."""
    return Refusal(400, json.dumps({"error": ACCOUNT_KEY_WORDS}).encode())
