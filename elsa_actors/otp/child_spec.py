"""Check what a supervisor is given, field by field: child specs and flags."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, NoReturn, TypeGuard

from elsa_actors.otp.results import UNSET
from elsa_actors.runtime.errors import ChildSpecError
from elsa_actors.runtime.names import strict

RESTART_TYPES = ("permanent", "transient", "temporary")
CHILD_TYPES = ("worker", "supervisor")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
AUTO_SHUTDOWNS = ("never", "any_significant", "all_significant")

KEYS = ("id", "start", "restart", "shutdown", "type", "modules", "significant")
"""The keys of a child spec; the old six-tuple holds the first six in this order."""

WORKER_SHUTDOWN = 5.0

_FLAGS = ("strategy", "max_restarts", "max_seconds", "auto_shutdown", "name", "timeout")
_DYNAMIC_FLAGS = ("max_children", "extra_arguments", *_FLAGS)
_OTP_NAMES = {"intensity": "max_restarts", "period": "max_seconds"}
_PATH = re.compile(r"[\w.]+:[\w.]+")


class ChildInfo(NamedTuple):
    """One line of `which_children`.

    ``child`` is a ref, None (not running), or "restarting"; ``id`` is None in a DynamicSupervisor.
    """

    id: Any
    child: Any
    type: str
    modules: Any


@dataclass(frozen=True, slots=True, repr=False)
class Start:
    """A start function with its arguments; calling it starts a child.

    ``head`` is what stands first in the form given, ``target`` what it means (they differ for an
    import path). With a ``method``, that attribute of ``target`` is called, else ``target`` itself.
    """

    head: Any
    target: Any
    method: str | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] | None
    outer: type[Any]
    inner: type[Any]

    def __call__(self, extra: Iterable[Any] = ()) -> Any:
        """Call the start function, ``extra`` arguments first; its raw answer, its own exceptions.

        The method is looked up now: a class that got another one since is started with that.
        """
        function = self.target if self.method is None else getattr(self.target, self.method)
        if self.kwargs is None:
            return function(*extra, *self.args)
        return function(*extra, *self.args, **self.kwargs)

    def as_given(self) -> Any:
        """The tuple or list that this was made of, in the same form, as a copy."""
        parts = [self.head] if self.method is None else [self.head, self.method]
        parts.append(self.inner(self.args))
        if self.kwargs is not None:
            parts.append(dict(self.kwargs))
        return self.outer(parts)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the function in the end is called with: a partial's own arguments come first."""
        args, kwargs = tuple(self.args), dict(self.kwargs or {})
        target = self.target if self.method is None else None
        while isinstance(target, functools.partial):
            args, kwargs = (*target.args, *args), {**target.keywords, **kwargs}
            target = target.func
        return args, kwargs

    def owner(self) -> Any:
        """The class whose code starts the child; failing that the module, or the module's name."""
        target = self.target
        if isinstance(target, type | ModuleType):
            return target
        if self.method is not None:
            return type(target)
        while isinstance(target, functools.partial):
            target = target.func
        bound_to = getattr(target, "__self__", None)
        if bound_to is not None and not isinstance(bound_to, ModuleType):
            return bound_to if isinstance(bound_to, type) else type(bound_to)
        module = getattr(target, "__module__", None)
        return module if isinstance(module, str) else type(target)

    def __repr__(self) -> str:
        # The number of arguments, as OTP shows it: the arguments themselves may hold passwords.
        count = len(self.args) + len(self.kwargs or ())
        target = self.target
        while isinstance(target, functools.partial):
            target = target.func
        name = getattr(target, "__qualname__", None) or getattr(target, "__name__", None)
        name = name or type(target).__qualname__
        return f"<Start {name}{'' if self.method is None else f'.{self.method}'}/{count}>"


@dataclass(frozen=True, slots=True, repr=False)
class ChildSpec:
    """What a supervisor knows about a child: checked, every field filled in.

    ``shutdown`` is in seconds, or "infinity", or "brutal_kill"; ``modules`` a tuple, or "dynamic".
    """

    id: Any
    start: Start
    restart: str
    shutdown: Any
    type: str
    modules: tuple[Any, ...] | str
    significant: bool

    def call(self, extra: Iterable[Any] = ()) -> Any:
        """Run the start function, ``extra`` arguments first: its raw answer, its own exceptions."""
        return self.start(extra)

    def info(self, child: Any) -> ChildInfo:
        """This child's line of `which_children`, with ``child`` for the process it has now."""
        return ChildInfo(self.id, child, self.type, _listed(self.modules))

    def __repr__(self) -> str:
        return f"<ChildSpec {self.id!r} {self.restart} {self.type} {self.start!r}>"


