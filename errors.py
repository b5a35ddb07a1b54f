"""The tree of errors a caller can cause, each with the code clients act on and a sentence saying what to do."""

from enum import StrEnum


class CallerError(Exception):
    """Something the caller did, asked for, or ran into; never a defect of ours.

    `message` says what to do about it. `reason` is the exact rule where one code covers several.
    `path` names the input field, e.g. ("deviceIds", "3"). Nothing secret goes into any of them.
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


class DeviceFailed(CallerError):
    """The device did answer, with an error or with something that is no answer; `reason` tells which."""

    code = "DEVICE_ERROR"


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


# ── billing ──
class CardRequired(CallerError):
    code = "CARD_REQUIRED"


class CardDeclined(CallerError):
    """`reason` is the bank's decline code, e.g. "insufficient_funds"."""

    code = "CARD_DECLINED"


class CardNumberRefused(CallerError):
    """Somebody sent what looks like a card number; neither message nor log may repeat it."""

    code = "CARD_NUMBER_REFUSED"


class ActionRequired(CallerError):
    """The bank wants the card's owner to confirm; `client_secret` and `hosted_url` say where, and are never logged."""

    code = "ACTION_REQUIRED"

    def __init__(self, message: str, *, client_secret: str | None = None, hosted_url: str | None = None) -> None:
        super().__init__(message)
        self.client_secret = client_secret
        self.hosted_url = hosted_url


class AlreadyActive(CallerError):
    code = "ALREADY_ACTIVE"


class NotCancelable(CallerError):
    code = "NOT_CANCELABLE"


class ProviderUnreachable(RequestRefused):
    """The payment provider did not answer as it should; nothing was changed. `retry_after` is in seconds."""

    code = "INTERNAL"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ErrorCode(StrEnum):
    """Every code that `errors` of a payload can carry."""

    INVALID_INPUT = "INVALID_INPUT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FORBIDDEN = "FORBIDDEN"
    ORGANIZATION_INACTIVE = "ORGANIZATION_INACTIVE"
    RATE_LIMITED = "RATE_LIMITED"
    NO_SUCH_ACCOUNT = "NO_SUCH_ACCOUNT"
    ALREADY_IN_ORGANIZATION = "ALREADY_IN_ORGANIZATION"
    ALREADY_INVITED = "ALREADY_INVITED"
    LAST_OWNER = "LAST_OWNER"
    WRONG_CREDENTIALS = "WRONG_CREDENTIALS"
    PASSWORD_TOO_WEAK = "PASSWORD_TOO_WEAK"
    UNANSWERED_QUESTIONS = "UNANSWERED_QUESTIONS"
    WRONG_AUTH_METHOD = "WRONG_AUTH_METHOD"
    DEVICE_OFFLINE = "DEVICE_OFFLINE"
    DEVICE_ALREADY_CLAIMED = "DEVICE_ALREADY_CLAIMED"
    DEVICE_NOT_CLAIMABLE = "DEVICE_NOT_CLAIMABLE"
    ACTIVATION_CODE_REQUIRED = "ACTIVATION_CODE_REQUIRED"
    ACTIVATION_CODE_WRONG = "ACTIVATION_CODE_WRONG"
    ACTIVATION_CODE_USED = "ACTIVATION_CODE_USED"
    VERSION_NOT_INCREASING = "VERSION_NOT_INCREASING"
    TITLE_TAKEN = "TITLE_TAKEN"
    BINARY_MISMATCH = "BINARY_MISMATCH"
    BINARY_INVALID = "BINARY_INVALID"
    FIRMWARE_NOT_PROVEN = "FIRMWARE_NOT_PROVEN"
    FIRMWARE_IN_USE = "FIRMWARE_IN_USE"
    PLAN_STALE = "PLAN_STALE"
    FUNCTION_UNKNOWN = "FUNCTION_UNKNOWN"
    VARIABLE_UNKNOWN = "VARIABLE_UNKNOWN"
    DEVICE_TIMEOUT = "DEVICE_TIMEOUT"
    DEVICE_ERROR = "DEVICE_ERROR"
    CARD_REQUIRED = "CARD_REQUIRED"
    CARD_DECLINED = "CARD_DECLINED"
    CARD_NUMBER_REFUSED = "CARD_NUMBER_REFUSED"
    ACTION_REQUIRED = "ACTION_REQUIRED"
    ALREADY_ACTIVE = "ALREADY_ACTIVE"
    NOT_CANCELABLE = "NOT_CANCELABLE"


# The sentence of each in the schema.
ERROR_CODES = {
    "INVALID_INPUT": "A value is not of the form its description asks for; `path` names it.",
    "NOT_FOUND": "There is no such thing, or you may not see it.",
    "ALREADY_EXISTS": "Something with this name exists already.",
    "FORBIDDEN": "You may see it but not do this; `reason` names the role or scope that is missing.",
    "ORGANIZATION_INACTIVE": "The organization's subscription is inactive; re-activate it under billing.",
    "RATE_LIMITED": "Too many tries; wait and try again.",
    "NO_SUCH_ACCOUNT": "Nobody has an account with this address; they have to sign up first.",
    "ALREADY_IN_ORGANIZATION": "The person belongs to an organization already.",
    "ALREADY_INVITED": "An invitation to this address is open already.",
    "LAST_OWNER": "An organization keeps at least one owner.",
    "WRONG_CREDENTIALS": "Address or password is wrong, or the token is no longer good.",
    "PASSWORD_TOO_WEAK": "Choose a longer or less common password.",
    "UNANSWERED_QUESTIONS": "Answer the open questions of the configuration first; the message lists their keys.",
    "WRONG_AUTH_METHOD": "The product signs its customers in another way.",
    "DEVICE_OFFLINE": "The device is not connected.",
    "DEVICE_ALREADY_CLAIMED": "Somebody owns the device.",
    "DEVICE_NOT_CLAIMABLE": "The device cannot be claimed in its present state.",
    "ACTIVATION_CODE_REQUIRED": "The product is in private beta: give the activation code.",
    "ACTIVATION_CODE_WRONG": "This is not the customer's activation code.",
    "ACTIVATION_CODE_USED": "The activation code was spent on another device.",
    "VERSION_NOT_INCREASING": "A version is greater than every one uploaded before, deleted ones included.",
    "TITLE_TAKEN": "Another firmware of the product has this title.",
    "BINARY_MISMATCH": "The binary says something else than the form; `reason` names the rule.",
    "BINARY_INVALID": "The file is not a binary this product can run; `reason` names the rule.",
    "FIRMWARE_NOT_PROVEN": "No active device of the product runs this version yet: flash a test device first.",
    "FIRMWARE_IN_USE": "The firmware was released or is locked to a device.",
    "PLAN_STALE": "The set of devices changed since the plan was made; make a new plan.",
    "FUNCTION_UNKNOWN": "The device does not expose this function.",
    "VARIABLE_UNKNOWN": "The device does not expose this variable.",
    "DEVICE_TIMEOUT": "The device did not answer in time; nobody repeats the call for you.",
    "DEVICE_ERROR": "The device answered with an error of its own; the message is in its words.",
    "CARD_REQUIRED": "Give a card first.",
    "CARD_DECLINED": "The card was declined; `reason` holds the bank's code.",
    "CARD_NUMBER_REFUSED": "Never send a card number here; use createCardSetup.",
    "ACTION_REQUIRED": "The bank asks for a confirmation.",
    "ALREADY_ACTIVE": "There is nothing to re-activate.",
    "NOT_CANCELABLE": "There is no running subscription to cancel.",
}
