"""What a child spec and a supervisor flag may be, and what is said about a wrong one."""

import functools
import json
import math
import sys
import types

import pykka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elsa_actors.otp import child_spec
from elsa_actors.otp.child_spec import (
    ChildInfo,
    ChildSpec,
    DynamicFlags,
    Flags,
    as_dict,
    check_all,
    check_dynamic_flags,
    check_flags,
    check_significant,
    normalise,
    normalise_dynamic,
    override,
    parse_start,
)
from elsa_actors.otp.results import UNSET
from elsa_actors.otp.supervisor import Supervisor
from elsa_actors.otp.task import Task
from elsa_actors.otp.wrapper import Wrapper
from elsa_actors.runtime.actor import Process
from elsa_actors.runtime.errors import ChildSpecError


class Counter(Process):
    """Stands for a server: its start function answers what it was given."""

    @classmethod
    def start_link(cls, *args, **kwargs):
        return (cls.__name__, args, kwargs)


class Slow(Counter):
    """Knows itself how long its shutdown takes."""

    @classmethod
    def _default_shutdown(cls, args, kwargs):
        return kwargs.get("kill_timeout", 5.0) + 1


class NoSpec:
    pass


class Plain(pykka.ThreadingActor):
    pass


class Silent:
    """Its child_spec answers nonsense."""

    @staticmethod
    def child_spec():
        return 42


def make(*args, **kwargs):
    return ("made", args, kwargs)


START = (Counter, "start_link", [10])
SPEC = {"id": "counter", "start": START}


def refusal(child, **options):
    with pytest.raises(ChildSpecError) as caught:
        normalise(child, **options)
    return caught.value


def reason(child, **options):
    return refusal(child, **options).reason


# ---- forms of a child


def test_a_class_stands_for_its_child_spec():
    """ESUP-02. `Counter` in a list of children is `Counter.child_spec()`."""
    spec = normalise(Counter)
    assert spec.id == "Counter"
    assert spec.call() == ("Counter", (), {})


def test_a_tuple_stands_for_the_child_spec_with_arguments():
    """ESUP-02. `(Counter, 10, 20)` is `Counter.child_spec(10, 20)`; JSON writes it as a list."""
    for child in [(Counter, 10, 20), [Counter, 10, 20]]:
        assert normalise(child).call() == ("Counter", (10, 20), {})


def test_a_tuple_of_a_class_alone_is_the_class():
    """`(Counter,)` has no arguments, which is the same as `Counter`."""
    assert normalise((Counter,)) == normalise(Counter)


def test_a_dictionary_in_a_class_tuple_is_an_argument():
    """ESUP-02. Only the first place of a tuple is looked at; the rest are arguments."""
    assert normalise((Counter, SPEC)).call() == ("Counter", (SPEC,), {})


def test_the_old_six_tuple_is_understood():
    """SADM-24. OTP's (id, start, restart, shutdown, type, modules) is a child spec too."""
    spec = normalise(("old", START, "transient", 2.0, "worker", [Counter]))
    assert (spec.id, spec.restart, spec.shutdown) == ("old", "transient", 2.0)
    assert reason(("old", START, "always", 2.0, "worker", [Counter])) == (
        "invalid_restart_type",
        "always",
    )


def test_six_elements_with_a_class_first_are_a_class_and_five_arguments():
    """A class in the first place always means its child_spec, however many arguments follow."""
    assert normalise((Counter, 1, 2, 3, 4, 5)).call() == ("Counter", (1, 2, 3, 4, 5), {})


def test_a_child_may_be_an_import_path():
    """Specs can stand in YAML, TOML and JSON, where there are no classes."""
    path = "tests_of_child_spec:Counter"
    module = types.ModuleType("tests_of_child_spec")
    module.Counter = Counter
    sys.modules[module.__name__] = module
    try:
        assert normalise(path) == normalise(Counter)
        assert normalise([path, 10]).call() == ("Counter", (10,), {})
        assert normalise([path, 1, 2, 3, 4, 5]).call() == ("Counter", (1, 2, 3, 4, 5), {})
        spec = json.loads(json.dumps({"id": "c", "start": [path, "start_link", [10], {"a": 1}]}))
        assert normalise(spec).call() == ("Counter", (10,), {"a": 1})
        assert (
            normalise([path, [path, "start_link", []], "permanent", 5.0, "worker", []]).id == path
        )
    finally:
        del sys.modules[module.__name__]


def test_a_checked_spec_is_a_child_as_it_is():
    """Checking twice must neither fail nor copy."""
    spec = normalise(SPEC)
    assert normalise(spec) is spec
    assert normalise_dynamic(spec) is spec


def test_a_child_spec_function_may_answer_a_checked_spec():
    """A class is free to hand out a spec that it checked itself."""

    class Ready:
        @staticmethod
        def child_spec():
            return normalise(SPEC)

    assert normalise(Ready) == normalise(SPEC)


