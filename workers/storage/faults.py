"""The sentence for each failure of a store or a file system: no other module reads their errors."""

import errno
import os
import re
from collections.abc import Iterator

from workers.errors import StorageUnreachable

_BUCKET = "the bucket does not exist: create it, or correct PAGETRAIL_STORAGE_URL"
_REGION = "the bucket lies in another region: correct AWS_REGION and AWS_ENDPOINT_URL"
_REFUSED = "the credentials are refused: correct them or their rights"
_CLOCK = "this machine's clock is wrong: set it right"
_LOCKED = "the object is locked: delete it when its retention has ended"
_CONDITIONS = (
    "it doesn't know the conditions If-None-Match and If-Match: use a store with conditional writes"
)
_CHECKSUM = "it got other bytes than were sent: look at the network, then try again"
_SLOWER = "it asks for fewer requests: try again later, or raise its limits"
_CONFLICT = "another process changes the same object at this moment: try again"
_ACCOUNT = "its quota is used up or its account is suspended: look at the account"
_NO_CREDENTIALS = "no credentials were found: set the cloud's standard variables"
_NO_PROFILE = (
    "AWS_PROFILE is not read and no other credentials were found: set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY"
)
_MALFORMED = (
    "one of the cloud's variables is malformed: look for spaces, line breaks and a wrong port in its "
    "address, region and keys"
)
_OTHER = "it fails: look at its health and the environment that configures it"

# Codes of S3 and compatible stores, of Google's XML interface and of Azure's blobs.
_CODES = {
    code: reason
    for reason, codes in {
        _BUCKET: "NoSuchBucket ContainerNotFound InvalidBucketName",
        _REGION: "PermanentRedirect TemporaryRedirect AuthorizationHeaderMalformed "
        "IllegalLocationConstraintException",
        _REFUSED: "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken AuthenticationFailed",
        "the credentials have expired: renew them": "ExpiredToken TokenRefreshRequired",
        _CLOCK: "RequestTimeTooSkewed",
        _LOCKED: "ObjectLockedByBucketPolicy BlobImmutableDueToPolicy RetentionPolicyNotMet "
        "ObjectUnderActiveHold",
        _CONDITIONS: "NotImplemented",
        _CHECKSUM: "BadDigest InvalidDigest XAmzContentSHA256Mismatch",
        _SLOWER: "SlowDown ServerBusy TooManyRequests",
        _CONFLICT: "ConditionalRequestConflict OperationAborted",
        _ACCOUNT: "QuotaExceeded InsufficientStorage AllAccessDisabled AccountProblem "
        "AccountIsDisabled UserSuspended",
    }.items()
    for code in codes.split()
}
_FORBIDDEN = {"AccessDenied", "AuthorizationFailure", "AuthorizationPermissionMismatch"}
_DELETING = "the credentials may not delete objects: give them that right"
_RIGHTS = {
    "list request": "the credentials may not list objects: give them that right",
    "GET": "the credentials may not read objects, or not list them, without which S3 calls a missing "
    "object forbidden: give them both rights",
    "PUT": "the credentials may not write objects: give them that right",
    "POST": _DELETING,  # S3 deletes several objects with it
    "DELETE": _DELETING,
    "DeleteObjects": _DELETING,
}
_STATUSES = {
    "401": _REFUSED,
    "402": _ACCOUNT,
    "403": _REFUSED,
    "404": _BUCKET,
    "409": _CONFLICT,
    "429": _SLOWER,
    "501": _CONDITIONS,
    "503": _SLOWER,
    "507": _ACCOUNT,
}
# Words of obstore, and of servers whose words say more than their codes.
_WORDS = {
    "bucket does not exist": _BUCKET,
    "object lock|retention policy": _LOCKED,
    "redirect without LOCATION": _REGION,
    "BadScheme": "plain http is for loopback: use https, or set AWS_ALLOW_HTTP=true",
    "empty path segment": "its prefix has an empty part: correct PAGETRAIL_STORAGE_URL",
    "/latest/api/token|token request|MissingAccount|AWS_CONTAINER": _NO_CREDENTIALS,
    "dns error": "its host can't be found: correct its address, or look at the network",
    "InvalidCertificate": "its certificate is not known or names another host: set SSL_CERT_FILE to "
    "the authority's certificate, or correct the address",
    "InvalidContentType": "it doesn't speak TLS at this address: correct the address",
    "kind: Timeout": "it does not answer in time: look at its health and the network",
    "kind: Connect|sending request": "it does not answer: correct its address, or start it",
}
_SYSTEM = {
    errno.EACCES: "permission is denied: correct its owner or mode",
    errno.EPERM: "permission is denied, or there are no hard links: use another directory",
    errno.EROFS: "the file system is read-only: mount it writable",
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the disk quota is used up: make room",
    errno.ENAMETOOLONG: "the path is too long: use a shorter directory",
    errno.EMFILE: "this process has too many files open: raise its limit",
    errno.EOPNOTSUPP: "the file system has no hard links: use another directory",
    errno.ENOLCK: "the file system has no locks: use another directory",
    errno.ESTALE: "the network file system lost the file: mount it again",
}
_NO_DIRECTORY = "it is not a directory: use another one"
_SYSTEM_OTHER = "{what}: correct it or use another directory"

