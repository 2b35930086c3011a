"""What can go wrong, as one tree.

    LedgateError
    ├── InputError           images, labels or numbers that do not fit (also a ValueError)
    │   └── SettingError     a setting that is wrong whatever the images and files hold
    ├── BundleError          a bundle that is damaged, foreign, or refused
    │   └── MemberError      one member of it; names the member and the reason
    ├── CalibrationError     a target out of reach, or a calibration that does not belong here
    ├── RunError             a training run that cannot start, go on, or be read
    ├── DeviceError          a device that was asked for and is not there
    └── ServiceError         what a call to a server can meet beside bad input
        ├── NotFound         no model of that name
        ├── Unauthenticated  no token, or an unknown one
        ├── PermissionDenied something the server was started without
        ├── ResourceExhausted the message over the size limit, or the queue full
        │   └── QueueFull    the latter: the same call may succeed later
        ├── DeadlineExceeded the caller's time is up; the work is not done
        ├── Cancelled        the caller is gone
        ├── Unavailable      starting, draining, or not reachable
        └── Internal         a member answered with NaN, or a bug of ours

Every message names the thing, what was expected and what was found, on one line. Each class has
exactly one gRPC status; the table is `serving.status`. The command prints the message and exits
with 1, and with 2 where a setting is wrong: then the call was, and trying again is in vain.
"""


class LedgateError(Exception):
    """Anything ledgate refuses or fails at on purpose."""


class InputError(LedgateError, ValueError):
    """Images, labels or numbers that do not fit."""


class SettingError(InputError):
    """A setting out of its range, or that does not go with another: wrong whatever the images and files hold."""


class BundleError(LedgateError):
    """A bundle that is damaged, foreign, or refused."""


class MemberError(BundleError):
    """One member of an ensemble is refused; the message names it and the reason."""

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(f"member {member}: {reason}")
        self.member = member
        self.reason = reason


class CalibrationError(LedgateError):
    """A target out of reach, or a calibration that does not belong here."""


class RunError(LedgateError):
    """A training run that cannot start, go on, or be read."""


class DeviceError(LedgateError):
    """A device that was asked for and is not there."""


class ServiceError(LedgateError):
    """What a call to a server can meet beside bad input."""


class NotFound(ServiceError):
    """No model of that name."""


class Unauthenticated(ServiceError):
    """The caller has sent no token, or one that the server does not know."""


class PermissionDenied(ServiceError):
    """Something the server was started without."""


class ResourceExhausted(ServiceError):
    """The message is over the size limit, or the queue is full."""


class QueueFull(ResourceExhausted):
    """There is no room now. Unlike a message over the size limit, the same call may succeed later."""


class DeadlineExceeded(ServiceError):
    """The caller's time is up; the work is not done."""


class Cancelled(ServiceError):
    """The caller is gone."""


class Unavailable(ServiceError):
    """The server is starting, draining, or not reachable."""


class Internal(ServiceError):
    """A member answered with NaN, or a bug of ours; the details are in the server's log."""


def one_line(error: Exception) -> str:
    """What an error of others says, however many lines it takes for it."""
    return " ".join(str(error).split())
