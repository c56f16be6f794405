"""Logs: JSON lines on standard error, with what is known of the request on every one.

No secret reaches a log: headers and bodies are never bound, and tracebacks are written without the
values of local variables, which could hold a key. A test plants a canary.
"""

from typing import Any

import structlog

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
    ),
]


def configure() -> None:
    """Have structlog and the standard library's loggers write to one stream in one form."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def log_config(level: str) -> dict[str, Any]:
    """The configuration of `logging`, for every process: one stream, uvicorn's lines in it."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.JSONRenderer(),
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            # Alembic tells of every migration at INFO, APScheduler of every tick, and by a warning
            # of every turn that a long one has taken up: not news.
            "alembic": {"level": "WARNING"},
            "apscheduler": {"level": "ERROR"},
            # Its traces bear the headers of webhooks.
            "httpcore": {"level": "WARNING"},
            "uvicorn": {"level": "WARNING"},
        },
    }