@pytest.mark.parametrize(
    ("child", "missing"),
    [
        (Task, "'fn'"),
        ((Task,), "'fn'"),
        (Wrapper, "'mfa'"),
        ((Silent, 1), "too many positional arguments"),
    ],
)
def test_arguments_for_child_spec_that_do_not_fit_are_the_callers_mistake(child, missing):
    """The error says which argument is missing, and names no function of ours."""
    for check in (normalise, normalise_dynamic, override):
        with pytest.raises(ChildSpecError, match=missing) as error:
            check(child)
        assert error.value.reason == ("invalid_child_spec", child)
        assert "_" not in str(error.value)


def test_what_a_child_spec_raises_reaches_the_caller_as_it_is():
    """It knows best what was wrong, and a TypeError of its own is not about its arguments."""

    class Broken:
        @staticmethod
        def child_spec(number):
            raise TypeError(f"not {number}")

    with pytest.raises(TypeError, match="not 1"):
        normalise((Broken, 1))


@pytest.mark.parametrize("child", [Supervisor, (Supervisor, [Silent]), (Supervisor, Silent, 1)])
def test_bare_supervisor_is_no_child(child):
    """Its child_spec is a helper: (Supervisor, [A, B]) would start A with the argument B."""
    for check in (normalise, normalise_dynamic, override):
        with pytest.raises(ChildSpecError, match="a subclass of Supervisor, or a dict") as error:
            check(child)
        assert error.value.reason == ("invalid_child_spec", child)
    start = (Supervisor, "start_link", [[Silent]])
    assert normalise({"id": "sup", "type": "supervisor", "start": start}).type == "supervisor"
    mine = type("Mine", (Supervisor,), {})
    assert normalise((mine, [Silent])).start.args == ([Silent],)


# ---- no child at all


@pytest.mark.parametrize(
    ("child", "hint"),
    [
        (NoSpec, "NoSpec has no child_spec"),
        ((NoSpec, 1), "NoSpec has no child_spec"),
        (Plain, "plain Pykka actor"),
        ((Plain, 1), "Wrapper.child_spec(mfa=(Plain.start, [args]))"),
        (42, "expected a child to be a dictionary, a class, or a tuple"),
        (None, "got: None"),
        ("Counter", "got: 'Counter'"),
        ((), "got: ()"),
        ([1, 2], "got: [1, 2]"),
        (make, "expected a child to be a dictionary, a class, or a tuple"),
    ],
)
def test_what_is_no_child_is_named_for_what_it_is(child, hint):
    """SSPC-10, ESUP-06. A class without child_spec, a Pykka class and nonsense need three cures."""
    error = refusal(child)
    assert error.reason == ("invalid_child_spec", child)
    assert hint in str(error)


def test_a_child_spec_that_answers_nonsense_is_named():
    """SSPC-10. The mistake is in the class, so the class is named."""
    error = refusal(Silent)
    assert error.reason == ("invalid_child_spec", 42)
    assert "Silent.child_spec" in str(error)


@pytest.mark.parametrize(
    "path", ["no_such_package_here:Counter", "json:no_such_name", "json:decoder.nobody"]
)
def test_an_import_path_that_leads_nowhere_is_refused_with_the_import_error(path):
    """A mistyped path in a YAML file must be found by reading the message."""
    error = refusal(path)
    assert error.reason == ("invalid_child_spec", path)
    assert f"cannot import {path!r}" in str(error)
    start = (path, "start_link", [])
    error = refusal({"id": "far", "start": start})
    assert error.reason == ("invalid_mfa", start)
    assert str(error).startswith(f"child 'far': cannot import {path!r}: ")


def test_a_module_that_fails_while_it_is_imported_is_an_import_error_too(tmp_path, monkeypatch):
    """Whatever a module raises, the caller learns which path of which child it was."""
    (tmp_path / "broken_for_child_spec.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    error = refusal({"id": "b", "start": ("broken_for_child_spec:f", [])})
    assert "child 'b': cannot import 'broken_for_child_spec:f': ZeroDivisionError" in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError)


# ---- the start function


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        ((Counter, "start_link", [1]), ("Counter", (1,), {})),
        ((Counter, "start_link", (1,)), ("Counter", (1,), {})),
        ([Counter, "start_link", [1]], ("Counter", (1,), {})),
        ((Counter, "start_link", [1], {"name": "c"}), ("Counter", (1,), {"name": "c"})),
        ((Counter, "start_link", [], {}), ("Counter", (), {})),
        ((make, [1, 2]), ("made", (1, 2), {})),
        ([make, []], ("made", (), {})),
        ((make, [1], {"a": 2}), ("made", (1,), {"a": 2})),
        ((functools.partial(make, 0), [1]), ("made", (0, 1), {})),
        ((Counter.start_link, [1]), ("Counter", (1,), {})),
        ((Counter(), "start_link", [1]), ("Counter", (1,), {})),
        ((json, "loads", ["[1]"]), [1]),
        (("json:loads", ["[1]"]), [1]),
        (("json:decoder.JSONDecoder", []), None),
    ],
)
def test_every_form_of_start_is_called_as_it_says(start, answer):
    """SSPC-02. Class or callable, tuple or list, with and without keywords, by import path too."""
    spec = normalise({"id": 1, "start": start})
    if answer is not None:
        assert spec.call() == answer
    else:
        assert isinstance(spec.call(), json.JSONDecoder)
    given_back = as_dict(spec)["start"]
    assert given_back == start
    assert type(given_back) is type(start)


