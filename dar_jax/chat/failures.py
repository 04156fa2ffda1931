"""The reasons why a call to a chat model returns no answer.

    ChatError
    +-- Rejected            this request or key will never be answered: no retry
    |   +-- Blocked         a filter refused the request: 400 with the code of one
    |   +-- Unauthorized    401: the key is not, or no longer, one of this server
    |   +-- Unsupported     the server does not support this kind of request
    +-- Closing             the judge is closing: this call was not made
    +-- Transient           worth a retry; `retry_after_s` is the server's, or None
        +-- RateLimited     429 that is not a spent quota
        +-- ServerFault     408, 409, 5xx but 501
        +-- ConnectionLost  a connection cut before the answer was whole
        |   +-- NotConnected    no connection: nothing was sent, so it costs no attempt
        |       +-- OutOfFiles      this process may open no more files
        +-- TooSlow         no answer within the time of one attempt, or of the whole call
        +-- NotAnAnswer     status 200 with something else (HTML, broken JSON)

A refusal, a block or a truncated text is an answer (`wire.AnswerChoice.finish`), not an error. Messages never hold
a key: wires pass server text through `keys.Key.redact` first.
"""


class ChatError(Exception):
    """Base of all; `attempts` counts the requests sent before giving up."""

    attempts = 1


class Rejected(ChatError):
    """The server will never answer: bad request, bad key, unknown model, spent quota."""


class Blocked(Rejected):
    """A filter of the server refused the request; `body` is what it sent, without keys."""

    def __init__(self, message: str, body: str) -> None:
        super().__init__(message)
        self.body = body


class Unsupported(Rejected):
    """The server does not take this kind of request: 400, 404, 405, 422, 501. Another kind may be answered."""


class Unauthorized(Rejected):
    """The server does not know the key (401)."""


class Closing(ChatError):
    """The judge is closing; nothing was sent."""

    attempts = 0


class Transient(ChatError):
    """The same request may be answered later."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(Transient):
    """Too many requests for now."""


class ServerFault(Transient):
    """The server failed on its side."""


class ConnectionLost(Transient):
    """The connection broke before the answer was whole."""


class NotConnected(ConnectionLost):
    """No connection could be made; nothing was sent."""


class OutOfFiles(NotConnected):
    """Too many files are open for now; a connection in use becomes free in time."""


class TooSlow(Transient):
    """No answer in time."""


class NotAnAnswer(Transient):
    """Status 200 without a chat answer."""
