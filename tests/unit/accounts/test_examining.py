"""The conclusions from PagerDuty's answers about a key."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from tasks.accounts.examining import Access, identify, survey
from tasks.reading.catalog import CATALOG
from workers.errors import Fault, KeyRefused
from workers.pagerduty.replies import Outcome, Reply

KEY = "u+AbCdEfGhIjKlMnOp12"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
LINK = "https://acme.pagerduty.com/x/P1"
USER = {"user": {"id": "PU1", "html_url": LINK}}
UNKNOWN = Reply(Outcome.STOP, 401, reason="key")
ACCOUNT = Reply(Outcome.BAD_REQUEST, 400, reason="error")
AWAY = Reply(Outcome.RETRY, 503, reason="error")
SILENT = Reply(Outcome.RETRY, None, reason="error", timed_out=True)
NO_PLAN = Reply(Outcome.UNAVAILABLE, 402, reason="plan", words="Required abilities are unavailable")
NO_ROLE = Reply(Outcome.UNAVAILABLE, 403, reason="role", words="Insufficient permissions")


def ok(data: dict[str, Any]) -> Reply:
    return Reply(Outcome.OK, 200, orjson.dumps(data))


class Answers:
    """Stands for PagerDuty: an answer for each region and path, empty lists where none is set."""

    def __init__(self, answers: dict[str, Reply]) -> None:
        self._answers = answers
        self.asked: list[tuple[str, Sequence[tuple[str, str]]]] = []
        self.classes: dict[str, str] = {}  # by path, for paths that have one

    def __call__(
        self, region: str, path: str, params: Sequence[tuple[str, str]], endpoint_class: str = "", /
    ) -> Reply:
        self.asked.append((f"{region}{path}", params))
        if endpoint_class:
            self.classes[path] = endpoint_class
        return self._answers.get(f"{region}{path}", ok({path.rpartition("/")[2]: []}))


def test_an_account_key_has_no_user_and_its_account_is_read_from_a_link() -> None:
    ask = Answers({"us/users/me": ACCOUNT, "us/users": ok({"users": [{"html_url": LINK}]})})
    found = identify(ask, "us", ["us", "eu"], KEY)
    assert (found.region, found.subdomain, found.credential) == ("us", "acme", "account")
    assert len(found.fingerprint) == 16


def test_a_user_key_is_told_apart() -> None:
    found = identify(Answers({"us/users/me": ok(USER)}), "us", ["us"], KEY)
    assert (found.subdomain, found.credential) == ("acme", "user")


def test_where_users_are_hidden_another_list_names_the_account() -> None:
    teams = ok({"teams": [{"html_url": None}]})
    policies = ok({"escalation_policies": [{"html_url": "https://acme.eu.pagerduty.com/p"}]})
    ask = Answers(
        {
            "eu/users/me": ACCOUNT,
            "eu/users": NO_ROLE,
            "eu/teams": teams,
            "eu/escalation_policies": policies,
        }
    )
    assert identify(ask, "eu", ["us", "eu"], KEY).subdomain == "acme"


@pytest.mark.parametrize("link", ["https://[", "no link", 7, None, "https://localhost/u/P1"])
def test_a_link_that_names_no_account_is_passed_over(link: object) -> None:
    users, teams = [{"html_url": link}], [{"html_url": LINK}]
    ask = Answers(
        {
            "us/users/me": ACCOUNT,
            "us/users": ok({"users": users}),
            "us/teams": ok({"teams": teams}),
        }
    )
    assert identify(ask, "us", ["us"], KEY).subdomain == "acme"


def test_a_key_of_another_region_is_sent_there() -> None:
    ask = Answers({"us/users/me": UNKNOWN, "eu/users/me": ACCOUNT})
    with pytest.raises(KeyRefused, match=r"answers in region eu: connect with --region eu"):
        identify(ask, "us", ["us", "eu"], KEY)


@pytest.mark.parametrize("elsewhere", [UNKNOWN, AWAY])
def test_an_unknown_key_is_refused(elsewhere: Reply) -> None:
    ask = Answers({"us/users/me": UNKNOWN, "eu/users/me": elsewhere})
    with pytest.raises(KeyRefused, match=r"any region \(us, eu\)") as refused:
        identify(ask, "us", ["us", "eu"], KEY)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(("reply", "words"), [(AWAY, "status 503"), (SILENT, "no answer")])
def test_a_region_that_does_not_answer_is_not_taken_for_a_refusal(reply: Reply, words: str) -> None:
    with pytest.raises(Fault, match=words) as away:
        identify(Answers({"us/users/me": reply}), "us", ["us"], KEY)
    assert not isinstance(away.value, KeyRefused)


def test_a_key_that_can_read_nothing_is_refused() -> None:
    lists = ("users", "services", "teams", "escalation_policies", "schedules", "incidents")
    ask = Answers({"us/users/me": ACCOUNT} | {f"us/{name}": NO_ROLE for name in lists})
    with pytest.raises(KeyRefused, match="users: 403"):
        identify(ask, "us", ["us"], KEY)


def test_a_key_disabled_while_it_is_probed_is_refused() -> None:
    with pytest.raises(KeyRefused, match="disabled"):
        identify(Answers({"us/users/me": ACCOUNT, "us/users": UNKNOWN}), "us", ["us"], KEY)
    with pytest.raises(KeyRefused, match="disabled"):
        survey(Answers({"us/services": UNKNOWN}), "us", ["services"], NOW)


def test_each_resource_has_its_own_reason() -> None:
    ask = Answers(
        {
            "us/teams": NO_PLAN,
            "us/audit/records": NO_ROLE,
            "us/v3/schedules": AWAY,
            "us/users": SILENT,
        }
    )
    found = survey(ask, "us", CATALOG, NOW)
    assert list(found) == list(CATALOG)
    assert found["services"] == Access()
    assert found["teams"] == Access("plan", "Required abilities are unavailable")
    assert found["team_members"].reason == "plan"
    assert found["audit_records"] == Access("role", "Insufficient permissions")
    assert (found["schedules"].reason, found["schedules"].words) == ("error", "status 503")
    assert found["users"].reason == "error"


@pytest.mark.parametrize(
    ("layers", "shifts", "reason"),
    [(None, NO_PLAN, ""), (NO_PLAN, NO_PLAN, "plan"), (NO_ROLE, NO_PLAN, "role"), (None, NO_ROLE, "role")],
)  # fmt: skip
def test_a_list_that_the_plan_lacks_takes_nothing_from_the_other_lists(
    layers: Reply | None, shifts: Reply, reason: str
) -> None:
    answers = {"us/schedules": layers, "us/v3/schedules": shifts}
    ask = Answers({path: reply for path, reply in answers.items() if reply})
    assert survey(ask, "us", ["schedules"], NOW)["schedules"].reason == reason


def test_a_child_list_is_tried_with_the_first_record_of_its_parent() -> None:
    ask = Answers({"us/teams": ok({"teams": [{"id": "PT1"}]}), "us/teams/PT1/members": NO_ROLE})
    found = survey(ask, "us", ["team_members"], NOW)
    assert {name: access.reason for name, access in found.items()} == {
        "teams": "",
        "team_members": "role",
    }


@pytest.mark.parametrize("odd", ["..", "a/../../users", ""])
def test_a_child_list_of_a_record_with_an_odd_id_is_not_tried(odd: str) -> None:
    ask = Answers({"us/teams": ok({"teams": [{"id": odd}]})})
    found = survey(ask, "us", ["team_members"], NOW)
    assert found["team_members"].reason == "error"
    assert [path for path, _ in ask.asked] == ["us/teams"]


def test_one_record_is_asked_for_and_windows_are_short() -> None:
    ask = Answers({})
    survey(ask, "us", CATALOG, NOW)
    assert ask.classes == {"/oncalls": "oncalls"}
    asked = dict(ask.asked)
    assert all(("limit", "1") in params for params in asked.values())
    assert ("since", "2026-02-28T00:00:00Z") in asked["us/log_entries"]
    assert not any(name == "since" for name, _ in asked["us/services"])
