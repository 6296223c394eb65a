"""Report what supervisors and debug see and do: one function for each log event, OTP's labels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import structlog

from elsa_actors.otp.child_spec import ChildSpec

P = ParamSpec("P")

log = structlog.get_logger("elsa_actors")


def _harmless(report: Callable[P, None]) -> Callable[P, None]:
    """What the user's renderer cannot show must not bring down the supervisor that reports it."""

    @wraps(report)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            report(*args, **kwargs)
        except Exception:
            logging.getLogger("elsa_actors").exception("%s could not be logged", report.__name__)

    return guarded


@_harmless
def child_started(supervisor: str, spec: ChildSpec, child: Any) -> None:
    """OTP's progress report."""
    log.debug("child_started", supervisor=supervisor, child_id=spec.id, child=child)


@_harmless
def child_restarted(supervisor: str, spec: ChildSpec, child: Any) -> None:
    """A child runs again after it ended, or is one of those restarted with it."""
    log.info("child_restarted", supervisor=supervisor, child_id=spec.id, child=child)


@_harmless
def child_terminated(supervisor: str, spec: ChildSpec, child: Any, reason: Any, fate: str) -> None:
    """OTP's child_terminated: ``then`` says what the supervisor does next."""
    log.error(
        "child_terminated",
        supervisor=supervisor,
        child_id=spec.id,
        child=child,
        reason=reason,
        restart=spec.restart,
        then=fate,
    )


@_harmless
def child_start_failed(supervisor: str, spec: ChildSpec, reason: Any) -> None:
    """OTP's start_error: at the supervisor's own start, or at a restart."""
    log.error("child_start_failed", supervisor=supervisor, child_id=spec.id, reason=reason)


@_harmless
def child_shutdown_error(supervisor: str, spec: ChildSpec, child: Any, reason: Any) -> None:
    """OTP's shutdown_error: a child that was told to stop ended otherwise than expected."""
    log.error(
        "child_shutdown_error",
        supervisor=supervisor,
        child_id=spec.id,
        child=child,
        reason=reason,
        shutdown=spec.shutdown,
    )


@_harmless
def reached_max_restarts(
    supervisor: str, spec: ChildSpec, max_restarts: int, seconds: float
) -> None:
    """OTP's reached_max_restart_intensity: the supervisor gives up and ends with "shutdown"."""
    log.error(
        "reached_max_restarts",
        supervisor=supervisor,
        child_id=spec.id,
        max_restarts=max_restarts,
        max_seconds=seconds,
    )


@_harmless
def traced(process: str, line: str) -> None:
    """One event of a server whose trace is switched on."""
    log.info("trace", process=process, line=line)


@_harmless
def debug_function_failed(process: str, function: Any, error: BaseException) -> None:
    """A function that somebody installed in a server raised, and was removed."""
    log.warning("debug_function_failed", process=process, function=repr(function), exc_info=error)
