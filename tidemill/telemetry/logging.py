"""Structured logs: JSON lines on stderr with service and trace ids, never users' text."""

import logging
import sys

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, WrappedLogger


def add_trace(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


def drop_exception_text(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Keep where an exception came from, drop what it says: it may quote a user's text."""
    info = event.pop("exc_info", None)
    if info:
        error = info if isinstance(info, BaseException) else sys.exc_info()[1]
        event["stack"] = stack_of(error) if error else []
    return event


def stack_of(error: BaseException) -> list[str]:
    frames, trace_back = [], error.__traceback__
    while trace_back is not None:
        code = trace_back.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{trace_back.tb_lineno}")
        trace_back = trace_back.tb_next
    return [*frames[-12:], type(error).__name__]


def configure_logging(service: str, level: str) -> None:
    """JSON logs of this process; other libraries' warnings come along without their arguments."""
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_trace,
            drop_exception_text,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = LibraryHandler()
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class LibraryHandler(logging.Handler):
    """Libraries' records, by template and place: their arguments may hold users' text."""

    def emit(self, record: logging.LogRecord) -> None:
        template = record.msg if isinstance(record.msg, str) and record.args else record.module
        structlog.get_logger().log(
            record.levelno, "library", logger=record.name, template=str(template)[:120]
        )
