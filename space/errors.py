"""Every error tightfit raises on purpose; a message says what is wrong, where, and what to do next.

TightfitError
├── UsageError (ValueError)        exit 2   the request cannot be understood or allowed
│   ├── BudgetError                         a budget that is not one
│   ├── SpecError                           an option, level, pin or menu that makes no sense
│   ├── ModelError                          a model folder that is missing, unsafe or broken
│   ├── CalibrationError                    text that is missing or too short
│   ├── OutputError                         a place that cannot be written
│   ├── TooLargeError                       a request to the service that is larger than it takes
│   └── AccessError                         who asks the service is not known
│       ├── ForbiddenError                  who asks is known, and may not do this
│       └── QuotaError                      who asks has as much already as may be had
├── NotFoundError (KeyError)       exit 2   no such job, trial or point
├── InfeasibleBudgetError          exit 3   no plan of the menu has the asked size
├── JobFailedError                 exit 4   a job ended without a front
├── TrialError                              one trial failed; the job goes on
│   └── LevelDamagedError                   a stored level is not what was written; it can be built again
├── StateError                              a move that the table of legal moves forbids
│   ├── JobTakenError                       a job is not QUEUED (any more): others run it, or it rests
│   └── LeaseLostError                      a job went to another controller, or ended; this one must stop
├── StoreError                     exit 4   the database cannot be used
│   └── OutageError                         it cannot be reached now, and may be in a while
└── VerificationError              exit 4   an export does not hold what was promised
"""

_LONGEST_REASON = 300  # characters


class TightfitError(Exception):
    """Base of all errors that tightfit raises on purpose."""

    exit_code = 4


class UsageError(TightfitError, ValueError):
    """The request cannot be understood or is not allowed."""

    exit_code = 2


class BudgetError(UsageError):
    """A budget that cannot be read, such as `four` or `-1GiB`."""


class SpecError(UsageError):
    """An option, level, pin or menu that makes no sense."""


class ModelError(UsageError):
    """A model folder that is missing, unsafe or broken."""


class CalibrationError(UsageError):
    """Text for calibration or measuring that is missing, unreadable or too short."""


class OutputError(UsageError):
    """A place that cannot be written, such as a non-empty export folder."""


class TooLargeError(UsageError):
    """A request to the service that is larger than it takes."""


class AccessError(UsageError):
    """Who asks the service is not known: without a token, or with one that is not valid."""


class ForbiddenError(AccessError):
    """Who asks is known, and may not do this; or a request comes from a page of another site."""


class QuotaError(AccessError):
    """Who asks has as much already as may be had at a time."""


class NotFoundError(TightfitError, KeyError):
    """No such job, trial or point."""

    exit_code = 2

    def __str__(self) -> str:
        """Return the message itself: KeyError would quote it."""
        return str(self.args[0])


class InfeasibleBudgetError(TightfitError):
    """No plan of the menu is as small as asked, or the dense model fits already; the message names both sizes."""

    exit_code = 3


class JobFailedError(TightfitError):
    """A job ended without a front; the message names the cause."""


class TrialError(TightfitError):
    """One trial failed; the job goes on. The message carries the evidence."""


class LevelDamagedError(TrialError):
    """A stored level has gone or is not what was written; its module can be built again.

    Attributes:
        module_name: whose level.

    """

    def __init__(self, message: str, module_name: str) -> None:
        """Keep both, so that it comes whole out of another process."""
        super().__init__(message, module_name)
        self.module_name = module_name

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[0])


class StateError(TightfitError):
    """A move that the table of legal moves forbids."""


class JobTakenError(StateError):
    """A job cannot be claimed: it is not QUEUED, or not any more."""


class LeaseLostError(StateError):
    """A controller no longer holds its job; whatever it would write is refused."""


class StoreError(TightfitError):
    """The database cannot be opened, read or written."""


class OutageError(StoreError):
    """The database cannot be reached now; the same verb may succeed later."""


class VerificationError(TightfitError):
    """An export does not hold what was promised; the message names each difference."""


def in_one_line(error: BaseException) -> str:
    """Return what a library says of an error, in one line of a sensible length and without its last full stop."""
    words = " ".join((str(error) or repr(error)).split())
    return (words if len(words) <= _LONGEST_REASON else f"{words[:_LONGEST_REASON]}...").removesuffix(".")