# ---- child specs


def normalise(child: Any, auto_shutdown: str | None = None) -> ChildSpec:
    """Check a child in any accepted form: a dictionary, a class, a tuple ``(Class, *args)``.

    A list does for any tuple, an import path ("pkg.mod:Counter") for any class or function, and
    OTP's old six-tuple is understood. ``auto_shutdown`` is the supervisor's, None when it is not
    known. Calls ``child_spec`` of a class; starts nothing. Raises ChildSpecError.

        >>> normalise({"id": "log", "start": (print, ["hello"])})
        <ChildSpec 'log' permanent worker <Start print/1>>
    """
    if isinstance(child, ChildSpec):
        check_significant(child, auto_shutdown)
        return child
    fields = _fields_of(child)
    _check_keys(fields, _id_of(fields))
    if "id" not in fields:
        raise ChildSpecError(
            "missing_id", f"expected a child spec with an 'id', got: {_sketch(fields)}"
        )
    if "start" not in fields:
        raise ChildSpecError(
            "missing_start",
            f"{_who(fields['id'])}expected a 'start': (class, method, [args]) or"
            " (callable, [args])",
        )
    return _check(fields, auto_shutdown)


def normalise_dynamic(child: Any) -> ChildSpec:
    """Check a child as `normalise` does, for a DynamicSupervisor, which has no significant ones."""
    fields = as_dict(child) if isinstance(child, ChildSpec) else _fields_of(child)
    child_id = _id_of(fields)
    _check_keys(fields, child_id)
    if "id" not in fields or "start" not in fields:
        raise ChildSpecError(
            ("invalid_child_spec", child),
            f"expected a child spec with an 'id' and a 'start', got: {_sketch(fields)}",
        )
    if fields.get("significant") is True:
        raise ChildSpecError(
            ("invalid_significant", True),
            f"{_who(child_id)}expected significant to be False under a DynamicSupervisor,"
            " got: True; only a Supervisor has significant children",
        )
    return child if isinstance(child, ChildSpec) else _check(fields, None)


def check_all(children: Any, auto_shutdown: str | None = None) -> list[ChildSpec]:
    """Check a list of children in order, each as `normalise` does, and that no id comes twice.

    Ids compare with their types: 1, 1.0 and True are three ids. Raises ChildSpecError; its reason
    is ``("badarg", children)`` when this is no list.
    """
    single = isinstance(children, str | bytes | Mapping | type | ChildSpec)
    if single or not hasattr(children, "__iter__"):
        raise ChildSpecError(
            ("badarg", children),
            f"expected a list of children, got: {_sketch(children)}"
            + ("; put a single child in a list" if single else ""),
        )
    specs = []
    seen = set()
    for child in children:
        spec = normalise(child, auto_shutdown)
        key = strict(spec.id)
        if key in seen:
            raise ChildSpecError(
                ("duplicate_child_name", spec.id),
                f"expected every child to have an id of its own, got {spec.id!r} twice;"
                " Supervisor.child_spec(child, id=...) gives a child another one",
            )
        seen.add(key)
        specs.append(spec)
    return specs


def check_significant(spec: ChildSpec, auto_shutdown: str | None) -> None:
    """Refuse a significant child where nothing can come of it.

    That is a supervisor with ``auto_shutdown="never"`` (None: not known), and a permanent child.
    """
    _check_combination(spec.significant, spec.restart, auto_shutdown, spec.id)


def as_dict(spec: ChildSpec) -> dict[str, Any]:
    """The spec as a dictionary with every key, defaults included; ``start`` in the form given.

    The dictionary is a new one, and `normalise` makes the same spec of it.
    """
    return {
        "id": spec.id,
        "start": spec.start.as_given(),
        "restart": spec.restart,
        "shutdown": spec.shutdown,
        "type": spec.type,
        "modules": _listed(spec.modules),
        "significant": spec.significant,
    }


