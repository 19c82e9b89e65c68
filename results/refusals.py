"""Why an S3 server, or the way to it, refused a request, and what is to be done about it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from results.errors import StoreError, StoreUnavailable

PASSING_CODES = {
    "InternalError", "ServiceUnavailable", "SlowDown", "Busy", "RequestTimeout", "RequestTimeoutException",
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
    "RequestLimitExceeded", "TooManyRequests", "TooManyRequestsException", "BandwidthLimitExceeded",
    "ConditionalRequestConflict", "OperationAborted", "QuotaExceeded", "XMinioStorageFull", "BadDigest",
    "IncompleteBody",
}  # fmt: skip
PASSING_STATUS = {408, 429, 500, 502, 503, 504, 507, 509}
EXPIRED_CODES = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
# Also what a key that was replaced by another gives.
UNKNOWN_CODES = {"InvalidAccessKeyId", "InvalidToken", "InvalidClientTokenId", "SignatureDoesNotMatch"}
HELP = {
    "AccessDenied": "the credentials lack the right, or the bucket is read-only: grant it, or use another bucket",
    "NoSuchBucket": "there is no such bucket: create it, or correct the address",
    "RequestTimeTooSkewed": "the clock of this machine is wrong: set it",
}
HELP |= dict.fromkeys(("Forbidden", "403", "AllAccessDisabled", "MethodNotAllowed"), HELP["AccessDenied"])
HELP |= dict.fromkeys(EXPIRED_CODES, "the credentials have expired: renew them")
HELP |= dict.fromkeys(UNKNOWN_CODES, "the server does not know the credentials: check them")
SECRETS = re.compile(r"https?://\S+|\b(?:AKIA|ASIA)[A-Z0-9]{12,}")


@dataclass(frozen=True)
class Refusal:
    """A refused request.

    Attributes:
        reason: what was found, without anything of the credentials.
        help: what to do.
        absent: there is no such object.
        occupied: another object stands there than the one that was to be replaced.
        passes: the same request may succeed later.
        expired: it may succeed with credentials read anew.
        mendable: it may succeed without a change to the study, once somebody has renewed the credentials.

    """

    reason: str
    help: str = "check the address, the credentials, the region and AWS_ENDPOINT_URL"
    absent: bool = False
    occupied: bool = False
    passes: bool = False
    expired: bool = False
    mendable: bool = False

    def as_error(self, attempt: str, known: bool) -> StoreError:
        """What to raise for good.

        Args:
            attempt: what was tried, and where.
            known: whether the server has answered before, and so credentials that it does not know are old, not wrong.

        """
        kind = StoreUnavailable if self.passes or self.mendable or (self.expired and known) else StoreError
        return kind(f"Expected to {attempt}, found {self.reason}; {self.help}.")


def refusal_of(error: Exception) -> Refusal | None:
    """What an exception of the client means; None for one that is none of its own."""
    from botocore import exceptions as known
    from botocore.parsers import ResponseParserError

    if isinstance(error, known.ClientError):
        return _answered(error.response)
    if isinstance(error, (known.NoCredentialsError, known.PartialCredentialsError)):
        return Refusal(
            "no credentials", "set them in the environment, a profile or the role of the instance", expired=True
        )
    renewing = (known.CredentialRetrievalError, known.TokenRetrievalError, known.SSOError, known.MetadataRetrievalError)
    if isinstance(error, renewing) or (isinstance(error, RuntimeError) and "redentials" in str(error)):
        return Refusal("credentials that cannot be renewed", HELP["ExpiredToken"], expired=True, mendable=True)
    reaching = (
        known.ConnectionError,
        known.HTTPClientError,
        known.IncompleteReadError,
        known.FlexibleChecksumError,
        ResponseParserError,
    )
    if isinstance(error, reaching) and not isinstance(error, known.SSLError):
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
        return Refusal(
            f"no whole answer ({kind})", "check the network and AWS_ENDPOINT_URL, and try again", passes=True
        )
    if isinstance(error, known.BotoCoreError):
        return Refusal(_clean(str(error)))
    return None


def _answered(response: Mapping[str, Any]) -> Refusal:
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    reason = f"{code} ({_clean(response.get('Error', {}).get('Message') or 'no reason given')})"
    if code in ("NoSuchKey", "NoSuchUpload", "404", "NotFound"):
        return Refusal(reason, absent=True)
    if code in ("PreconditionFailed", "412") or status == 412:
        return Refusal(reason, occupied=True)
    passes = code in PASSING_CODES or (status in PASSING_STATUS and code not in HELP)
    default = "try again later" if passes else Refusal.help
    expired = code in EXPIRED_CODES | UNKNOWN_CODES
    return Refusal(reason, HELP.get(code, default), passes=passes, expired=expired, mendable=code in EXPIRED_CODES)


def _clean(text: str) -> str:
    return SECRETS.sub("...", " ".join(text.split())).rstrip(".")
