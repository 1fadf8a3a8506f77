"""A Kubernetes cluster of two real nodes for tests: control plane, kubelets, kube-proxies, DNS, containers that run.

The nodes are machines (`Machine`) in network namespaces of their own, joined by one virtual cable; nothing in the real
machine's network is touched. The control plane lives in a third namespace, so that a node can be killed like a node.

    control plane 10.99.0.1    node1 10.99.0.11, pods 10.244.1.0/24    node2 10.99.0.12, pods 10.244.2.0/24
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import yaml

from tests.support.kubernetes_api_server import ApiServer
from tests.support.kubernetes_programs import Child, need_programs, program
from tests.support.machines import Machine, need_containers
from tests.support.required import need_command

if TYPE_CHECKING:
    from collections.abc import Sequence

NODES = ("node1", "node2")
READY = 180.0
"""Seconds until both nodes and DNS are ready, on a busy machine."""
_CONTROL = "10.99.0.1"
_DNS = "10.96.0.10"
_KIT = Path(__file__).resolve().parents[1] / "kubernetes" / "kit"
_CGROUPS = Path("/sys/fs/cgroup")
_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet would set for the whole kernel; on the nodes it sees these values instead."""


def need_cluster() -> None:
    """`need` for all that two nodes take."""
    need_containers()
    need_programs()
    packages = {"ip": "iproute2", "nft": "nftables", "iptables": "iptables", "conntrack": "conntrack", "socat": "socat"}
    for command, package in packages.items():
        need_command(command, package)


class Network:
    """A network namespace, held by a process of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self._child = Child(f"network-{name}", ["unshare", "--net", "sleep", "infinity"], folder)
        self._child.wait_until(self._is_apart, 10)
        self.pid = self._child.process.pid

    @property
    def enter(self) -> tuple[str, ...]:
        """Words that run a command in it."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net")

    def run(self, *command: str, given: str = "") -> str:
        """What a command in it prints."""
        words = [*self.enter, *command]
        done = subprocess.run(words, input=given, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr}"
        return done.stdout

    def kill(self) -> None:
        """End its process; the kernel takes the network away with the last one in it."""
        self._child.kill()

    def _is_apart(self) -> bool:
        pid = self._child.process.pid
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "sleep"


