import pytest

from dapr_shared.resources.model import ApiRule, Configuration
from dapr_shared.resources.origin import Origin
from dapr_shared.security.api_access import ApiAccess
from dapr_shared.security.errors import SecurityConfigurationError


def rule(name, version="v1", protocol="http"):
    return ApiRule(name=name, version=version, protocol=protocol)


def access(*, allowed=(), denied=()):
    origin = Origin("config.yaml", 1, 3)
    return ApiAccess(Configuration(name="config", api_allowed=allowed, api_denied=denied, origin=origin))


def test_without_rules_everything_is_allowed():
    """No Configuration and one without lists are unrestricted, and say so."""
    for apis in (ApiAccess(None), access()):
        assert apis.http_unrestricted
        assert apis.grpc_unrestricted
        assert apis.http("state", "v1")
        assert apis.grpc("state", "v1")


def test_an_allow_list_restricts_its_own_protocol_only():
    """A list of HTTP APIs leaves gRPC as it is."""
    apis = access(allowed=(rule("state"), rule("publish")))
    assert apis.http("state", "v1")
    assert apis.http("publish", "v1")
    assert not apis.http("state", "v1alpha1")
    assert not apis.http("invoke", "v1")
    assert apis.grpc_unrestricted
    assert apis.grpc("invoke", "v1")


def test_the_deny_list_is_checked_first():
    """What is both allowed and denied is denied."""
    apis = access(allowed=(rule("state"), rule("invoke")), denied=(rule("state"),))
    assert not apis.http("state", "v1")
    assert apis.http("invoke", "v1")


def test_a_deny_list_alone_allows_the_rest():
    """Only what is listed is refused."""
    apis = access(denied=(rule("state", "v1", "grpc"), rule("shutdown", "v1", "HTTP")))
    assert not apis.grpc("state", "v1")
    assert apis.grpc("state", "v1alpha1")
    assert not apis.http("shutdown", "v1")
    assert apis.http("state", "v1")


def test_health_is_always_allowed_over_http():
    """No list takes an instance's health away."""
    apis = access(allowed=(rule("state"),), denied=(rule("healthz"),))
    assert apis.http("healthz", "v1")


def test_rules_of_the_older_form_name_the_beginning_of_a_route():
    """`v1.0` and a part of a path work as in Dapr, for allowing and denying."""
    route = "v1.0/state/{storeName}/{key}"
    assert access(allowed=(rule("state", "v1.0"),)).http("state", "v1", route)
    assert not access(allowed=(rule("state", "v1.0"),)).http("publish", "v1", "v1.0/publish/{pubsubname}/*")
    assert not access(denied=(rule("state", "v1.0"),)).http("state", "v1", route)
    assert not access(denied=(rule("state/{storeName}/bulk", "v1.0"),)).http(
        "state", "v1", "v1.0/state/{storeName}/bulk"
    )
    assert access(denied=(rule("state/{storeName}/bulk", "v1.0"),)).http("state", "v1", route)
    assert access(denied=(rule("state"),)).http("invoke", "v1", "v1.0/invoke/*")


def test_rules_of_the_older_form_close_rather_than_open_where_the_route_is_not_known():
    """A caller that names no route gets the whole API or nothing."""
    assert access(allowed=(rule("state", "v1.0"),)).http("state", "v1")
    assert not access(denied=(rule("state", "v1.0"),)).http("state", "v1")
    assert not access(denied=(rule("state", "v1.0-alpha1"),)).http("state", "v1alpha1")
    assert access(denied=(rule("state", "v1.0-alpha1"),)).http("state", "v1")
    part = rule("state/{storeName}/bulk", "v1.0")
    assert not access(denied=(part,)).http("state", "v1")
    assert not access(allowed=(part,)).http("state", "v1")
    assert access(denied=(part,)).http("publish", "v1")


def test_a_grpc_list_of_unknown_names_allows_nothing():
    """A misspelt allow list closes instead of opening."""
    assert not access(allowed=(rule("stat", "v1", "grpc"),)).grpc("state", "v1")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (rule("state", protocol=""), "spec.api.denied[1].protocol: expected http or grpc, found ''"),
        (rule("state", protocol="htpp"), "spec.api.denied[1].protocol: expected http or grpc, found 'htpp'"),
        (rule("state", version=""), "spec.api.denied[1].version: the API's version is missing, such as v1 or v1alpha1"),
        (rule(""), "spec.api.denied[1].name: the name of an API is missing, such as state or invoke"),
    ],
)
def test_a_rule_that_could_never_apply_is_an_error_that_names_the_place(bad, message):
    """A rule without effect would leave open what it was written to close."""
    with pytest.raises(SecurityConfigurationError) as wrong:
        access(denied=(rule("state"), bad))
    assert str(wrong.value) == f"config.yaml, document 1, line 3: Configuration config: {message}"
