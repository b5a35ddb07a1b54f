"""The one refusal of every reader of this room."""


class Unreadable(Exception):
    """The content is not a sound file of its format.

    `reason` is the gate's: TOO_LARGE, NOT_A_MODULE, UNSUPPORTED, BAD_LENGTH, BAD_CRC or BAD_DIGEST.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