def override(child: Any, /, **overrides: Any) -> dict[str, Any]:
    """The child, in any accepted form, as a dictionary in which ``overrides`` replace keys.

    Raises ChildSpecError for an unknown key and for a wrong value; what fits together is checked
    when the dictionary is used.

        >>> override({"id": "log", "start": (print, [])}, id="log-2", restart="transient")
        {'id': 'log-2', 'start': (<built-in function print>, []), 'restart': 'transient'}
    """
    fields = as_dict(child) if isinstance(child, ChildSpec) else dict(_fields_of(child))
    child_id = overrides.get("id", _id_of(fields))
    _check_keys(overrides, child_id)
    for key, value in overrides.items():
        _FIELD_CHECKS[key](value, child_id)
    return {**fields, **overrides}


def parse_start(start: Any, child_id: Any = UNSET, field: str = "start") -> Start:
    """Check a start function and its arguments; starts nothing.

    Accepted are ``(class, method, [args])``, the same with ``{kwargs}`` after it, ``(callable,
    [args])`` and ``(callable, [args], {kwargs})``, as tuples or lists, and an import path
    ("pkg.mod:Counter") in the first place. Raises ChildSpecError(("invalid_mfa", start)).
    """

    def refuse(advice: str = "") -> NoReturn:
        raise ChildSpecError(
            ("invalid_mfa", start),
            f"{_who(child_id)}expected {field} to be (class, method, [args]) or (callable, [args]),"
            f" either with {{kwargs}} after it, got: {_sketch(start)}{advice}",
        )

    parts: list[Any] = list(start) if isinstance(start, tuple | list) else []
    kwargs = parts.pop() if len(parts) > 2 and isinstance(parts[-1], Mapping) else None
    method = parts.pop(1) if len(parts) == 3 and isinstance(parts[1], str) else None
    if len(parts) != 2 or not isinstance(parts[1], tuple | list):
        refuse("; add the arguments, [] for none" if callable(start) else "")
    head, args = parts
    if kwargs is not None and not all(isinstance(key, str) for key in kwargs):
        refuse("; the keys of {kwargs} are strings")
    target = head
    if isinstance(head, str):
        target = _load(head, ("invalid_mfa", start), child_id)
    if method is None:
        if not callable(target):
            refuse(f"; {_sketch(target)} cannot be called")
        if isinstance(target, type) and hasattr(target, "start_link"):
            refuse(f"; a process starts by ({target.__qualname__}, 'start_link', [args])")
    # A class may get its method later; a missing one shows when the child is started.
    elif not isinstance(target, type | ModuleType) and not callable(getattr(target, method, None)):
        refuse(f"; {_sketch(target)} has no method {method!r}")
    return Start(
        head,
        target,
        method,
        tuple(args),
        None if kwargs is None else dict(kwargs),
        list if isinstance(start, list) else tuple,
        list if isinstance(args, list) else tuple,
    )


def _fields_of(child: Any) -> Mapping[Any, Any]:
    """The fields of a child in any form but a ChildSpec, not yet checked."""
    if isinstance(child, Mapping):
        return child
    head, args = child, ()
    if isinstance(child, tuple | list) and child:
        head, args = child[0], tuple(child[1:])
        if _is_six_tuple(child):
            return dict(zip(KEYS, child, strict=False))
    if isinstance(head, str) and _PATH.fullmatch(head):
        head = _load(head, ("invalid_child_spec", child), UNSET)
    if not isinstance(head, type):
        raise ChildSpecError(
            ("invalid_child_spec", child),
            "expected a child to be a dictionary, a class, or a tuple (Class, *args),"
            f" got: {_sketch(child)}",
        )
    if _is_bare_supervisor(head):
        raise ChildSpecError(
            ("invalid_child_spec", child),
            "expected a child that is a supervisor to be a subclass of Supervisor, or a dictionary:"
            " {'id': ..., 'type': 'supervisor', 'start': (Supervisor, 'start_link', [[...]])},"
            f" got: {_sketch(child)}",
        )
    make = getattr(head, "child_spec", None)
    if not callable(make):
        raise ChildSpecError(("invalid_child_spec", child), _why_no_child(head))
    try:
        fields = make(*args)
    except TypeError as error:
        unfit = _unfit(make, args) or _unfit(getattr(head, "start_link", None), args)
        if unfit is None:
            raise
        raise ChildSpecError(
            ("invalid_child_spec", child),
            f"expected the arguments of a child of the class {head.__qualname__} to fit,"
            f" ({head.__qualname__}, *args), got: {_sketch(child)}: {unfit}",
        ) from error
    if isinstance(fields, ChildSpec):
        return as_dict(fields)
    if not isinstance(fields, Mapping):
        raise ChildSpecError(
            ("invalid_child_spec", fields),
            f"expected {head.__qualname__}.child_spec to answer a dictionary,"
            f" got: {_sketch(fields)}",
        )
    return fields


