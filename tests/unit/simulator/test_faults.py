"""The simulator's fault rules: which requests fail, and how often."""

import pytest

from simulator.faults import KINDS, FaultError, Faults

MANY = 2_000


def struck(faults: Faults, count: int, path: str = "/users", **who: str) -> list[bool]:
    """Ask for a fault *count* times."""
    account, key = who.get("account", "acme"), who.get("key", "k")
    return [faults.pick(account, key, path, ["offset", "cursor"]) is not None for _ in range(count)]


def test_next_limits_how_often_a_rule_fires() -> None:
    """One request passes, the next two fail, and all others pass."""
    faults = Faults()
    faults.add({"kind": "status_500", "next": 2, "skip": 1})
    assert struck(faults, 5) == [False, True, True, False, False]
    assert faults.fired == {"status_500": 2}


def test_each_limits_how_often_a_rule_fires_for_one_path() -> None:
    """Every record is denied once, and shown afterwards."""
    faults = Faults()
    faults.add({"kind": "status_404", "path": "/schedules/*", "each": 1})
    assert struck(faults, 2, "/schedules/A") == [True, False]
    assert struck(faults, 2, "/schedules/B") == [True, False]
    assert struck(faults, 1, "/schedules") == [False]


def test_a_rule_that_lasts_some_seconds_counts_them_from_its_first_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults, now = Faults(), [1_000.0]
    monkeypatch.setattr("simulator.faults.time.monotonic", lambda: now[0])
    faults.add({"kind": "status_404", "path": "/teams/*", "lasting": 5})
    now[0] += 60
    assert struck(faults, 1, "/teams/A") == [True]
    now[0] += 4.9
    assert struck(faults, 1, "/teams/B") == [True]
    now[0] += 0.1
    assert struck(faults, 1, "/teams/C") == [False]


def test_probability_is_drawn_from_a_seed() -> None:
    """Two simulators with the same rule fail at the same requests."""
    runs = []
    for _ in range(2):
        faults = Faults()
        faults.add({"kind": "drop_middle", "probability": 0.25, "seed": 5})
        runs.append(struck(faults, MANY))
    assert runs[0] == runs[1]
    assert 0.2 < sum(runs[0]) / MANY < 0.3


@pytest.mark.parametrize(
    ("rule", "path", "who", "hits"),
    [
        ({"path": "/incidents*"}, "/incidents/Q1/notes", {}, True),
        ({"path": "/incidents"}, "/incidents/Q1", {}, False),
        ({"account": "acme"}, "/users", {"account": "other"}, False),
        ({"key": "k"}, "/users", {"key": "k2"}, False),
        ({"account": "acme", "key": "k", "path": "*"}, "/users", {}, True),
    ],
)
def test_rules_choose_by_account_key_and_path(
    rule: dict[str, str], path: str, who: dict[str, str], hits: bool
) -> None:
    """A rule only affects requests that it names."""
    faults = Faults()
    faults.add({"kind": "status_503", **rule})
    assert struck(faults, 1, path, **who) == [hits]


def test_a_rule_can_ask_for_a_parameter() -> None:
    faults = Faults()
    faults.add({"kind": "status_504", "param": "since", "next": 1})
    assert faults.pick("acme", "k", "/schedules/A", ["time_zone"]) is None
    assert faults.pick("acme", "k", "/schedules/A", ["since", "until"]) is not None


def test_cursor_faults_wait_for_a_cursor() -> None:
    """A fault of cursors is not used up by a request without a cursor."""
    faults = Faults()
    faults.add({"kind": "cursor_expired", "next": 1})
    assert faults.pick("acme", "k", "/audit/records", ["since"]) is None
    assert faults.pick("acme", "k", "/audit/records", ["cursor"]) is not None


def test_cleared_rules_have_no_effect() -> None:
    """One rule can be cleared, or all of them."""
    faults = Faults()
    first, _ = faults.add({"kind": "status_500"}), faults.add({"kind": "hang"})
    faults.clear(first.number)
    assert [rule.kind for rule in faults.rules] == ["hang"]
    faults.clear()
    assert struck(faults, 1) == [False]


@pytest.mark.parametrize("rule", [{"kind": "meteor"}, {}, {"kind": "hang", "colour": "red"}])
def test_nonsense_is_refused(rule: dict[str, str]) -> None:
    """A rule of an unknown kind, or with an unknown field, is refused."""
    with pytest.raises(FaultError):
        Faults().add(rule)
    assert len(KINDS) == len(set(KINDS))