_CODE = re.compile(r"<Code>([\w.]{1,60})</Code>|\(code: (\w{1,60})\)")
_STATUS = re.compile(r"status code: (\d{3})")
_DOING = re.compile(r"(list request|DeleteObjects)|performing ([A-Z]+) ")


def store_fault(where: str, error: Exception) -> StorageUnreachable:
    """Return the sentence for an error of obstore.

    It repeats the server's code, but no other words of obstore, because they can hold a signed request.
    """
    code = _code(str(error))
    told = f" ({code})" if code else ""
    return _fault(where, _reason(str(error), code), told)


def malformed_fault(where: str) -> StorageUnreachable:
    """Return the sentence for a malformed address, region or key."""
    return _fault(where, _MALFORMED)


def system_fault(where: object, error: OSError) -> StorageUnreachable:
    """Return the sentence for an error of a file system."""
    known = _SYSTEM.get(error.errno or 0)
    return _fault(where, known or _SYSTEM_OTHER.format(what=error.strerror))


def directory_fault(where: object) -> StorageUnreachable:
    """Return the sentence for a storage whose directory is a file."""
    return _fault(where, _NO_DIRECTORY)


def is_missing_bucket(error: Exception) -> bool:
    """Say whether *error* means that the bucket is missing, and not only an object in it."""
    words = str(error)
    return "bucket does not exist" in words or _CODES.get(_code(words)) == _BUCKET


def is_conflict(error: Exception) -> bool:
    """Say whether *error* means that another request for the same object is still under way."""
    return "status code: 409" in str(error)


def reasons() -> Iterator[str]:
    """Yield every reason, with {what} for the variable part."""
    for table in (_CODES, _RIGHTS, _STATUSES, _WORDS, _SYSTEM):
        yield from table.values()
    yield from (_NO_PROFILE, _MALFORMED, _OTHER, _NO_DIRECTORY, _SYSTEM_OTHER)


def _fault(where: object, reason: str, told: str = "") -> StorageUnreachable:
    return StorageUnreachable(f"Storage at {where} can't be used{told}: {reason}.")


def _code(words: str) -> str:
    """Return the server's own code, or else the status of its answer; "" without an answer."""
    if found := _CODE.search(words):
        return found[1] or found[2]
    status = _STATUS.search(words)
    return status[1] if status else ""


def _reason(words: str, code: str) -> str:
    if known := _CODES.get(code):
        return known
    for pattern, reason in _WORDS.items():
        if re.search(pattern, words, re.IGNORECASE):
            profile = reason is _NO_CREDENTIALS and os.environ.get("AWS_PROFILE")
            return _NO_PROFILE if profile else reason
    doing = _DOING.search(words)
    if doing and code in _FORBIDDEN:
        return _RIGHTS.get(doing[1] or doing[2], _REFUSED)
    status = _STATUS.search(words)
    return _STATUSES.get(status[1] if status else "", _OTHER)
