from __future__ import annotations

import base64
import ssl

import pytest
import yaml
from aiohttp import web

from dapr_shared.kube import connection
from dapr_shared.kube.client import KubeClient
from dapr_shared.kube.config import KubeConfig, Material, config_from
from dapr_shared.kube.errors import KubeConfigError, Unavailable
from dapr_shared.kube.objects import PODS
from tests.support.certificates import Authority

IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def files(tmp_path):
    """What the kubelet gives a pod."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("pod-token\n")
    (folder / "namespace").write_text("shop\n")
    (folder / "ca.crt").write_bytes(Authority(tmp_path).certificate.read_bytes())
    return folder


@pytest.fixture
def kubeconfig(tmp_path):
    """Writes a kubeconfig; gives the environment that names it."""

    def write(user=None, cluster=None, context=None, name="config", **top) -> dict[str, str]:
        data = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", **(context or {})}}],
            "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:6443/", **(cluster or {})}}],
            "users": [{"name": "u", "user": {"token": "t0k"} if user is None else user}],
            **top,
        }
        file = tmp_path / name
        file.write_text(yaml.safe_dump(data))
        return {"KUBECONFIG": str(file)}

    return write


def test_in_cluster(files):
    """A pod asks the API server of its environment with the files of its service account."""
    config = config_from(IN_CLUSTER, files)
    assert (config.server, config.namespace) == ("https://10.96.0.1:443", "shop")
    assert config.read().token == "pod-token"
    assert config_from({**IN_CLUSTER, "KUBERNETES_SERVICE_HOST": "fd00::1"}, files).server == "https://[fd00::1]:443"


def test_rotated_files(files, tmp_path):
    """A token that was renewed is read; the TLS context is made anew only when certificates changed."""
    config = config_from(IN_CLUSTER, files)
    first = config.read()
    (files / "token").write_text("renewed")
    second = config.read(first)
    assert (second.token, second.context is first.context) == ("renewed", True)
    (files / "ca.crt").write_bytes(Authority(tmp_path, "ca2").certificate.read_bytes())
    assert config.read(second).context is not first.context


def test_a_pod_without_a_token(tmp_path):
    """A pod whose token is not mounted is told so."""
    with pytest.raises(KubeConfigError, match="automountServiceAccountToken"):
        config_from(IN_CLUSTER, tmp_path)


def test_nowhere():
    """Where neither is there, both are named."""
    with pytest.raises(KubeConfigError, match=r"this is no pod .* and KUBECONFIG names no file"):
        config_from({})


def test_kubeconfig_goes_first(files, kubeconfig):
    """KUBECONFIG is an explicit wish, in a pod too."""
    assert config_from({**IN_CLUSTER, **kubeconfig()}, files).server == "https://127.0.0.1:6443"


def test_kubeconfig_with_a_token(kubeconfig):
    """Server, namespace and token come from the current context."""
    config = config_from(kubeconfig(context={"namespace": "shop"}, cluster={"tls-server-name": "kubernetes"}))
    assert (config.server, config.namespace, config.server_name) == ("https://127.0.0.1:6443", "shop", "kubernetes")
    assert config.read().token == "t0k"
    assert config_from(kubeconfig()).namespace == "default"


def test_kubeconfig_with_files_and_data(kubeconfig, tmp_path):
    """Certificates come from files, from the kubeconfig's folder on, or from the kubeconfig itself."""
    authority = Authority(tmp_path)
    certificate, key = authority.sign("admin")
    by_file = config_from(
        kubeconfig(
            user={"client-certificate": certificate.name, "client-key": str(key)},
            cluster={"certificate-authority": "ca.pem"},
        )
    )
    coded = [base64.b64encode(file.read_bytes()).decode() for file in (certificate, key, authority.certificate)]
    by_data = config_from(
        kubeconfig(
            user={"client-certificate-data": coded[0], "client-key-data": coded[1]},
            cluster={"certificate-authority-data": coded[2]},
        )
    )
    assert by_file.read().sources == by_data.read().sources
    assert by_file.read().token == ""
    assert by_data.read().context is not None


def test_several_kubeconfigs(kubeconfig, tmp_path):
    """Of several files the first that has something gives it, as with kubectl; a missing one is passed over."""
    one = kubeconfig(name="one", users=[], contexts=[])["KUBECONFIG"]
    two = kubeconfig(name="two", cluster={"server": "https://two:1"}, **{"current-context": "other"})["KUBECONFIG"]
    config = config_from({"KUBECONFIG": f"{tmp_path / 'none'}:{one}:{two}"})
    assert (config.server, config.read().token) == ("https://127.0.0.1:6443", "t0k")