@pytest.mark.parametrize(
    "start",
    [
        "start_link",
        make,
        Counter,
        None,
        (),
        (make,),
        (Counter, "start_link"),
        (Counter, "start_link", 10),
        (Counter, "start_link", "abc"),
        (Counter, "start_link", {"a": 1}),
        (Counter, "start_link", [], []),
        (Counter, "start_link", [], {1: 2}),
        (Counter, "start_link", [], {}, 5),
        (Counter, None, []),
        (Counter, [10]),
        (42, [1]),
        (42, "no_such_method", []),
        ("Counter", "start_link", []),
        (make, [1], None),
        (make, range(3)),
    ],
)
def test_a_start_that_nobody_can_call_is_refused(start):
    """SSPC-02. The reason holds the start as it was given, the message the child and the forms."""
    error = refusal({"id": "counter", "start": start})
    assert error.reason == ("invalid_mfa", start)
    assert str(error).startswith("child 'counter': expected ")


def test_a_class_that_starts_by_start_link_is_not_called_itself():
    """`(Counter, [10])` would make an object and no process; the message shows what was meant."""
    error = refusal({"id": "c", "start": (Counter, [10])})
    assert "(Counter, 'start_link', [args])" in str(error)


def test_a_method_is_looked_up_when_the_child_is_started(monkeypatch):
    """SFAI-06. An undefined start function is a failed start, not a wrong spec."""
    spec = normalise({"id": "c", "start": (Counter, "later", [1])})
    with pytest.raises(AttributeError):
        spec.call()
    monkeypatch.setattr(Counter, "later", staticmethod(make), raising=False)
    assert spec.call() == ("made", (1,), {})


def test_extra_arguments_come_before_the_specs_own():
    """DSUP-12. `extra_arguments` are prepended to each start call."""
    assert normalise(SPEC).call((1, 2)) == ("Counter", (1, 2, 10), {})
    assert normalise({"id": 1, "start": (make, [3], {"a": 4})}).call([1, 2]) == (
        "made",
        (1, 2, 3),
        {"a": 4},
    )


def test_a_start_keeps_no_list_that_somebody_may_change_later():
    """The restart of a year from now must be the start that was checked."""
    args, kwargs = [1], {"a": 1}
    spec = normalise({"id": 1, "start": (make, args, kwargs)})
    args.append(2)
    kwargs["b"] = 2
    as_dict(spec)["start"][1].append(3)
    assert spec.call() == ("made", (1,), {"a": 1})


def test_what_starts_a_child_raises_as_it_is():
    """SFAI-04. The supervisor tells a StartError from other exceptions; none is wrapped here."""
    with pytest.raises(ZeroDivisionError):
        normalise({"id": 1, "start": (divmod, [1, 0])}).call()


def test_another_field_may_hold_a_start():
    """A Wrapper takes every form of start as its `mfa`, and a wrong one is called by that name."""
    assert parse_start((make, [1]))() == ("made", (1,), {})
    with pytest.raises(ChildSpecError, match=r"^expected mfa to be ") as caught:
        parse_start(make, field="mfa")
    assert caught.value.reason == ("invalid_mfa", make)


# ---- fields


def test_defaults_of_a_worker():
    """SSPC-13. Left out, a field has OTP's default; 5000 ms are 5 seconds here."""
    assert as_dict(normalise(SPEC)) == {
        "id": "counter",
        "start": START,
        "restart": "permanent",
        "shutdown": 5.0,
        "type": "worker",
        "modules": [Counter],
        "significant": False,
    }


def test_a_supervisor_has_all_the_time_it_needs():
    """SSPC-13. The default shutdown of a supervisor is "infinity": its own children need time."""
    assert normalise({**SPEC, "type": "supervisor"}).shutdown == "infinity"


def test_a_class_may_know_its_default_shutdown():
    """A Wrapper needs a second more than its kill_timeout, in a bare dictionary too."""
    start = (Slow, "start_link", [], {"kill_timeout": 9.0})
    assert normalise({"id": 1, "start": start}).shutdown == 10.0
    assert normalise({"id": 1, "start": start, "shutdown": 1.0}).shutdown == 1.0
    assert normalise({"id": 1, "start": (Slow.start_link, [])}).shutdown == 6.0
    assert normalise(Slow).shutdown == 6.0


def test_default_modules_name_whose_code_it_is():
    """SSPC-13. `modules` is the class; of a plain function its module, by name."""
    assert normalise(SPEC).modules == (Counter,)
    assert normalise({"id": 1, "start": (Counter.start_link, [])}).modules == (Counter,)
    assert normalise({"id": 1, "start": (Counter(), "start_link", [])}).modules == (Counter,)
    assert normalise({"id": 1, "start": (json, "loads", ["1"])}).modules == (json,)
    assert normalise({"id": 1, "start": (make, [])}).modules == (__name__,)
    assert normalise({"id": 1, "start": (functools.partial(make), [])}).modules == (__name__,)