def _is_bare_supervisor(cls: type[Any]) -> bool:
    """Whether this is Supervisor itself, whose `child_spec` is a helper for other children."""
    # By name: its file needs this one.
    return (cls.__module__, cls.__qualname__) == ("elsa_actors.otp.supervisor", "Supervisor")


def _unfit(function: Any, args: tuple[Any, ...]) -> str | None:
    """Why a function cannot be called with these arguments; None when it can, or nobody knows."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args)
    except TypeError as error:
        return str(error)
    return None


def _is_six_tuple(child: tuple[Any, ...] | list[Any]) -> bool:
    """Whether this is OTP's old form (id, start, restart, shutdown, type, modules)."""
    if len(child) != 6 or isinstance(child[0], type):
        return False
    if isinstance(child[0], str) and _PATH.fullmatch(child[0]):
        return isinstance(child[2], str) and child[2] in RESTART_TYPES
    return True


def _why_no_child(cls: type[Any]) -> str:
    # By name: Pykka is known to two files of the runtime only.
    if any(base.__module__.partition(".")[0] == "pykka" for base in cls.__mro__):
        return (
            f"{cls.__qualname__} is a plain Pykka actor, which no supervisor can watch;"
            " derive it from elsa_actors.Process, or wrap it:"
            f" Wrapper.child_spec(mfa=({cls.__qualname__}.start, [args]))"
        )
    return (
        f"{cls.__qualname__} has no child_spec; derive it from GenServer or another behaviour,"
        " or write a dictionary: {'id': ..., 'start': (function, [args])}"
    )


def _check(fields: Mapping[Any, Any], auto_shutdown: str | None) -> ChildSpec:
    """Check the values, in OTP's order."""
    child_id = _check_id(fields["id"])
    start = parse_start(fields["start"], child_id)
    restart = _check_restart(fields.get("restart", "permanent"), child_id)
    significant = _check_flag(fields.get("significant", False), child_id)
    _check_combination(significant, restart, auto_shutdown, child_id)
    kind = _check_type(fields.get("type", "worker"), child_id)
    if "shutdown" in fields:
        shutdown = _check_shutdown(fields["shutdown"], child_id)
    else:
        shutdown = _default_shutdown(start, kind)
    if "modules" in fields:
        modules = _check_modules(fields["modules"], child_id)
    else:
        modules = (start.owner(),)
    return ChildSpec(child_id, start, restart, shutdown, kind, modules, significant)


def _default_shutdown(start: Start, kind: str) -> Any:
    """What the class says through its hook ``_default_shutdown(args, kwargs)``, else OTP's."""
    hook = getattr(start.owner(), "_default_shutdown", None)
    answer = None if hook is None else hook(*start.arguments())
    if answer is not None:
        return answer
    return "infinity" if kind == "supervisor" else WORKER_SHUTDOWN


def _check_keys(fields: Mapping[Any, Any], child_id: Any) -> None:
    for key in fields:
        if not isinstance(key, str) or key not in KEYS:
            raise ChildSpecError(
                ("unknown_key", key),
                f"{_who(child_id)}unknown key {key!r} in the child spec{_nearest(key, KEYS)}",
            )


def _check_combination(
    significant: bool, restart: str, auto_shutdown: str | None, child_id: Any
) -> None:
    if not significant:
        return
    if auto_shutdown == "never":
        raise ChildSpecError(
            ("bad_combination", [("auto_shutdown", "never"), ("significant", True)]),
            f"{_who(child_id)}expected the supervisor of a significant child to have"
            " auto_shutdown 'any_significant' or 'all_significant', got: 'never'",
        )
    if restart == "permanent":
        raise ChildSpecError(
            ("bad_combination", [("restart", "permanent"), ("significant", True)]),
            f"{_who(child_id)}expected restart of a significant child to be 'transient' or"
            " 'temporary', got: 'permanent' (the default)",
        )


def _check_id(value: Any, child_id: Any = UNSET) -> Any:
    try:
        hash(value)
    except TypeError:
        raise ChildSpecError(
            ("invalid_id", value),
            f"expected a child's id to be hashable, got: {_sketch(value)}"
            + ("; a tuple will do" if isinstance(value, list) else ""),
        ) from None
    return value


