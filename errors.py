"""The tree of errors a caller can cause, each with the code clients act on and a sentence saying what to do."""


class CallerError(Exception):
    """Something the caller did, asked for, or ran into; never a defect of ours.

    `message` says what to do about it. `reason` is the exact rule where one code covers several.
    `path` names the input field, e.g. ("input", "deviceIds", "3"). Nothing secret goes into any of them.
    """

    code = "INVALID_INPUT"

    def __init__(self, message: str, *, reason: str | None = None, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.path = path


class RequestRefused(CallerError):
    """Stops the whole request: a top-level GraphQL error with `extensions.code`, in mutations too."""


class Unauthenticated(RequestRefused):
    code = "UNAUTHENTICATED"


class BadRequest(RequestRefused):
    code = "BAD_REQUEST"


class QueryTooComplex(RequestRefused):
    """`found` is what the document asks for, `limit` what one document may ask for; both count the thing the message names."""

    code = "QUERY_TOO_COMPLEX"

    def __init__(self, message: str, *, found: int, limit: int) -> None:
        super().__init__(message)
        self.found = found
        self.limit = limit


class DeadlinePassed(RequestRefused):
    """The operation took longer than it may and was stopped; what it had not committed did not happen."""

    code = "TIMEOUT"


class NotFound(CallerError):
    """Does not exist, or may not be seen: the two are told apart to nobody."""

    code = "NOT_FOUND"


class Forbidden(CallerError):
    code = "FORBIDDEN"


class OrganizationInactive(CallerError):
    code = "ORGANIZATION_INACTIVE"


class RateLimited(CallerError):
    """`retry_after` is in seconds."""

    code = "RATE_LIMITED"

    def __init__(self, message: str, *, retry_after: float, path: tuple[str, ...] = ()) -> None:
        super().__init__(message, path=path)
        self.retry_after = retry_after


class InvalidInput(CallerError):
    code = "INVALID_INPUT"


class AlreadyExists(CallerError):
    code = "ALREADY_EXISTS"


# ── accounts and team ──
class NoSuchAccount(CallerError):
    code = "NO_SUCH_ACCOUNT"


class AlreadyInOrganization(CallerError):
    code = "ALREADY_IN_ORGANIZATION"


class AlreadyInvited(CallerError):
    code = "ALREADY_INVITED"


class LastOwner(CallerError):
    code = "LAST_OWNER"


class WrongCredentials(CallerError):
    code = "WRONG_CREDENTIALS"


class PasswordTooWeak(CallerError):
    code = "PASSWORD_TOO_WEAK"


# ── products ──
class UnansweredQuestions(CallerError):
    code = "UNANSWERED_QUESTIONS"


class WrongAuthMethod(CallerError):
    code = "WRONG_AUTH_METHOD"


# ── devices ──
class DeviceOffline(CallerError):
    code = "DEVICE_OFFLINE"


class DeviceAlreadyClaimed(CallerError):
    code = "DEVICE_ALREADY_CLAIMED"


class DeviceNotClaimable(CallerError):
    code = "DEVICE_NOT_CLAIMABLE"


class ActivationCodeRequired(CallerError):
    code = "ACTIVATION_CODE_REQUIRED"


class ActivationCodeWrong(CallerError):
    code = "ACTIVATION_CODE_WRONG"


class ActivationCodeUsed(CallerError):
    code = "ACTIVATION_CODE_USED"


class FunctionUnknown(CallerError):
    code = "FUNCTION_UNKNOWN"


class VariableUnknown(CallerError):
    code = "VARIABLE_UNKNOWN"


class DeviceTimeout(CallerError):
    code = "DEVICE_TIMEOUT"


# ── firmware ──
class VersionNotIncreasing(CallerError):
    code = "VERSION_NOT_INCREASING"


class TitleTaken(CallerError):
    code = "TITLE_TAKEN"


class BinaryMismatch(CallerError):
    """The file is sound but is not what the form says; `reason` is the gate's rule."""

    code = "BINARY_MISMATCH"


class BinaryInvalid(CallerError):
    """The file is not a binary this product can run; `reason` is the gate's rule."""

    code = "BINARY_INVALID"


class FirmwareNotProven(CallerError):
    code = "FIRMWARE_NOT_PROVEN"


class FirmwareInUse(CallerError):
    code = "FIRMWARE_IN_USE"


class PlanStale(CallerError):
    code = "PLAN_STALE"
