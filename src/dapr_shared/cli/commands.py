"""The commands of `dapr-shared` but `run`: words become a question to an instance, or to files; the answer becomes text.

`run` does not come here: it imports neither this module nor the libraries that it needs (design §7, start-up time
counts). Whatever is wrong with the words, or with the world, is a `CommandError`; `main.py` tells it in one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from dapr_shared.cli.output import Format, say, write
from dapr_shared.cli.problem import USAGE, CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

DataDir = Annotated[
    str,
    Parameter(help="Data directory of the instance. Default: the one where an instance runs.", show_default=False),
]
Output = Annotated[Format, Parameter(name=["--output", "-o"], help="How to write what was found.")]
Watch = Annotated[bool, Parameter(name=["--watch", "-w"], help="Look again and again, until Ctrl-C.")]
Interval = Annotated[float, Parameter(help="Seconds between two looks of `--watch`.")]

HELP = """\
Dapr's building blocks for many applications from one process.

New here? `dapr-shared init shop` writes a folder with two small apps, `dapr-shared run -f shop` starts them, and
`dapr-shared doctor` says what is wrong when something is."""

app = App(
    name="dapr-shared",
    help=HELP,
    help_format="plaintext",
    version_flags=[],
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    default_parameter=Parameter(negative=()),
    usage="Usage: dapr-shared COMMAND [ARGS]\n",
)


def execute(words: Sequence[str]) -> int:
    """Run a command; its exit code. Raises `CommandError`."""
    try:
        code = app(list(words))
    except CycloptsError as error:
        text = " ".join(str(error).split()).rstrip(".")
        if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
            text = f"unexpected argument {error.unused_tokens[0]!r}"
        command = " ".join(["dapr-shared", *(error.command_chain or ())])
        raise CommandError(f"{text[:1].lower()}{text[1:]}; `{command} --help` says what is taken", USAGE) from error
    return code if isinstance(code, int) else 0


# Start and check -----------------------------------------------------------------------------------------------------
@app.command(help_flags=[], sort_key=0)
def run(*words: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Start an instance: for many apps (--apps), for one (--app-id), with its apps (-f FILE). `run --help`: flags."""
    from dapr_shared.cli.main import main

    return main(["run", *words])


@app.command(sort_key=2)
def doctor(
    *paths: Annotated[str, Parameter(help="Resource files and directories to look at too.")],
    output: Output = Format.TABLE,
    watch: Watch = False,
    interval: Interval = 2.0,
    data_dir: DataDir = "",
) -> int:
    """Say what is wrong, and what to do: machine, ports, tokens, apps, backends, files. Exit code 1: there are errors."""
    from dapr_shared.cli.doctor import doctor as look

    return look(paths, output, data_dir=data_dir, again=interval if watch else None)


@app.command(sort_key=3)
def init(
    directory: Annotated[str, Parameter(help="The folder; it is made.")] = ".",
    /,
    *,
    force: Annotated[bool, Parameter(help="Overwrite files that are there.")] = False,
    port: Annotated[int, Parameter(help="First port that the apps may have.")] = 8001,
    output: Output = Format.TABLE,
) -> int:
    """Write a folder with two small apps that `dapr-shared run -f` starts as they stand."""
    from dapr_shared.cli.init import init as write_starter

    return write_starter(directory, output, force=force, port=port)


# A running instance --------------------------------------------------------------------------------------------------
@app.command(sort_key=10)
def apps(
    *, output: Output = Format.TABLE, watch: Watch = False, interval: Interval = 2.0, data_dir: DataDir = ""
) -> int:
    """Show the apps of a running instance: reachable, healthy, calls in flight, what proves them."""
    from dapr_shared.cli.views import APPS, look
    from dapr_shared.runtime.operators.answers import Apps

    door = _door(data_dir)
    return look(lambda: door.get("apps", Apps), APPS, output, nothing="no apps", watch=watch, interval=interval)


@app.command(sort_key=11)
def components(
    *, output: Output = Format.TABLE, watch: Watch = False, interval: Interval = 2.0, data_dir: DataDir = ""
) -> int:
    """Show its components: type, who may use them, whether the backend answers, the last error."""
    from dapr_shared.cli.views import COMPONENTS, look
    from dapr_shared.runtime.operators.answers import Components

    door = _door(data_dir)
    return look(
        lambda: door.get("components", Components),
        COMPONENTS,
        output,
        nothing="no components",
        watch=watch,
        interval=interval,
    )


