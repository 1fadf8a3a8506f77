"""Reading flags as daprd reads them."""

from __future__ import annotations

import pytest

from dapr_shared.cli.flags import UsageError, help_text, parse
from dapr_shared.runtime.settings import Settings, SettingsError, check, flags


@pytest.mark.parametrize(
    ("words", "attribute", "value"),
    [
        (["--app-id", "x"], "app_id", "x"),
        (["-app-id=x"], "app_id", "x"),
        (["--app-port", "8000"], "app_port", 8000),
        (["--app-port", ""], "app_port", 0),
        (["--log-as-json"], "log_as_json", True),
        (["--log-as-json=false"], "log_as_json", False),
        (["--enable-metrics=0"], "enable_metrics", False),
        (["--resources-path", "a,b", "--resources-path=c"], "resources_path", ("a", "b", "c")),
        (["--resources-path", ""], "resources_path", ()),
        (["--max-body-size", "8Mi"], "max_body_size", 8 * 1024 * 1024),
        (["--dapr-block-shutdown-duration", "1m30s"], "dapr_block_shutdown_duration", 90.0),
        (["--app-max-concurrency", "-1"], "app_max_concurrency", -1),
        (["--enable-api-logging"], "enable_api_logging", True),
        ([], "enable_api_logging", None),
    ],
)
def test_forms_of_flags(words, attribute, value):
    """Dashes, equals signs, booleans, lists, quantities and durations are read as pflag reads them."""
    assert getattr(parse(words).settings(), attribute) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["--app-prot", "x"], "did you mean --app-port"),
        (["--app-id"], "flag needs an argument: --app-id"),
        (["--app-port", "x"], "invalid argument 'x' for --app-port"),
        (["--app-port", "70000"], "between 0 and 65535"),
        (["--log-as-json=maybe"], "use true or false"),
        (["--max-body-size", "lots"], "invalid argument 'lots' for --max-body-size"),
        (["--mode", "moon"], "not one of standalone, kubernetes"),
        (["word"], "unexpected argument 'word'"),
        (["--"], "unexpected argument '--'"),
    ],
)
def test_wrong_words_are_named(words, message):
    """A wrong word says which flag and what was expected."""
    with pytest.raises(UsageError) as error:
        parse(words)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "attribute", "value"),
    [
        (["-a", "x"], "app_id", "x"),
        (["-a=x"], "app_id", "x"),
        (["-p8000"], "app_port", 8000),
        (["-P", "grpc"], "app_protocol", "grpc"),
        (["-H", "1", "-G", "2", "-M", "3", "-I", "4"], "dapr_grpc_port", 2),
        (["-d", "a", "-d", "b"], "resources_path", ("a", "b")),
        (["-c", "c.yaml"], "config", ("c.yaml",)),
        (["-u", "/run"], "unix_domain_socket", "/run"),
        (["-app-id", "x"], "app_id", "x"),
        (["-apps", "x"], "apps", ("x",)),
    ],
)
def test_short_flags_of_dapr_run(words, attribute, value):
    """Where `dapr run` is stood in for, its short flags mean what they mean there; long ones keep their one dash."""
    assert getattr(parse(words, as_dapr_run=True).settings(), attribute) == value


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["-a", "x", "--", "python3", "-u", "app.py"], ("python3", "-u", "app.py")),
        (["-a", "x", "python3", "--app-port", "7"], ("python3", "--app-port", "7")),
        (["-a", "x", "--", "--odd"], ("--odd",)),
        (["-a", "x", "--"], ()),
    ],
)
def test_the_command_of_an_app(words, command):
    """What stands behind `--`, or begins with the first word that is no flag, is the app's, flags and all."""
    parsed = parse(words, as_dapr_run=True)
    assert (parsed.command, parsed.values) == (command, {"app_id": "x"})


@pytest.mark.parametrize("words", [["-f", "d"], ["-f=d"], ["--run-file", "d"], ["--run-file=d"]])
def test_the_run_file(words):
    """A run file is named by -f or --run-file."""
    assert parse(words, as_dapr_run=True).run_file == "d"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-f"], "-f needs the path of a run file"),
        (["-f", "a", "-f", "b"], "-f is given twice"),
        (["-k"], "-k .* is not supported"),
        (["-x"], "unknown flag: --x"),
        (["-app-prot", "7"], "unknown flag: --app-prot .*did you mean --app-port"),
    ],
)
def test_wrong_words_of_a_run(words, message):
    """What `dapr run` would not take either, or what is not there, is said."""
    with pytest.raises(UsageError, match=message):
        parse(words, as_dapr_run=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "kubernetes", "app_id": "a", "discover": ("pods",)}, "--discover needs --multi-app"),
        ({"mode": "kubernetes", "discover": ("nodes",)}, "--discover 'nodes' is not one of apps, services, pods"),
        ({"mode": "kubernetes", "watch_namespaces": ("*", "a")}, "* is all namespaces"),
        ({"mode": "kubernetes", "watch_namespaces": ("A/b",)}, "'A/b' is not the name of a namespace"),
        ({"app_protocol": "smtp"}, "--app-protocol 'smtp' is not one of"),
        ({"app_port": 3500}, "also the port of this instance's own API"),
        ({"app_health_probe_timeout": 9000}, "longer than"),
        ({"log_level": "loud"}, "--log-level 'loud'"),
        ({"disable_init_endpoints": ("nope",)}, "'nope' is not one of config, subscribe"),
        ({"app_id": "a", "apps": ("x",)}, "exclude each other"),
        ({"watch_namespaces": ("a",)}, "--watch-namespaces needs --mode=kubernetes"),
        ({"identify_by_address": True}, "--identify-by-address needs --mode=kubernetes"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    """Values out of range or against each other are refused with the flag's name."""
    with pytest.raises(SettingsError) as error:
        check(Settings(**settings))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("given", "attribute", "value"),
    [
        ({"app_ssl": True}, "app_protocol", "https"),
        ({"app_ssl": True, "app_protocol": "grpc"}, "app_protocol", "grpcs"),
        ({"app_protocol": "HTTP"}, "app_protocol", "http"),
        ({"app_health_threshold": 0}, "app_health_threshold", 3),
        ({"app_health_probe_interval": -1}, "app_health_probe_interval", 5),
        ({"dapr_graceful_shutdown_seconds": -1}, "dapr_graceful_shutdown_seconds", 5),
        ({"components_path": "x"}, "resources_path", ("x",)),
        ({"dapr_http_max_request_size": 16}, "max_body_size", 16 * 1024 * 1024),
        ({"dapr_http_read_buffer_size": 8}, "read_buffer_size", 8192),
    ],
)
def test_daprds_rules_on_values(given, attribute, value):
    """Deprecated flags and out-of-range numbers mean what they mean to daprd."""
    assert getattr(check(Settings(**given)), attribute) == value


def test_help_names_every_flag():
    """The help text has every flag with its meaning."""
    text = help_text("daprd")
    for spec in flags():
        assert f"--{spec.name} " in text
        assert spec.flag.doc in text


def test_a_flag_without_effect_is_reported_once():
    """What has no effect in this version is listed, each flag once."""
    parsed = parse(["--enable-mtls", "--enable-mtls", "--sentry-address", "x"])
    assert parsed.without_effect == ["--enable-mtls", "--sentry-address"]
    assert parse(["--enable-mtls=false", "--sentry-address="]).without_effect == [], "the default is nothing to tell of"
