"""Structured logs: JSON lines on stderr with service and trace ids, never users' text.

An exception's text may quote a document, a question or a token. So it is dropped here, at the one
place that every line passes: ours, a library's, and what the interpreter prints about an error
that nobody caught.
"""

import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, WrappedLogger

MAX_TEMPLATE = 120
MAX_FRAMES = 12


def add_trace(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


def drop_exception_text(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Keep where an exception came from, drop what it says."""
    info = event.pop("exc_info", None)
    error = raised(info) if info else None
    if error is not None:
        event["error_type"] = type(error).__name__
        event["stack"] = stack_of(error)
    for name, value in event.items():
        if isinstance(value, BaseException):
            event[name] = type(value).__name__
    return event


def raised(info: object) -> BaseException | None:
    """The exception behind logging's exc_info in any of its forms."""
    if isinstance(info, BaseException):
        return info
    if isinstance(info, tuple) and len(info) > 1 and isinstance(info[1], BaseException):
        return info[1]
    return sys.exc_info()[1]


def stack_of(error: BaseException) -> list[str]:
    frames, trace_back = [], error.__traceback__
    while trace_back is not None:
        code = trace_back.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{trace_back.tb_lineno}")
        trace_back = trace_back.tb_next
    return [*frames[-MAX_FRAMES:], type(error).__name__]


def configure_logging(service: str, level: str) -> None:
    """JSON logs of this process; libraries' warnings come along without their arguments."""

    def add_service(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_service,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_trace,
            drop_exception_text,
            structlog.processors.JSONRenderer(default=type_name),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.setLogRecordFactory(bare_record)
    logging.basicConfig(level=logging.WARNING, handlers=[LibraryHandler()], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = log_uncaught
    threading.excepthook = log_thread
    sys.unraisablehook = log_unraisable


def type_name(value: object) -> str:
    """What JSON cannot hold is named, not printed: its text could be anyone's."""
    return f"<{type(value).__name__}>"


def bare_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    """A library's record by template and place only, for its own handlers too."""
    record = logging.LogRecord(*args, **kwargs)
    if not record.args or not isinstance(record.msg, str):
        # Without arguments the text may have been put together already.
        record.msg = record.module
    record.msg, record.args = record.msg[:MAX_TEMPLATE].replace("%", "%%"), ()
    if record.exc_info and record.exc_info[1] is not None:
        record.msg += f" [{record.exc_info[0].__name__}]" if record.exc_info[0] else ""
        record.stack = stack_of(record.exc_info[1])
    record.exc_info = record.exc_text = record.stack_info = None
    return record


class LibraryHandler(logging.Handler):
    """Libraries' records as our own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        log: Callable[..., object] = structlog.get_logger().warning
        if record.levelno >= logging.ERROR:
            log = structlog.get_logger().error
        stack = {"stack": record.stack} if hasattr(record, "stack") else {}
        log("library", logger=record.name, template=str(record.msg).replace("%%", "%"), **stack)


def log_uncaught(
    kind: type[BaseException], error: BaseException, trace_back: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().critical("uncaught", exc_info=error)


def log_thread(arguments: "threading.ExceptHookArgs") -> None:
    if arguments.exc_value is not None:
        structlog.get_logger().critical("uncaught_in_thread", exc_info=arguments.exc_value)


def log_unraisable(arguments: Any) -> None:
    structlog.get_logger().error("unraisable", exc_info=arguments.exc_value)
