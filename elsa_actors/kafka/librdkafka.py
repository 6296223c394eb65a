"""Reach the functions of librdkafka that confluent-kafka does not bind."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka

from elsa_actors.runtime.errors import ElsaError

_CONF_OK = 0
_ERRSTR = 512

# rd_kafka_conf_set() loads the libraries that this one names, so it is never tried out.
_LOADS_CODE = "plugin.library.paths"

_P, _S, _I = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_N = ctypes.c_size_t
_STRINGS = ctypes.POINTER(ctypes.c_char_p)

# What each function answers, and what it takes.
_SIGNATURES = {
    "rd_kafka_version_str": (_S,),
    "rd_kafka_conf_new": (_P,),
    "rd_kafka_conf_destroy": (None, _P),
    "rd_kafka_conf_set": (_I, _P, _S, _S, _S, _N),
    "rd_kafka_conf_dump": (_STRINGS, _P, ctypes.POINTER(_N)),
    "rd_kafka_conf_dump_free": (None, _STRINGS, _N),
    "rd_kafka_conf_properties_show": (None, _P),
    "rd_kafka_topic_conf_new": (_P,),
    "rd_kafka_topic_conf_destroy": (None, _P),
    "rd_kafka_topic_conf_dump": (_STRINGS, _P, ctypes.POINTER(_N)),
    "rd_kafka_new": (_P, _I, _P, _S, _N),
    "rd_kafka_destroy": (None, _P),
    "rd_kafka_thread_cnt": (_I,),
    "rd_kafka_mock_cluster_new": (_P, _P, _I),
    "rd_kafka_mock_cluster_destroy": (None, _P),
    "rd_kafka_mock_cluster_bootstraps": (_S, _P),
    "rd_kafka_mock_topic_create": (_I, _P, _S, _I, _I),
    "rd_kafka_mock_topic_delete": (_I, _P, _S),
    "rd_kafka_mock_partition_set_leader": (_I, _P, _S, ctypes.c_int32, ctypes.c_int32),
    "rd_kafka_mock_coordinator_set": (_I, _P, _S, _S, ctypes.c_int32),
    "rd_kafka_mock_broker_set_down": (_I, _P, ctypes.c_int32),
    "rd_kafka_mock_broker_set_up": (_I, _P, ctypes.c_int32),
    "rd_kafka_mock_broker_set_rtt": (_I, _P, ctypes.c_int32, _I),
    "rd_kafka_mock_push_request_errors_array": (None, _P, ctypes.c_int16, _N, ctypes.POINTER(_I)),
    "rd_kafka_mock_clear_request_errors": (None, _P, ctypes.c_int16),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, _P, ctypes.c_int32),
}


@functools.cache
def library() -> ctypes.CDLL:
    """The librdkafka that confluent-kafka itself uses, its functions declared.

    Raises ElsaError ("no_librdkafka") when it cannot be found.
    """
    wanted = confluent_kafka.libversion()[0]
    seen = []
    for path in _candidates():
        try:
            found = ctypes.CDLL(path)
            found.rd_kafka_version_str.restype = ctypes.c_char_p
            version = found.rd_kafka_version_str().decode()
            if version == wanted:
                for name, (answer, *arguments) in _SIGNATURES.items():
                    function = getattr(found, name)
                    function.restype, function.argtypes = answer, arguments
                return found
        except (OSError, AttributeError) as error:
            seen.append(f"{path}: {error}")
        else:
            seen.append(f"{path}: it is librdkafka {version}")
    raise ElsaError(
        "no_librdkafka",
        f"expected a shared library of librdkafka {wanted} beside confluent-kafka, found"
        f" {'; '.join(seen) or 'none'}; install confluent-kafka as a wheel, which brings it:"
        " pip install --only-binary confluent-kafka --force-reinstall confluent-kafka",
    )


def _candidates() -> Iterator[str]:
    """Where it may be: in the wheel, loaded already, or installed in the system."""
    package = Path(confluent_kafka.__file__).parent
    for folder in (package.parent / "confluent_kafka.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*rdkafka*")):
            # Windows calls the C++ wrapper librdkafka++.dll.
            if "++" not in path.name:
                yield str(path)
    yield from _loaded()
    if installed := ctypes.util.find_library("rdkafka"):
        yield installed


def _loaded() -> Iterator[str]:
    """The libraries in this process that are called librdkafka."""
    if sys.platform == "linux":
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
        paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "/" in line}
    elif sys.platform == "darwin":
        system = ctypes.CDLL(None)
        system._dyld_get_image_name.restype = ctypes.c_char_p
        images = range(system._dyld_image_count())
        paths = {(system._dyld_get_image_name(i) or b"").decode() for i in images}
    else:
        paths = set()
    yield from sorted(path for path in paths if "rdkafka" in Path(path).name)


# ---- configuration


@functools.cache
def property_names() -> frozenset[str]:
    """Every configuration property that librdkafka takes as text, aliases and topic ones too.

    Functions (``error_cb``) and other pointers are not among them. Raises ElsaError when there is
    no librdkafka.
    """
    # Neither is complete: a dump leaves out what has no value, the printed table what is hidden.
    # One is both.
    return frozenset(
        name
        for name in _dumped() | _printed() | {"client.software.version"}
        if "dedicated" not in (check_property(name, "") or "")
    )


def check_property(name: str, value: object) -> str | None:
    """What librdkafka says against a property, or None; nothing is set by it.

    ``value`` is given as text, as confluent-kafka does; None means without a value. The answer may
    repeat the value, a password too. ``plugin.library.paths`` is never refused: trying it would
    load the plugins. Raises ElsaError when there is no librdkafka.
    """
    if name == _LOADS_CODE:
        return None
    if "\0" in name or "\0" in str(value):
        return f"Property {name!r} has a null character in its name or value"
    lib = library()
    text = None if value is None else str(value).encode()
    why = ctypes.create_string_buffer(_ERRSTR)
    conf = lib.rd_kafka_conf_new()
    try:
        if lib.rd_kafka_conf_set(conf, name.encode(), text, why, _ERRSTR) == _CONF_OK:
            return None
    finally:
        lib.rd_kafka_conf_destroy(conf)
    return why.value.decode(errors="replace").strip() or f"{name} cannot be {value!r}"


def _dumped() -> set[str]:
    """The properties that have a value in a new configuration."""
    lib = library()
    names = set()
    for kind in ("rd_kafka_conf", "rd_kafka_topic_conf"):
        conf, count = getattr(lib, f"{kind}_new")(), ctypes.c_size_t()
        pairs = getattr(lib, f"{kind}_dump")(conf, ctypes.byref(count))
        names |= {pairs[i].decode() for i in range(0, count.value, 2)}
        lib.rd_kafka_conf_dump_free(pairs, count)
        getattr(lib, f"{kind}_destroy")(conf)
    return names


def _printed() -> set[str]:
    """The properties of the table that librdkafka prints for its manual."""
    system = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    system.fopen.restype, system.fopen.argtypes = _P, [_S, _S]
    system.fclose.argtypes = [_P]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "properties")
        if not (file := system.fopen(str(path).encode(), b"w")):
            raise ElsaError("no_temporary_file", f"cannot write {path}, a temporary file")
        library().rd_kafka_conf_properties_show(file)
        system.fclose(file)
        table = path.read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    return {row[0] for row in rows if len(row) > 5 and row[1] in {"*", "C", "P"}}
