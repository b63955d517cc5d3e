from __future__ import annotations

import pytest
import trio

from taktora_trio import errors


def test_one_family() -> None:
    family = [value for name, value in vars(errors).items() if name in errors.__all__ and isinstance(value, type)]
    assert len(family) == 18
    assert all(issubclass(error, errors.ConnectorError) for error in family)
    assert not issubclass(errors.ConnectorError, (ValueError, OSError, RuntimeError))


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.BackPressure, trio.WouldBlock),
        (errors.TemporaryFailure, errors.ConfigError),
        (errors.DomainInUse, errors.TemporaryFailure),
        (errors.ServiceMismatch, errors.TemporaryFailure),
        (errors.CodecError, errors.MessageError),
        (errors.PayloadOverflow, errors.MessageError),
    ],
)
def test_is_also(error: type[Exception], base: type[Exception]) -> None:
    assert issubclass(error, base)


def test_codec_error_carries_its_topic() -> None:
    error = errors.CodecError("not JSON", topic="plant/1")
    assert (str(error), error.topic) == ("not JSON", "plant/1")
    assert errors.CodecError("not JSON").topic == ""


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (ValueError("too hot"), "ValueError: too hot"),
        (ValueError(), "ValueError"),
        (
            ExceptionGroup("g", [ValueError("a"), ExceptionGroup("h", [KeyError("b"), OSError()])]),
            "ValueError: a; KeyError: 'b'; OSError",
        ),
    ],
)
def test_summary_is_one_line_that_names_every_cause(exc: Exception, expected: str) -> None:
    assert errors.summary(exc) == expected


def test_collapse_takes_away_groups_of_one_only() -> None:
    error = ValueError("too hot")
    assert errors.collapse(error) is error
    assert errors.collapse(ExceptionGroup("g", [ExceptionGroup("h", [error])])) is error
    two = ExceptionGroup("g", [error, OSError()])
    assert errors.collapse(two) is two
    assert errors.collapse(ExceptionGroup("g", [two])) is two