def test_a_spec_needs_an_id_and_a_start():
    """SSPC-01. The reasons are the bare words, and a missing start names the child."""
    assert reason({"start": START}) == "missing_id"
    assert reason({}) == "missing_id"
    error = refusal({"id": "counter"})
    assert error.reason == "missing_start"
    assert "child 'counter': expected a 'start'" in str(error)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("restart", "always", ("invalid_restart_type", "always")),  # SSPC-03
        ("restart", None, ("invalid_restart_type", None)),
        ("restart", ["permanent"], ("invalid_restart_type", ["permanent"])),
        ("shutdown", -10, ("invalid_shutdown", -10)),  # SSPC-04
        ("shutdown", -0.5, ("invalid_shutdown", -0.5)),
        ("shutdown", "soon", ("invalid_shutdown", "soon")),
        ("shutdown", None, ("invalid_shutdown", None)),
        ("shutdown", True, ("invalid_shutdown", True)),
        ("shutdown", math.inf, ("invalid_shutdown", math.inf)),
        ("shutdown", [], ("invalid_shutdown", [])),
        ("type", "manager", ("invalid_child_type", "manager")),  # SSPC-05
        ("type", Counter, ("invalid_child_type", Counter)),
        ("modules", "Counter", ("invalid_modules", "Counter")),  # SSPC-06
        ("modules", Counter, ("invalid_modules", Counter)),
        ("modules", [Counter, 7], ("invalid_module", 7)),
        ("significant", "yes", ("invalid_significant", "yes")),  # SSPC-07
        ("significant", 1, ("invalid_significant", 1)),
        ("significant", None, ("invalid_significant", None)),
    ],
)
def test_a_wrong_field_is_named_with_its_child_and_its_value(field, value, expected):
    """SSPC-03, 04, 05, 06, 07. OTP's reason for the program, a sentence for the reader."""
    error = refusal({**SPEC, field: value})
    assert error.reason == expected
    assert isinstance(error, ValueError)
    assert str(error).startswith(f"child 'counter': expected {field} to ")


def test_not_a_number_is_no_shutdown_time():
    """SSPC-04. A wait of NaN seconds would end never or at once, nobody knows."""
    word, value = reason({**SPEC, "shutdown": math.nan})
    assert word == "invalid_shutdown"
    assert math.isnan(value)


def test_the_sentence_says_what_was_expected_what_came():
    """SSPC-03. The message can be read without the source at hand."""
    assert str(refusal({**SPEC, "restart": "always"})) == (
        "child 'counter': expected restart to be 'permanent', 'transient' or 'temporary',"
        " got: 'always'"
    )


@pytest.mark.parametrize("kind", ["worker", "supervisor"])
@pytest.mark.parametrize("shutdown", [0, 0.0, 5, 2.5, 10**400, "infinity", "brutal_kill"])
def test_any_shutdown_is_legal_for_either_type(kind, shutdown):
    """SSPC-04, SSPC-15. "infinity" for a worker, seconds for a supervisor: the user's choice."""
    assert normalise({**SPEC, "type": kind, "shutdown": shutdown}).shutdown == shutdown


@pytest.mark.parametrize(
    "child_id", [None, 0, 1.5, True, "a", b"a", ("worker", 3), frozenset({1}), Counter, make]
)
def test_any_hashable_term_is_an_id(child_id):
    """SSPC-16. Ids are the user's terms."""
    assert normalise({**SPEC, "id": child_id}).id is child_id


@pytest.mark.parametrize("child_id", [[1], {}, {1}, ("worker", [3])])
def test_an_unhashable_id_is_refused(child_id):
    """A child is found by its id, so the id must be hashable; the sentence says so."""
    error = refusal({**SPEC, "id": child_id})
    assert error.reason == ("invalid_id", child_id)
    assert "expected a child's id to be hashable" in str(error)