class Cluster(ApiServer):
    """Everything of it, in one folder. Ended by `stop`, or by the kernel when the process that started it is killed."""

    host = _CONTROL
    users: tuple[tuple[str, str, str], ...] = (
        *ApiServer.users,
        ("token-of-the-proxies", "system:kube-proxy", ""),
        *((f"token-of-{name}", f"system:node:{name}", "system:nodes") for name in NODES),
    )
    parts = MappingProxyType(
        {
            # A node that says nothing for twelve seconds is lost, in place of forty.
            "kube-controller-manager": ("--node-monitor-period=1s", "--node-monitor-grace-period=12s"),
            "kube-scheduler": (),
        }
    )

    def __init__(self, folder: Path, images: Sequence[Path]) -> None:
        """`images` are archives that both nodes get."""
        super().__init__(folder)
        kubelets = [f"--kubelet-client-certificate={folder}/kubelet-client.pem"]
        kubelets += [
            f"--kubelet-client-key={folder}/kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
        ]
        away = [f"--default-{what}-toleration-seconds=5" for what in ("not-ready", "unreachable")]
        self.flags = ("--authorization-mode=Node,RBAC", *kubelets, *away)
        self._networks: dict[str, Network] = {}
        self._machines: dict[str, Machine] = {}
        self._cgroup = f"dapr-shared-{os.getpid()}"
        self._images = [str(image) for image in images]

    def start(self) -> Cluster:
        """Start all and wait until both nodes and DNS are ready."""
        for left in {folder.name.rpartition("-")[0] for folder in _CGROUPS.glob("*/dapr-shared-*-node?")}:
            if not Path("/proc", left.rpartition("-")[2]).exists():  # of a run that was killed
                _remove_cgroups(left)
        self._connect()
        super().start()
        for name in NODES:
            self.start_node(name)
        self.kubectl("apply", "-f", str(_KIT / "coredns.yaml"))
        self.wait_until(lambda: all(self.node_is_ready(name) for name in NODES), "both nodes", READY)
        self.wait_for_dns()
        return self

    def wait_for_dns(self) -> None:
        """Wait until each node has its DNS."""
        self.kubectl("rollout", "status", "-n", "kube-system", "ds/coredns", f"--timeout={READY:.0f}s", patience=READY)

    def stop(self) -> None:
        """End all of it, and take its cgroups away."""
        for machine in self._machines.values():
            machine.remove()
        super().stop()
        for network in self._networks.values():
            network.kill()
        _remove_cgroups(self._cgroup)

    def start_node(self, name: str) -> None:
        """Switch a node on; it has its disk of before."""
        folder = self.folder / name
        machine = self._machines.setdefault(name, Machine(self.folder, name, self._networks[name].enter))
        for kind in ("kubelet", "pods", "containers"):
            (folder / "disks" / kind).mkdir(parents=True, exist_ok=True)
        binds = {"/var/lib/kubelet": folder / "disks/kubelet", "/var/log/pods": folder / "disks/pods"}
        binds["/var/log/containers"] = folder / "disks/containers"
        for key, value in _SYSCTLS.items():
            file = folder / key.replace("/", "_")
            file.write_text(value, encoding="utf-8")
            binds[f"/proc/sys/{key}"] = file
        self._make_cgroups(name)
        (folder / "kubelet.yaml").write_text(yaml.safe_dump(self._kubelet(name)), encoding="utf-8")
        (folder / "proxy.yaml").write_text(yaml.safe_dump(self._proxy(name)), encoding="utf-8")
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n", encoding="utf-8")
        (folder / "10-pods.conflist").write_text(json.dumps(_pod_network(name)), encoding="utf-8")
        kubeall = shlex.quote(program("kubeall"))
        kubelet = f"{kubeall} kubelet --config=kubelet.yaml --kubeconfig=../node-{name}.conf --hostname-override={name}"
        machine.start(
            binds,
            [
                "cp 10-pods.conflist /etc/cni/net.d/",
                *(f"ctr -n k8s.io images import {shlex.quote(image)} >>images.log 2>&1" for image in self._images),
                f"{kubelet} --node-ip={_address(name)} --v=2 >>kubelet.log 2>&1 &",
                f"{kubeall} kube-proxy --config=proxy.yaml --v=2 >>proxy.log 2>&1 &",
            ],
        )

    def kill_node(self, name: str) -> None:
        """Switch a node off, without a word to anyone."""
        self._machines[name].kill()

    def node_is_ready(self, name: str) -> bool:
        """Whether the control plane says so."""
        try:
            conditions = self.get("node", name)["status"].get("conditions", [])
        except AssertionError:
            return False
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def fetch(self, url: str) -> str:
        """The body of an answer, asked from the control plane's network, which reaches nodes and pods."""
        status, body = self.ask(url)
        assert status < 400, f"{url}: {status} {body}"
        return body

    def ask(self, url: str, token: str = "") -> tuple[int, str]:
        """Status and body of an answer, asked from there; AssertionError where there is none."""
        curl = [need_command("curl", "curl"), "--silent", "--show-error", "--max-time", "10", url]
        curl += ["--header", f"dapr-api-token: {token}", "--write-out", "\n%{http_code}"]
        done = subprocess.run([*self.prefix, *curl], capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == 0, f"{url}: {done.stderr}"
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def node(self, name: str) -> Network:
        """The network of a node."""
        return self._networks[name]

    def tag_image(self, name: str, further: str) -> None:
        """Give an image that the nodes have a further name."""
        for machine in self._machines.values():
            machine.run("ctr", "-n", "k8s.io", "images", "tag", "--force", name, further)

    def _ports(self) -> tuple[int, int, int]:
        return 2379, 2380, 6443

    def _connect(self) -> None:
        """Three networks: cables from the nodes to a bridge in the control plane's."""
        for name in ("control", *NODES):
            self._networks[name] = Network(name, self.folder)
            self._networks[name].run("ip", "link", "set", "lo", "up")
        control = self._networks["control"]
        self.prefix = control.enter
        control.run("ip", "link", "add", "switch", "type", "bridge")
        control.run("ip", "addr", "add", f"{_CONTROL}/24", "dev", "switch")
        control.run("ip", "link", "set", "switch", "up")
        for name in NODES:
            node = self._networks[name]
            cable = ["ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(node.pid)]
            control.run(*cable)
            control.run("ip", "link", "set", f"to-{name}", "master", "switch", "up")
            node.run("ip", "addr", "add", f"{_address(name)}/24", "dev", "eth0")
            node.run("ip", "link", "set", "eth0", "up")
            node.run("ip", "route", "add", "default", "via", _CONTROL)  # kubelets want one
            node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for number, name in enumerate(NODES, 1):
            for other in (network for key, network in self._networks.items() if key != name):
                other.run("ip", "route", "add", f"10.244.{number}.0/24", "via", _address(name))

    def _make_cgroups(self, name: str) -> None:
        """A cgroup for the pods of a node: in each hierarchy of version 1, or in that of version 2."""
        roots = [path for path in _CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]
        if (_CGROUPS / "cgroup.controllers").exists():
            roots = [_CGROUPS]
        for root in roots:
            folder = root / f"{self._cgroup}-{name}"
            folder.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (root / setting).exists() and (folder / setting).exists():
                    (folder / setting).write_text((root / setting).read_text(encoding="utf-8"), encoding="utf-8")

    def _kubelet(self, name: str) -> dict:
        folder = self.folder / name
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": _address(name),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.ca)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._cgroup}-{name}",
            "clusterDNS": [_DNS],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "enforceNodeAllocatable": [],
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "nodefs.inodesFree": "1%",
            },
            "failCgroupV1": False,
            "failSwapOn": False,
            "healthzBindAddress": _address(name),
            "nodeLeaseDurationSeconds": 8,
            "nodeStatusUpdateFrequency": "2s",
            "oomScoreAdj": 0,
            "protectKernelDefaults": True,
            "resolvConf": str(folder / "resolv.conf"),
            "syncFrequency": "5s",
        }

    def _proxy(self, name: str) -> dict:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "bindAddress": _address(name),
            "clientConnection": {"kubeconfig": str(self.folder / "kube-proxy.conf")},
            "clusterCIDR": "10.244.0.0/16",
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
            "healthzBindAddress": f"{_address(name)}:10256",
            "hostnameOverride": name,
            "metricsBindAddress": f"{_address(name)}:10249",
            "mode": "nftables",
            "oomScoreAdj": 0,
        }


def _remove_cgroups(name: str) -> None:
    """Remove what nodes have made for their pods; there are no processes in it any more."""
    for folder in [*_CGROUPS.glob(f"{name}-node?"), *_CGROUPS.glob(f"*/{name}-node?")]:
        for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            inner.rmdir()
        folder.rmdir()


def _address(name: str) -> str:
    return f"10.99.0.1{NODES.index(name) + 1}"


def _pod_network(name: str) -> dict:
    pods = {"type": "host-local", "ranges": [[{"subnet": f"10.244.{NODES.index(name) + 1}.0/24"}]]}
    bridge = {"type": "bridge", "bridge": "cni0", "isDefaultGateway": True, "ipMasq": False, "hairpinMode": True}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{**bridge, "ipam": pods}, ports]}