@app.command(sort_key=12)
def subscriptions(
    *,
    app: Annotated[str, Parameter(name="--app", help="Only of this app.", show_default=False)] = "",
    output: Output = Format.TABLE,
    watch: Watch = False,
    interval: Interval = 2.0,
    data_dir: DataDir = "",
) -> int:
    """Show the subscriptions of its apps: active, paused (why, since when) or failed, and what waits."""
    from dapr_shared.cli.views import SUBSCRIPTIONS, look
    from dapr_shared.runtime.operators.answers import Subscriptions

    door = _door(data_dir)
    return look(
        lambda: door.get("subscriptions", Subscriptions, app=app),
        SUBSCRIPTIONS,
        output,
        nothing="no subscriptions",
        watch=watch,
        interval=interval,
    )


@app.command(sort_key=13)
def metrics(
    *names: Annotated[str, Parameter(help="Beginnings of names. Default: a choice.")],
    app: Annotated[str, Parameter(name="--app", help="Only of this app.", show_default=False)] = "",
    every: Annotated[bool, Parameter(name="--all", help="Every metric.")] = False,
    output: Output = Format.TABLE,
    watch: Watch = False,
    interval: Interval = 2.0,
    data_dir: DataDir = "",
) -> int:
    """Show its metrics: the ones chosen, or those whose name begins with a word."""
    from dapr_shared.cli.views import CHOSEN_METRICS, METRICS, look
    from dapr_shared.runtime.operators.answers import Metrics

    door = _door(data_dir)
    chosen = "" if every else ",".join(names or CHOSEN_METRICS)
    return look(
        lambda: door.get("metrics", Metrics, names=chosen, app=app).rows,
        METRICS,
        output,
        nothing="no metrics of that name",
        watch=watch,
        interval=interval,
    )


@app.command(sort_key=14)
def logs(
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], help="Go on with new lines, until Ctrl-C.")] = False,
    app: Annotated[str, Parameter(name="--app", help="Only lines of this app.", show_default=False)] = "",
    level: Annotated[
        Literal["debug", "info", "warn", "error", "fatal"], Parameter(help="Lines of this level and above.")
    ] = "debug",
    lines: Annotated[int, Parameter(name=["--lines", "-n"], help="Lines of the past, at most 2000.")] = 100,
    output: Annotated[
        Literal["text", "json", "yaml"], Parameter(name=["--output", "-o"], help="How to write a line.")
    ] = "text",
    data_dir: DataDir = "",
) -> int:
    """Show its log: the last lines, and with `-f` new ones as they come."""
    from dapr_shared.cli.acts import show_log

    return show_log(_door(data_dir), follow=follow, app=app, level=level, lines=lines, form=output)


@app.command(sort_key=15)
def refresh(
    app_id: Annotated[str, Parameter(help="APP, or APP.NAMESPACE.")],
    /,
    *,
    output: Output = Format.TABLE,
    data_dir: DataDir = "",
) -> int:
    """Ask an app of a running instance again for its subscriptions."""
    from dapr_shared.cli.door import path_of

    message = _door(data_dir).post(path_of("apps", app_id, "refresh"))
    say(message, {"app": app_id, "message": message}, output)
    return 0


@app.command(sort_key=16)
def publish(
    pubsub: Annotated[str, Parameter(name=["--pubsub", "-p"], help="Name of the pubsub component.")],
    topic: Annotated[str, Parameter(name=["--topic", "-t"], help="Topic.")],
    data: Annotated[
        str, Parameter(name=["--data", "-d"], help="The message.", show_default=False, allow_leading_hyphen=True)
    ] = "",
    *,
    as_app: Annotated[
        str, Parameter(name=["--as", "--publish-app-id"], help="The app in whose name and with whose rights.")
    ],
    data_file: Annotated[
        str,
        Parameter(
            name=["--data-file", "-f"],
            help="File with the message; - is standard input.",
            show_default=False,
            allow_leading_hyphen=True,
        ),
    ] = "",
    content_type: Annotated[
        str, Parameter(help="Media type. Default: JSON where the data is.", show_default=False)
    ] = "",
    metadata: Annotated[
        tuple[str, ...], Parameter(name=["--metadata", "-m"], help="NAME=VALUE; may repeat.", show_default=False)
    ] = (),
    output: Output = Format.TABLE,
    data_dir: DataDir = "",
) -> int:
    """Publish a message as one of its apps."""
    from dapr_shared.cli.acts import Call, body_of, publish_message

    body = body_of(data, data_file)
    return publish_message(_door(data_dir), Call(as_app, body, content_type, metadata), pubsub, topic, output)