@pytest.mark.parametrize("modules", [[], [Counter], (Counter, json, "name"), "dynamic"])
def test_modules_are_a_list_or_dynamic(modules):
    """SSPC-06. Classes, modules and names may stand there; "dynamic" is OTP's word for unknown."""
    listed = as_dict(normalise({**SPEC, "modules": modules}))["modules"]
    assert listed == (modules if modules == "dynamic" else list(modules))


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("restrat", "did you mean 'restart'?"),
        ("shut_down", "did you mean 'shutdown'?"),
        ("Start", "did you mean 'start'?"),
        ("zzz", "known are 'id', 'start'"),
        (5, "known are 'id', 'start'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(key, hint):
    """SINI-11 (we refuse). A typo in a dictionary must not be silent."""
    error = refusal({**SPEC, key: 1})
    assert error.reason == ("unknown_key", key)
    assert f"child 'counter': unknown key {key!r}" in str(error)
    assert hint in str(error)


def test_a_typo_is_named_rather_than_the_key_that_is_missing_for_it():
    """`{"strat": ...}` has no start, but the typo is what the reader has to see."""
    assert reason({"id": 1, "strat": START}) == ("unknown_key", "strat")


# ---- significant children


def test_a_permanent_child_cannot_be_significant():
    """SSPC-09. A permanent child never ends for good, by default too."""
    expected = ("bad_combination", [("restart", "permanent"), ("significant", True)])
    assert reason({**SPEC, "significant": True}) == expected
    assert reason({**SPEC, "significant": True, "restart": "permanent"}) == expected
    assert reason({**SPEC, "significant": True}, auto_shutdown="any_significant") == expected


def test_a_significant_child_needs_a_supervisor_that_cares():
    """SSPC-08. Under auto_shutdown "never" nothing would ever come of it."""
    child = {**SPEC, "significant": True, "restart": "transient"}
    expected = ("bad_combination", [("auto_shutdown", "never"), ("significant", True)])
    assert reason(child, auto_shutdown="never") == expected
    assert reason({**SPEC, "significant": True}, auto_shutdown="never") == expected
    assert normalise(child, auto_shutdown="all_significant").significant is True
    with pytest.raises(ChildSpecError) as caught:
        check_significant(normalise(child), "never")
    assert caught.value.reason == expected
    assert reason(normalise(child), auto_shutdown="never") == expected


def test_a_significant_child_passes_where_the_supervisor_is_not_known():
    """SSPC-08. `check_childspecs` knows no supervisor, so it cannot object."""
    child = {**SPEC, "significant": True, "restart": "temporary"}
    assert normalise(child).significant is True
    check_significant(normalise(child), None)


# ---- dynamic supervisors


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        ({}, ("invalid_child_spec", {})),
        ({"id": 1}, ("invalid_child_spec", {"id": 1})),
        ({"start": START}, ("invalid_child_spec", {"start": START})),
        ((1, 2, 3, 4, 5, 6), ("invalid_mfa", 2)),
        ({"id": 1, "start": (Counter, "f", "x")}, ("invalid_mfa", (Counter, "f", "x"))),
        ({**SPEC, "shutdown": -1}, ("invalid_shutdown", -1)),
        ({**SPEC, "significant": True}, ("invalid_significant", True)),
        (
            {**SPEC, "significant": True, "restart": "transient"},
            ("invalid_significant", True),
        ),
        ({**SPEC, "significant": 1}, ("invalid_significant", 1)),
        ({**SPEC, "restrat": 1}, ("unknown_key", "restrat")),
        (42, ("invalid_child_spec", 42)),
    ],
)
def test_a_dynamic_supervisor_has_its_own_refusals(child, expected):
    """DSUP-20. No id or start is an invalid spec as a whole, and nothing there is significant."""
    with pytest.raises(ChildSpecError) as caught:
        normalise_dynamic(child)
    assert caught.value.reason == expected


def test_a_dynamic_supervisor_takes_every_form_of_a_child():
    """DSUP-20. Apart from its refusals a child is a child."""
    for child in [SPEC, Counter, (Counter, 10), ("id", START, "temporary", 5, "worker", [])]:
        assert normalise_dynamic(child) == normalise(child)


def test_a_checked_significant_spec_is_refused_by_a_dynamic_supervisor():
    """DSUP-20. A spec that a Supervisor accepts need not pass here."""
    spec = normalise({**SPEC, "significant": True, "restart": "transient"})
    with pytest.raises(ChildSpecError) as caught:
        normalise_dynamic(spec)
    assert caught.value.reason == ("invalid_significant", True)


# ---- lists of children


def test_children_keep_their_order():
    """SINI-01. They are started in the order of the list."""
    specs = check_all([{**SPEC, "id": n} for n in "bac"])
    assert [spec.id for spec in specs] == ["b", "a", "c"]
    assert check_all(iter([Counter])) == [normalise(Counter)]
    assert check_all(()) == []


def test_an_id_that_comes_twice_is_refused():
    """SSPC-11, ESUP-07. The same class twice needs an id for one of them."""
    for children in [[SPEC, SPEC], [SPEC, Slow, {**SPEC}]]:
        with pytest.raises(ChildSpecError, match=r"Supervisor\.child_spec") as caught:
            check_all(children)
        assert caught.value.reason == ("duplicate_child_name", "counter")
    with pytest.raises(ChildSpecError) as caught:
        check_all([Counter, (Counter, 10)])
    assert caught.value.reason == ("duplicate_child_name", "Counter")


def test_ids_compare_with_their_types():
    """SSPC-16. 1, 1.0 and True are three ids, as they are three terms."""
    ids = [1, 1.0, True, (1,), (1.0,), (True,), "1"]
    assert len(check_all([{**SPEC, "id": child_id} for child_id in ids])) == len(ids)
    with pytest.raises(ChildSpecError):
        check_all([{**SPEC, "id": (1, "a")}, {**SPEC, "id": (1, "a")}])


