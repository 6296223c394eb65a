"""A thousand random scenarios, played here, with what the real OTP did in them.

The answers were recorded once (record_otp_scenarios.py, OTP 25); no Erlang is needed here. One
known difference is put right in the recording: what OTP 25 leaves in the mail of a starter whose
server ignored (LNKS-07), and later OTPs do not.
"""

import json
from pathlib import Path

import pytest

from tests.otp.restart_model import predict
from tests.otp.scenarios import play

DATA = Path(__file__).parents[1] / "data" / "otp_scenarios.jsonl"
RECORDS = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
CHUNK = 50


def of_family(family):
    return [record for record in RECORDS if record["scenario"]["family"] == family]


def differences(scenario, ours, theirs):
    """What a reader needs to see of a scenario that went another way here than on OTP."""
    steps = ["the start", *scenario["steps"], "the end"]
    for place, step in enumerate(steps):
        mine, other = ours[place : place + 1], theirs[place : place + 1]
        if mine != other:
            return f"{json.dumps(scenario)}\nafter {step}\nours {mine}\nOTP  {other}"
    return None if ours == theirs else "more was seen on one side than on the other"


def compare(records, player):
    wrong = []
    for record in records:
        scenario, theirs = record["scenario"], record["seen"]
        ours = json.loads(json.dumps(player(scenario)))
        if ours != theirs:
            wrong.append(differences(scenario, ours, theirs))
    assert not wrong, "\n\n".join([f"{len(wrong)} of {len(records)} differ from OTP", *wrong[:3]])


def chunks(family):
    records = of_family(family)
    return [
        pytest.param(records[place : place + CHUNK], id=f"from {place}")
        for place in range(0, len(records), CHUNK)
    ]


def test_there_is_much_to_compare():
    """A data file that was cut short must not pass for a thousand good answers."""
    assert len(RECORDS) == 1000
    assert len(of_family("supervisor")) == 600
    assert len(of_family("server")) == 400


@pytest.mark.parametrize("records", chunks("supervisor"))
def test_supervisors_do_what_otp_does(records):
    """Restarts, strategies, retries, limits, automatic shutdown and operators' calls, in every
    mixture that came up. SRTY-01, SRTY-02, SRTY-03, SRTY-04, SSTR-02, SSTR-03, SSTR-15, SSTR-16,
    SMUL-01, SMUL-02, SINT-01, SINT-06, SINT-12, SAUT-01, SAUT-05, SADM-05, SADM-10, SADM-16,
    SADM-17, SADM-19, SFAI-01, SFAI-04, SFAI-07."""
    compare(records, play)


@pytest.mark.parametrize("records", chunks("server"))
def test_servers_do_what_otp_does(records):
    """Callbacks, their answers and what they raise, signals, suspension and stops. INIT-01,
    INIT-07, INIT-10, INIT-11, INIT-15, INIT-16, CALL-08, CALL-09, CALL-11, CALL-14, CALL-20,
    CIC-12, CIC-17, CIC-18, TERM-01, TERM-02, TERM-08, TERM-14, TERM-19, STOP-01, STOP-05, SYS-05,
    SYS-07, SYS-09, SYS-11, LINK-03."""
    compare(records, play)


@pytest.mark.parametrize("records", chunks("supervisor"))
def test_the_model_does_what_otp_does(records):
    """What test_restart_model.py compares with is OTP's policy, not ours written twice."""
    compare(records, predict)