def _check_restart(value: Any, child_id: Any) -> str:
    return _word("restart", value, RESTART_TYPES, "invalid_restart_type", child_id)


def _check_type(value: Any, child_id: Any) -> str:
    return _word("type", value, CHILD_TYPES, "invalid_child_type", child_id)


def _check_flag(value: Any, child_id: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ChildSpecError(
        ("invalid_significant", value),
        f"{_who(child_id)}expected significant to be True or False, got: {_sketch(value)}",
    )


def _check_shutdown(value: Any, child_id: Any) -> Any:
    if _is_number(value) and value >= 0:
        return value
    if isinstance(value, str):
        for word in ("infinity", "brutal_kill"):
            if value == word:
                return word
    raise ChildSpecError(
        ("invalid_shutdown", value),
        f"{_who(child_id)}expected shutdown to be seconds (0 or more), 'infinity' or"
        f" 'brutal_kill', got: {_sketch(value)}",
    )


def _check_modules(value: Any, child_id: Any) -> tuple[Any, ...] | str:
    if isinstance(value, str) and value == "dynamic":
        return "dynamic"
    if not isinstance(value, tuple | list):
        raise ChildSpecError(
            ("invalid_modules", value),
            f"{_who(child_id)}expected modules to be a list or 'dynamic', got: {_sketch(value)}",
        )
    for element in value:
        if not isinstance(element, str | type | ModuleType):
            raise ChildSpecError(
                ("invalid_module", element),
                f"{_who(child_id)}expected modules to hold classes, modules or names,"
                f" got: {_sketch(element)}",
            )
    return tuple(value)


_FIELD_CHECKS: dict[str, Callable[[Any, Any], Any]] = {
    "id": _check_id,
    "start": parse_start,
    "restart": _check_restart,
    "shutdown": _check_shutdown,
    "type": _check_type,
    "modules": _check_modules,
    "significant": _check_flag,
}


# ---- flags


@dataclass(frozen=True, slots=True)
class Flags:
    """A supervisor's flags, checked."""

    strategy: str = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: str = "never"


@dataclass(frozen=True, slots=True)
class DynamicFlags:
    """A dynamic supervisor's flags, checked; ``max_children`` is `math.inf` for "infinity"."""

    max_children: float = math.inf
    extra_arguments: tuple[Any, ...] = ()
    max_restarts: int = 3
    max_seconds: float = 5.0


def check_flags(
    strategy: Any = "one_for_one",
    max_restarts: Any = 3,
    max_seconds: Any = 5.0,
    auto_shutdown: Any = "never",
    **unknown: Any,
) -> Flags:
    """Check a supervisor's flags. Raises ChildSpecError, for an unknown flag too.

    >>> check_flags("rest_for_one", max_restarts=10)
    Flags(strategy='rest_for_one', max_restarts=10, max_seconds=5.0, auto_shutdown='never')
    """
    _check_unknown_flags(unknown, _FLAGS)
    _check_strategy(strategy, STRATEGIES)
    max_restarts, max_seconds = _check_window(max_restarts, max_seconds)
    auto_shutdown = _word(
        "auto_shutdown", auto_shutdown, AUTO_SHUTDOWNS, "invalid_auto_shutdown", UNSET
    )
    return Flags(strategy, max_restarts, max_seconds, auto_shutdown)


def check_dynamic_flags(
    max_children: Any = "infinity",
    extra_arguments: Any = (),
    max_restarts: Any = 3,
    max_seconds: Any = 5.0,
    strategy: Any = "one_for_one",
    auto_shutdown: Any = "never",
    **unknown: Any,
) -> DynamicFlags:
    """Check a dynamic supervisor's flags. Raises ChildSpecError, for an unknown flag too.

    ``strategy`` and ``auto_shutdown`` may be said, with the one value that they have here.
    """
    _check_unknown_flags(unknown, _DYNAMIC_FLAGS)
    _check_strategy(strategy, STRATEGIES[:1])
    if isinstance(max_children, str) and max_children == "infinity":
        limit: float = math.inf
    elif _is_count(max_children):
        limit = max_children
    else:
        raise ChildSpecError(
            ("invalid_max_children", max_children),
            "expected max_children to be an int (0 or more) or 'infinity',"
            f" got: {_sketch(max_children)}",
        )
    if not isinstance(extra_arguments, tuple | list):
        raise ChildSpecError(
            ("invalid_extra_arguments", extra_arguments),
            f"expected extra_arguments to be a list, got: {_sketch(extra_arguments)}",
        )
    max_restarts, max_seconds = _check_window(max_restarts, max_seconds)
    _word("auto_shutdown", auto_shutdown, AUTO_SHUTDOWNS[:1], "invalid_auto_shutdown", UNSET)
    return DynamicFlags(limit, tuple(extra_arguments), max_restarts, max_seconds)


def _check_strategy(value: Any, allowed: tuple[str, ...]) -> None:
    if isinstance(value, str) and value == "simple_one_for_one":
        advice = "; children on demand are what a DynamicSupervisor is for"
    else:
        advice = "; a Supervisor has others" if len(allowed) == 1 else ""
    _word("strategy", value, allowed, "invalid_strategy", UNSET, advice)


def _check_window(max_restarts: Any, max_seconds: Any) -> tuple[int, float]:
    if not _is_count(max_restarts):
        raise ChildSpecError(
            ("invalid_intensity", max_restarts),
            f"expected max_restarts to be an int (0 or more), got: {_sketch(max_restarts)}",
        )
    if not (_is_number(max_seconds) and max_seconds > 0):
        raise ChildSpecError(
            ("invalid_period", max_seconds),
            f"expected max_seconds to be a number above 0, got: {_sketch(max_seconds)}",
        )
    return max_restarts, max_seconds


def _check_unknown_flags(unknown: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in unknown:
        raise ChildSpecError(
            ("unknown_key", key), f"unknown supervisor flag {key!r}{_nearest(key, known)}"
        )


# ---- words and values


def _word(
    field: str,
    value: Any,
    allowed: tuple[str, ...],
    reason: str,
    child_id: Any,
    advice: str = "",
) -> str:
    """The one of the allowed words that ``value`` is."""
    if isinstance(value, str):
        for word in allowed:
            if value == word:
                return word
    *most, last = map(repr, allowed)
    words = f"{', '.join(most)} or {last}" if most else last
    raise ChildSpecError(
        (reason, value),
        f"{_who(child_id)}expected {field} to be {words}, got: {_sketch(value)}{advice}",
    )


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool)
    return isinstance(value, float) and math.isfinite(value)


def _nearest(key: Any, known: tuple[str, ...]) -> str:
    text = str(key)
    near = [_OTP_NAMES[text]] if text in _OTP_NAMES else difflib.get_close_matches(text, known, 1)
    if near and near[0] in known:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(map(repr, known))}"


