"""Every name of `tasks.api` is there when it is used, and nothing else."""

import pytest

from tasks import api


def test_every_name_is_the_one_of_its_module() -> None:
    for name in api.__all__:
        found = getattr(api, name)
        assert getattr(found, "__name__", name) in (name, "Callable"), name


def test_a_name_that_is_missing_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = api.nothing