def test_token_file(kubeconfig, tmp_path):
    """A token file goes before a token, as with kubectl, and is read from the kubeconfig's folder on."""
    (tmp_path / "tok").write_text("from-file")
    assert config_from(kubeconfig(user={"tokenFile": "tok", "token": "x"})).read().token == "from-file"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"user": {"exec": {"command": "aws"}}}, "exec of the user 'u' is a plugin that would have to be run"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "auth-provider of the user 'u' is a plugin"),
        ({"user": {"username": "u", "password": "pw"}}, "username of the user 'u' is not supported"),
        ({"user": {"token": "x", "as": "root"}}, "acting as another user"),
        ({"user": {"client-certificate": "c.pem"}}, "needs a client certificate and its key, or neither"),
        ({"user": {"token": 5}}, "token of the user 'u' must be text"),
        (
            {"user": {"client-key-data": "%%%", "client-certificate": "x"}},
            "client-key-data of the user 'u' is no base64",
        ),
        ({"cluster": {"server": "ftp://x"}}, "must be an http:// or https:// URL"),
        ({"cluster": {"server": "https://u:p@x"}}, "must be an http:// or https:// URL"),
        ({"cluster": {"server": ""}}, "must be an http:// or https:// URL"),
        ({"cluster": {"proxy-url": "http://p"}}, "proxy-url of the cluster 'k' is not supported"),
        ({"current-context": ""}, "names no current-context"),
        ({"current-context": "d"}, "has no context 'd'"),
        ({"users": []}, "has no user 'u'"),
        ({"users": [3]}, "an entry of users is no mapping"),
        ({"clusters": "x"}, "has no cluster 'k'"),
    ],
)
def test_wrong_kubeconfig(kubeconfig, changed, why):
    """What is wrong is named with its field, and plugins are refused in words."""
    with pytest.raises(KubeConfigError, match=why) as caught:
        config_from(kubeconfig(**changed))
    assert "pw" not in str(caught.value)


def test_no_kubeconfig(tmp_path):
    """A file that is not there, or is no YAML, is named; what it holds is not shown."""
    with pytest.raises(KubeConfigError, match="No such file"):
        config_from({"KUBECONFIG": str(tmp_path / "none")})
    (tmp_path / "bad").write_text("token: {geheim")
    with pytest.raises(KubeConfigError, match="is no YAML") as caught:
        config_from({"KUBECONFIG": str(tmp_path / "bad")})
    assert "geheim" not in f"{caught.value!r}{caught.value.__cause__!r}"


@pytest.mark.parametrize(
    ("user", "cluster", "why"),
    [
        ({"client-certificate": "ca.pem", "client-key": "none.key"}, {}, "the client key .*No such file"),
        ({"client-certificate": "ca.pem", "client-key": "ca.pem"}, {}, "not a certificate with its key in PEM form"),
        ({}, {"certificate-authority": "empty.pem"}, "holds no certificates in PEM form"),
        ({"tokenFile": "bad.token"}, {}, "characters that no token has"),
    ],
)
def test_wrong_material(kubeconfig, tmp_path, user, cluster, why):
    """Files that make no credentials are errors when they are read."""
    Authority(tmp_path)
    (tmp_path / "empty.pem").write_text("nothing")
    (tmp_path / "bad.token").write_text("a\nb")
    with pytest.raises(KubeConfigError, match=why):
        config_from(kubeconfig(user=user, cluster=cluster)).read()


@pytest.fixture
async def tls_server(tmp_path, stack):
    """Serves TLS with a certificate of the authority that it is given, and wants a client certificate."""

    async def serve(authority: Authority, port: int = 0) -> tuple[web.ServerRunner, int]:
        certificate, key = authority.sign("localhost", "127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(authority.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL

        async def answer(request: web.BaseRequest) -> web.Response:
            peer = request.get_extra_info("ssl_object").getpeercert()
            who = dict(pair[0] for pair in peer["subject"])["commonName"] if peer else "nobody"
            return web.json_response({"metadata": {"name": who}})

        runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, reuse_address=True).start()
        return runner, runner.addresses[0][1]

    return serve


async def test_client_certificate(tls_server, tmp_path, stack):
    """A client certificate proves us, and the server's certificate is checked."""
    authority = Authority(tmp_path)
    _runner, port = await tls_server(authority)
    certificate, key = authority.sign("admin")
    config = KubeConfig(
        f"https://127.0.0.1:{port}",
        "shop",
        "a test",
        None,
        Material(authority.certificate),
        Material(certificate),
        Material(key),
    )
    client = KubeClient(config)
    await client.start(stack)
    assert (await client.get(PODS, "x", "shop"))["metadata"]["name"] == "admin"
    stranger = KubeClient(
        KubeConfig(config.server, "shop", "a test", None, Material(Authority(tmp_path, "other").certificate))
    )
    await stranger.start(stack)
    with pytest.raises(Unavailable, match="has a certificate that is not trusted"):
        await stranger.get(PODS, "x", "shop")
    trusting = KubeClient(KubeConfig(config.server, "shop", "a test", verify=False))
    await trusting.start(stack)
    assert (await trusting.get(PODS, "x", "shop"))["metadata"]["name"] == "nobody"


async def test_replaced_authority(tls_server, tmp_path, stack, monkeypatch):
    """When the cluster's authority is replaced, its new file is read as soon as the old one fails."""
    first = Authority(tmp_path)
    file = tmp_path / "trusted.crt"
    file.write_bytes(first.certificate.read_bytes())
    runner, port = await tls_server(first)
    client = KubeClient(KubeConfig(f"https://127.0.0.1:{port}", "shop", "a test", None, Material(file)))
    await client.start(stack)
    await client.get(PODS, "x", "shop")
    await runner.cleanup()
    second = Authority(tmp_path, "second")
    await tls_server(second, port)
    assert connection.CREDENTIALS_AGE > 10
    with pytest.raises(Unavailable, match="not trusted"):
        await client.get(PODS, "x", "shop")
    file.write_bytes(second.certificate.read_bytes())
    await client.get(PODS, "x", "shop")