def _load(path: str, reason: Any, child_id: Any) -> Any:
    """What an import path ("pkg.mod:Counter") names."""
    if not _PATH.fullmatch(path):
        raise ChildSpecError(
            reason,
            f"{_who(child_id)}expected an import path like 'pkg.mod:Counter', got: {path!r}",
        )
    module, _, names = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    # A module may raise anything while it is imported.
    except Exception as error:
        raise ChildSpecError(
            reason,
            f"{_who(child_id)}cannot import {path!r}: {type(error).__name__}: {error}",
        ) from error
    return found


def _listed(modules: tuple[Any, ...] | str) -> Any:
    return modules if isinstance(modules, str) else list(modules)


def _id_of(fields: Mapping[Any, Any]) -> Any:
    return fields.get("id", UNSET)


def _who(child_id: Any) -> str:
    return "" if child_id is UNSET else f"child {child_id!r}: "


def _sketch(value: Any) -> str:
    """A value for a message, without the inside of arguments: they may hold passwords."""
    if isinstance(value, tuple | list):
        parts = ", ".join(_sketch_part(part) for part in value[:6]) + ", ..." * (len(value) > 6)
        return f"[{parts}]" if isinstance(value, list) else f"({parts})"
    if isinstance(value, Mapping):
        keys = ", ".join(map(repr, value))
        return f"a dictionary with the keys {keys}" if keys else "an empty dictionary"
    return _sketch_part(value)


def _sketch_part(part: Any) -> str:
    if isinstance(part, type):
        return part.__qualname__
    if isinstance(part, tuple | list | Mapping):
        return {tuple: "(...)", list: "[...]"}.get(type(part), "{...}") if part else repr(part)
    return reprlib.repr(part)
