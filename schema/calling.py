"""Functions, variables and pings of connected devices."""

import strawberry
from strawberry.scalars import JSON

import resolvers.live as doors
from schema.fields import DeviceID, Input, Payload, described, mutation, optional, outcome


@strawberry.input(description="A function of a device, and what to give it.")
class CallFunctionInput(Input):
    device_id: DeviceID = described("Which device.")
    name: str = described("One of its `functions`.")
    argument: str | None = optional("At most 1024 bytes; absent: empty.")
    timeout_seconds: int | None = optional("How long to wait for the answer, 1 to 60; absent: `server { limits }` callSeconds.")


@strawberry.type(description="What the function returned.")
class CallFunctionPayload(Payload):
    return_value: int | None = outcome("Its 32-bit integer.")


@strawberry.input(description="A variable of a device.")
class ReadVariableInput(Input):
    device_id: DeviceID = described("Which device.")
    name: str = described("One of its `variables`.")


@strawberry.type(description="What the variable holds now.")
class ReadVariablePayload(Payload):
    value: JSON | None = outcome("A number, text or true or false, by the variable's type.")


@strawberry.input(description="A device.")
class PingDeviceInput(Input):
    device_id: DeviceID = described("Which device.")


@strawberry.type(description="Whether the device is there.")
class PingDevicePayload(Payload):
    online: bool | None = outcome(
        "Whether the device itself answered; false when it is offline. One that is connected and does not answer in time: DEVICE_TIMEOUT."
    )


@strawberry.type
class CallingMutations:
    call_function: CallFunctionPayload = mutation(
        doors.call_function,
        CallFunctionInput,
        CallFunctionPayload,
        "Call a function of a connected device, at most once; after DEVICE_TIMEOUT it is not known whether it acted. Needs SUPPORT.",
    )
    read_variable: ReadVariablePayload = mutation(
        doors.read_variable, ReadVariableInput, ReadVariablePayload, "Read a variable of a connected device. Needs SUPPORT."
    )
    ping_device: PingDevicePayload = mutation(
        doors.ping_device, PingDeviceInput, PingDevicePayload, "Find out whether a device is connected right now. Needs SUPPORT."
    )
