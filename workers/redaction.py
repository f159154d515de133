"""Removes everything that looks like a secret from text, before the text leaves a process."""

import re
from typing import Any

_SECRETS = re.compile(
    r"""(?ix)
    (?P<before>
        \b token [= :]+ (?: token [= :]+ )?     # Authorization: Token token=KEY
      | \b (?: bearer | basic ) \s+
      | [?&] [\w-]* (?: key | token | secret | signature | password ) [\w-]* =
      | \b [\w-]* (?: api_?key | routing_key | integration_key | password | secret )
        ["']? \s* [=:] \s* ["']?
    )
    (?! (?: token [= :]+ )? \[redacted\] )
    [^\s"'&,;@<>)\]}]+
    """
)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")
_KEY_SHAPE = re.compile(
    r"(?<![\w+-])(?=[\w+-]*\d)(?=[\w+-]*[a-z])(?=[\w+-]*[A-Z])[\w+-]{20}(?![\w+-])"
)
"""A PagerDuty API key: 20 characters, with digits and letters of both cases. Names in our code don't match that."""
_REDACTED = "[redacted]"


def redact(text: str) -> str:
    """Return *text* without anything that looks like a secret."""
    text = _URL_PASSWORD.sub(rf"\1{_REDACTED}", text)
    return _KEY_SHAPE.sub(_REDACTED, _SECRETS.sub(rf"\g<before>{_REDACTED}", text))


def redacted(value: Any) -> Any:
    """Return *value* (of JSON's types) with every string in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redacted(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    return value
