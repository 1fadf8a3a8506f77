# The container image of dapr-shared. `make image` builds its layers (build/image/*.tar.gz) without a container engine, and
# writes the image itself as an archive that `docker load`, `podman load` and `ctr images import` read; it reads the
# instructions below, so that `docker build .` after it makes the same image. See docs/kubernetes/image.md.
FROM scratch

# Debian's libraries and Python; the pinned Python packages; dapr-shared itself.
ADD build/image/debian.tar.gz /
ADD build/image/packages.tar.gz /
ADD build/image/dapr-shared.tar.gz /

ENV PATH=/usr/bin:/bin HOME=/data XDG_STATE_HOME=/data LANG=C.UTF-8
WORKDIR /data
USER 65532:65532
EXPOSE 3500 50001 50002 3501 9090

# No ENTRYPOINT: a pod's `args` begin with /daprd, as they do for daprd's own image.
CMD ["/dapr-shared", "run", "--dapr-listen-addresses=0.0.0.0", "--dapr-public-port=3501", "--data-dir=/data"]