def test_the_first_wrong_child_is_the_one_that_is_named():
    """SSPC-11. Checked in order, the message is about the first that must be mended."""
    with pytest.raises(ChildSpecError, match=r"^child 'b': ") as caught:
        check_all([SPEC, {**SPEC, "id": "b", "restart": 0}, SPEC])
    assert caught.value.reason == ("invalid_restart_type", 0)


def test_a_list_of_children_is_checked_against_the_supervisor():
    """SSPC-08. The flags and the children are checked together."""
    child = {**SPEC, "significant": True, "restart": "transient"}
    assert check_all([child], "any_significant")[0].significant is True
    with pytest.raises(ChildSpecError):
        check_all([child], "never")


@pytest.mark.parametrize("children", [None, 42, "Counter", SPEC, Counter, b"x"])
def test_what_is_no_list_of_children_is_refused(children):
    """SSPC-12, SINI-15. A single child without its list is the likeliest slip."""
    with pytest.raises(ChildSpecError, match=r"^expected a list of children") as caught:
        check_all(children)
    assert caught.value.reason == ("badarg", children)


# ---- dictionaries out


def test_class_spec_is_as_short_as_the_class_allows():
    """ESUP-03. Only what the class sets stands in its child_spec."""
    assert Counter.child_spec(10) == {"id": "Counter", "start": START}


def test_class_spec_passes_keywords_as_a_fourth_element():
    """ESUP-03. Keywords reach start_link, and a name is an id."""
    assert Counter.child_spec(10, name="shop") == {
        "id": "shop",
        "start": (Counter, "start_link", [10], {"name": "shop"}),
    }


def test_class_attributes_are_the_defaults_of_child_spec():
    """ESUP-03, ESUP-04. A supervisor class says its type, a task class its restart."""

    class Sub(Counter):
        id = ("sub", 1)
        restart = "transient"
        shutdown = 0
        type = "supervisor"
        significant = True

    assert Sub.child_spec(name="ignored") == {
        "id": ("sub", 1),
        "start": (Sub, "start_link", [], {"name": "ignored"}),
        "restart": "transient",
        "shutdown": 0,
        "type": "supervisor",
        "significant": True,
    }


def test_a_name_of_any_kind_is_an_id():
    """DSUP-23. Several unnamed classes clash, several named ones fit under one supervisor."""
    via = ("registry", "key")
    assert Counter.child_spec(name=via)["id"] == via
    assert len(check_all([Counter.child_spec(name=name) for name in ("a", "b", via)])) == 3


def test_class_attributes_that_are_none_or_methods_set_nothing():
    """A base class says None for "not set", and users may have methods called `type` or `id`."""

    class Odd(Counter):
        restart = None
        shutdown = None

        def type(self):
            return "mine"

        @property
        def id(self):
            return 7

    assert Odd.child_spec() == {"id": "Odd", "start": (Odd, "start_link", [])}


def test_override_replaces_keys():
    """ESUP-05. Any form of a child becomes a dictionary with the given keys replaced."""
    assert override((Counter, 10), id="c-2", restart="temporary") == {
        "id": "c-2",
        "start": START,
        "restart": "temporary",
    }
    assert override({"start": START}, id=1) == {"id": 1, "start": START}
    assert override(normalise(SPEC), shutdown="brutal_kill")["shutdown"] == "brutal_kill"
    assert SPEC == {"id": "counter", "start": START}


def test_override_refuses_an_unknown_key():
    """ESUP-05. `Supervisor.child_spec(Counter, restrat=...)` is caught where it is written."""
    with pytest.raises(ChildSpecError, match="did you mean 'restart'") as caught:
        override(Counter, restrat="temporary")
    assert caught.value.reason == ("unknown_key", "restrat")


def test_override_checks_the_values_that_it_is_given():
    """ESUP-05. A wrong value is caught where it is written, not in the start of a supervisor."""
    with pytest.raises(ChildSpecError, match=r"^child 'Counter': expected restart"):
        override(Counter, restart="always")
    with pytest.raises(ChildSpecError, match="hashable"):
        override(Counter, id=[])


def test_override_leaves_what_must_fit_together_to_the_end():
    """ESUP-05. Two overrides one after the other may pass a combination that is none yet."""
    child = override(override(Counter, significant=True), restart="transient")
    assert normalise(child).significant is True


fields = st.fixed_dictionaries(
    {
        "id": st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.tuples(st.text())),
        "start": st.one_of(
            st.tuples(st.just(Counter), st.just("start_link"), st.lists(st.integers())),
            st.tuples(st.just(make), st.tuples(st.integers())),
            st.tuples(
                st.just(make),
                st.lists(st.integers()),
                st.dictionaries(st.sampled_from("abc"), st.integers()),
            ),
            st.just(["json:dumps", [1]]),
        ),
    },
    optional={
        "restart": st.sampled_from(["permanent", "transient", "temporary"]),
        "shutdown": st.one_of(
            st.integers(min_value=0),
            st.floats(min_value=0, allow_infinity=False, allow_nan=False),
            st.sampled_from(["infinity", "brutal_kill"]),
        ),
        "type": st.sampled_from(["worker", "supervisor"]),
        "modules": st.one_of(st.lists(st.sampled_from([Counter, json, "m"])), st.just("dynamic")),
        "significant": st.just(False),
    },
)


