"""What a bulk mutation refused."""

import strawberry

from errors import ErrorCode
from schema.fields import DeviceID, described


@strawberry.type(description="A device of a bulk call that was left as it was; the others are done.")
class RejectedDevice:
    device_id: DeviceID = described("Which one, as it was given.")
    code: ErrorCode = described("Why, for programs.")
    message: str = described("Why, for people.")
