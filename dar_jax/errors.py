"""What ends a run, and with which exit status.

    DarError                1   anything this package raises on purpose
    +-- SettingError        2   the user's setting, file or command: one line, no traceback, no run folder
    +-- JudgeStopped        3   the judge failed too often, or only tied: checkpointed, resumable
    +-- BudgetSpent         4   what the judge may cost is spent: checkpointed, resumable with more
    +-- Interrupted         5   a signal asked the run to leave: checkpointed, resumable
    +-- HostLost            6   another host of the run is gone, or never came: as last checkpointed, resumable
    +-- NotFinite           7   loss, gradient norm or parameters are not finite: as last checkpointed

Add one only when a caller must tell it apart; the message names the setting, what came, what was
expected and the way out.
"""


class DarError(Exception):
    """Base of every error raised on purpose; `exit_status` is what the command line returns."""

    exit_status = 1


class SettingError(DarError):
    """A user's mistake: a setting, a file or an argument that cannot be used."""

    exit_status = 2


class JudgeStopped(DarError):
    """The judge gives too little to learn from: too many judgements failed, or too many steps were tied."""

    exit_status = 3


class BudgetSpent(DarError):
    """What the run may pay its judge is spent; `setting` says which limit."""

    exit_status = 4
    setting = ""


class Interrupted(DarError):
    """A signal asked the run to stop; it has saved what it needs to go on."""

    exit_status = 5


class HostLost(DarError):
    """A host of the run does not answer; without it the others cannot go on."""

    exit_status = 6


class NotFinite(DarError):
    """Loss, gradient norm or parameters of an update are not finite; it was not applied, and nothing saved after it."""

    exit_status = 7