@given(fields)
def test_a_spec_read_back_makes_the_same_spec(child):
    """SSPC-13. get_childspec, changed or not, can be given to start_child again."""
    spec = normalise(child)
    full = as_dict(spec)
    assert {key: full[key] for key in child} == child
    assert set(full) == set(child_spec.KEYS)
    assert normalise(full) == spec
    assert as_dict(normalise(full)) == full


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(
            [Counter, make, "start_link", "permanent", json, "id", "start", "json:loads"]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=6).map(tuple),
        st.dictionaries(st.sampled_from([*child_spec.KEYS, "strat"]), inner, max_size=7),
    ),
    max_leaves=12,
)


@given(anything)
def test_anything_is_a_spec_or_a_child_spec_error(child):
    """SSPC-10. Nonsense from a configuration file is refused with a sentence."""
    for check in (normalise, normalise_dynamic):
        try:
            answer = check(child)
        except ChildSpecError as error:
            answer = error
        assert isinstance(answer, ChildSpec | ChildSpecError)
        assert str(answer)


# ---- what people see


def test_a_spec_shows_what_it_starts_and_no_arguments():
    """Arguments may hold passwords, and specs end up in logs."""
    secret = {"id": "k", "start": (Counter, "start_link", ["pw"], {"password": "pw"})}
    assert (
        repr(normalise(secret)) == "<ChildSpec 'k' permanent worker <Start Counter.start_link/2>>"
    )
    assert repr(parse_start((functools.partial(make, "pw"), []))) == "<Start make/0>"
    assert repr(parse_start((json, "loads", ["1"]))) == "<Start json.loads/1>"
    assert repr(parse_start((Counter(), "start_link", []))) == "<Start Counter.start_link/0>"


def test_a_refusal_shows_no_arguments():
    """Arguments may hold passwords, and messages end up in logs."""
    for start in [
        (Counter, "start_lnk", [{"sasl.password": "pw"}], "x"),
        (Counter, "start_link", {"sasl.password": "pw"}),
    ]:
        assert "pw" not in str(refusal({"id": "k", "start": start}))


def test_a_line_of_which_children_can_be_unpacked():
    """SSHP-01. Entries are (id, child, type, modules), by name and by place."""
    line = normalise(SPEC).info("restarting")
    assert line == ChildInfo("counter", "restarting", "worker", [Counter])
    child_id, child, kind, modules = line
    assert (child_id, child, kind, modules) == (line.id, line.child, line.type, line.modules)
    assert normalise({**SPEC, "modules": "dynamic"}).info(None).modules == "dynamic"


def test_a_hundred_thousand_specs_share_what_they_can():
    """A spec has no dictionary of its own, and what every child has stands in memory once."""
    one, two = normalise({**SPEC, "id": 1}), normalise({**SPEC, "id": 2})
    assert not hasattr(one, "__dict__")
    assert not hasattr(one.start, "__dict__")
    assert one.shutdown is two.shutdown
    assert one.restart is two.restart
    words = "".join(["perm", "anent"])
    assert normalise({**SPEC, "restart": words}).restart is one.restart


# ---- flags


def test_default_flags():
    """SINI-12. Elixir's defaults: 3 restarts in 5 seconds, one_for_one, never."""
    assert check_flags() == Flags("one_for_one", 3, 5.0, "never")
    assert check_dynamic_flags() == DynamicFlags(math.inf, (), 3, 5.0)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"strategy": "one_for_none"}, ("invalid_strategy", "one_for_none")),  # SINI-06
        ({"strategy": None}, ("invalid_strategy", None)),
        ({"max_restarts": -1}, ("invalid_intensity", -1)),  # SINI-07
        ({"max_restarts": 1.0}, ("invalid_intensity", 1.0)),
        ({"max_restarts": True}, ("invalid_intensity", True)),
        ({"max_restarts": "infinity"}, ("invalid_intensity", "infinity")),
        ({"max_seconds": 0}, ("invalid_period", 0)),  # SINI-08
        ({"max_seconds": -1.5}, ("invalid_period", -1.5)),
        ({"max_seconds": True}, ("invalid_period", True)),
        ({"max_seconds": math.inf}, ("invalid_period", math.inf)),
        ({"max_seconds": "5"}, ("invalid_period", "5")),
        ({"auto_shutdown": "always"}, ("invalid_auto_shutdown", "always")),  # SINI-09
        ({"auto_shutdown": False}, ("invalid_auto_shutdown", False)),
    ],
)
def test_a_wrong_flag_is_refused(flags, expected):
    """SINI-06, 07, 08, 09, DSUP-18, DSUP-19. The reason has OTP's word, the sentence ours."""
    for check in (check_flags, check_dynamic_flags):
        with pytest.raises(ChildSpecError) as caught:
            check(**flags)
        assert caught.value.reason == expected
        assert str(caught.value).startswith(f"expected {next(iter(flags))} to be ")


