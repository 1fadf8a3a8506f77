import pytest

from dapr_shared.resiliency.matching import StatusMatching


def test_without_lists_every_status_is_worth_a_retry():
    """An absent or empty list leaves its protocol unrestricted."""
    matching = StatusMatching.parse("", " ")
    assert all(matching.worth_retry(status) for status in (0, 14, 16, 100, 404, 599))


def test_a_list_restricts_its_own_protocol():
    """Statuses not listed are not tried again; the other protocol is untouched."""
    matching = StatusMatching.parse("429,500-503", "")
    assert [status for status in (428, 429, 430, 499, 500, 502, 503, 504) if matching.worth_retry(status)] == [
        429,
        500,
        502,
        503,
    ]
    assert matching.worth_retry(14)
    matching = StatusMatching.parse("", "1-3,,14")
    assert [code for code in range(17) if matching.worth_retry(code)] == [1, 2, 3, 14]
    assert matching.worth_retry(404)


@pytest.mark.parametrize("status", [-1, 17, 99, 600])
def test_what_is_no_status_is_not_worth_a_retry(status):
    """Only 0 to 16 and 100 to 599 are statuses."""
    assert not StatusMatching().worth_retry(status)


@pytest.mark.parametrize(
    ("http", "grpc"),
    [
        ("abc", ""), ("99", ""), ("600", ""), ("500-499", ""), ("500-", ""), ("-500", ""), ("400-500-600", ""),
        ("5xx", ""), ("", "17"), ("", "14-20"), ("", "-1"), ("14", ""), ("\u0665\u0660\u0660", ""), ("9" * 5000, ""),
    ],
)  # fmt: skip
def test_a_wrong_list_is_an_error(http, grpc):
    """Anything but statuses and ranges of them is refused."""
    with pytest.raises(ValueError, match="is not"):
        StatusMatching.parse(http, grpc)