@app.command(sort_key=17)
def invoke(
    app_id: Annotated[str, Parameter(name=["--app-id", "-a"], help="The app to call, APP or APP.NAMESPACE.")],
    method: Annotated[str, Parameter(name=["--method", "-m"], help="Its method: a path.")],
    data: Annotated[
        str, Parameter(name=["--data", "-d"], help="Body of the call.", show_default=False, allow_leading_hyphen=True)
    ] = "",
    *,
    as_app: Annotated[
        str,
        Parameter(
            name="--as", help="The app that calls, with its rights. Default: the app itself.", show_default=False
        ),
    ] = "",
    verb: Annotated[
        str,
        Parameter(name=["--verb", "-v"], help="HTTP verb. Default: POST with data, GET without.", show_default=False),
    ] = "",
    data_file: Annotated[
        str,
        Parameter(
            name=["--data-file", "-f"],
            help="File with the body; - is standard input.",
            show_default=False,
            allow_leading_hyphen=True,
        ),
    ] = "",
    content_type: Annotated[
        str, Parameter(help="Media type. Default: JSON where the data is.", show_default=False)
    ] = "",
    output: Annotated[
        Format, Parameter(name=["--output", "-o"], help="table: the body as it is; else with its status, as data.")
    ] = Format.TABLE,
    data_dir: DataDir = "",
) -> int:
    """Call a method of one of its apps, and write the answer's body."""
    from dapr_shared.cli.acts import Call, body_of, invoke_method

    body = body_of(data, data_file)
    call = Call(as_app or app_id, body, content_type)
    return invoke_method(_door(data_dir), call, app_id, method, verb.upper() or ("POST" if body else "GET"), output)


@app.command(sort_key=1)
def validate(
    *paths: Annotated[
        str,
        Parameter(
            help="Files and directories; together they are what an instance would be given. In a cluster's mode also `-`, "
            "standard input.",
            allow_leading_hyphen=True,
        ),
    ],
    mode: Annotated[
        Literal["standalone", "kubernetes"],
        Parameter(help="kubernetes: manifests, as an instance in a cluster would see them; no API server is asked."),
    ] = "standalone",
    namespace: Annotated[
        str,
        Parameter(name=["--namespace", "-n"], help="Of objects of a cluster that name none.", show_default=False),
    ] = "",
    strict: Annotated[bool, Parameter(help="Warnings count as errors.")] = False,
    output: Output = Format.TABLE,
) -> int:
    """Check resource files: file, line, field, what was found and what was expected. Exit code 1: there are errors."""
    from dapr_shared.cli.validate import Mode, validate_files

    return validate_files(paths, output, strict=strict, mode=Mode(mode), namespace=namespace)


# Without an instance -------------------------------------------------------------------------------------------------
token = App(name="token", help="Make tokens that prove an app.", sort_key=20, help_format="plaintext")
app.command(token)


@token.command
def new(
    app_id: Annotated[str, Parameter(help="The app id.")],
    /,
    *,
    output: Output = Format.TABLE,
) -> int:
    """Print a new token once, and the line for the App that knows only its digest."""
    from dapr_shared.cli.tokens import new_token

    return new_token(app_id, output)


@app.command(sort_key=30)
def version(*, output: Output = Format.TABLE) -> int:
    """Print the version, and those of what matters beside it. Also `dapr-shared --version`."""
    from dapr_shared.cli.versions import show_versions

    return show_versions(output)


@app.command(sort_key=31)
def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Your shell.")], /) -> int:
    """Print a script that completes commands and flags: source it from your shell's start-up file."""
    from dapr_shared.cli.completion import script

    write(script(app, shell))
    return 0


def _door(data_dir: str) -> Door:
    from dapr_shared.cli.door import Door, data_directory

    return Door(data_directory(data_dir))


if TYPE_CHECKING:
    from dapr_shared.cli.door import Door