def test_not_a_number_is_no_period():
    """SINI-08. A window of NaN seconds would hold every restart or none."""
    with pytest.raises(ChildSpecError) as caught:
        check_flags(max_seconds=math.nan)
    assert caught.value.reason[0] == "invalid_period"


@pytest.mark.parametrize("strategy", child_spec.STRATEGIES)
@pytest.mark.parametrize("auto_shutdown", child_spec.AUTO_SHUTDOWNS)
def test_right_flags_pass(strategy, auto_shutdown):
    """SINI-06, SINI-09. No restart at all is a legal intensity, half a second a legal period."""
    flags = check_flags(strategy, 0, 0.5, auto_shutdown)
    assert flags == Flags(strategy, 0, 0.5, auto_shutdown)


def test_simple_one_for_one_is_refused_with_what_to_use():
    """ESUP-10. The strategy that we did not port has a successor, and the message names it."""
    with pytest.raises(ChildSpecError, match="DynamicSupervisor") as caught:
        check_flags("simple_one_for_one")
    assert caught.value.reason == ("invalid_strategy", "simple_one_for_one")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("stratgy", "did you mean 'strategy'?"),
        ("intensity", "did you mean 'max_restarts'?"),
        ("period", "did you mean 'max_seconds'?"),
        ("nam", "did you mean 'name'?"),
        ("zzz", "known are 'strategy'"),
    ],
)
def test_an_unknown_flag_is_refused_with_the_nearest_known_one(key, hint):
    """SINI-11 (we refuse). OTP's own names lead to ours."""
    with pytest.raises(ChildSpecError) as caught:
        check_flags(**{key: 1})
    assert caught.value.reason == ("unknown_key", key)
    assert hint in str(caught.value)
    with pytest.raises(ChildSpecError, match="did you mean 'max_children'"):
        check_dynamic_flags(max_childs=1)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one", "simple_one_for_one"])
def test_a_dynamic_supervisor_has_one_strategy(strategy):
    """DSUP-18. Without an order of children there is nothing but one_for_one."""
    assert check_dynamic_flags(strategy="one_for_one") == check_dynamic_flags()
    with pytest.raises(ChildSpecError) as caught:
        check_dynamic_flags(strategy=strategy)
    assert caught.value.reason == ("invalid_strategy", strategy)


def test_a_dynamic_supervisor_never_shuts_itself_down():
    """SAUT-11. It has no significant children, so only "never" makes sense."""
    assert check_dynamic_flags(auto_shutdown="never") == check_dynamic_flags()
    with pytest.raises(ChildSpecError) as caught:
        check_dynamic_flags(auto_shutdown="any_significant")
    assert caught.value.reason == ("invalid_auto_shutdown", "any_significant")


@pytest.mark.parametrize("limit", [-1, 1.5, True, None, "many", math.inf])
def test_a_wrong_max_children_is_refused(limit):
    """DSUP-19. A count, or the word "infinity"."""
    with pytest.raises(ChildSpecError) as caught:
        check_dynamic_flags(max_children=limit)
    assert caught.value.reason == ("invalid_max_children", limit)


def test_max_children_can_be_compared_with_a_count():
    """DSUP-08. The check at each start is one comparison, with "infinity" too."""
    assert check_dynamic_flags(0).max_children == 0
    assert check_dynamic_flags("infinity").max_children > 10**9


@pytest.mark.parametrize("extra", [None, "ab", 1, {"a": 1}])
def test_wrong_extra_arguments_are_refused(extra):
    """DSUP-19. They stand before each child's own arguments, so they are a list."""
    with pytest.raises(ChildSpecError) as caught:
        check_dynamic_flags(extra_arguments=extra)
    assert caught.value.reason == ("invalid_extra_arguments", extra)


def test_extra_arguments_are_a_tuple_afterwards():
    """DSUP-12. Nobody can change them behind the supervisor's back."""
    assert check_dynamic_flags(extra_arguments=[1, 2]).extra_arguments == (1, 2)


def test_start_forms_need_no_child():
    """UNSET, not None, says that there is no child to name: None is an id."""
    with pytest.raises(ChildSpecError, match=r"^child None: "):
        parse_start(0, child_id=None)
    with pytest.raises(ChildSpecError, match=r"^expected start "):
        parse_start(0, child_id=UNSET)


def test_a_partials_own_arguments_count_for_the_shutdown_of_a_wrapper():
    """However it is written, a Wrapper has the time to kill what it wraps."""
    start = functools.partial(Wrapper.start_link, (make, []), kill_timeout=9.0)
    assert normalise({"id": 1, "start": (start, [])}).shutdown == 10.0
    outer = functools.partial(start, kill_timeout=20.0)
    assert normalise({"id": 1, "start": (outer, [])}).shutdown == 21.0
