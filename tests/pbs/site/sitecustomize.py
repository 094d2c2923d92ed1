"""Makes Python believe that it runs on the node named in STAND_IN_HOST."""

import _socket
import errno
import os
import sys

NODE_CPUS = 64


def read_cpus(text):
    cpus = set()
    for span in text.split(","):
        low, _, high = span.partition("-")
        cpus.update(range(int(low), int(high or low) + 1))
    return cpus


def write_cpus(cpus):
    spans = []
    for cpu in sorted(cpus):
        if spans and spans[-1][1] == cpu - 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def pretend(host):
    real_uname, real_get, real_set = os.uname, os.sched_getaffinity, os.sched_setaffinity

    def uname():
        true = tuple(real_uname())
        return os.uname_result((true[0], host, *true[2:]))

    def sched_getaffinity(pid, /):
        if pid not in (0, os.getpid()):
            return real_get(pid)
        text = os.environ.get("STAND_IN_CPUS")
        return read_cpus(text) if text else set(range(NODE_CPUS))

    def sched_setaffinity(pid, mask, /):
        if pid not in (0, os.getpid()):
            return real_set(pid, mask)
        cpus = set(mask)
        if not cpus or not cpus <= set(range(NODE_CPUS)):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        # The environment is the memory, so that children see it.
        os.environ["STAND_IN_CPUS"] = write_cpus(cpus)

    os.uname = uname
    os.cpu_count = lambda: NODE_CPUS
    os.sched_getaffinity = sched_getaffinity
    os.sched_setaffinity = sched_setaffinity

    def local(name):
        """Names of the stand-in's hosts are this machine."""
        if isinstance(name, bytes):
            name = name.decode()
        return "127.0.0.1" if isinstance(name, str) and name.startswith(("x3", "polaris-login-")) else name

    def resolving(function):
        return lambda name, *rest, **named: function(local(name), *rest, **named)

    def gethostbyaddr(name, /):
        return (name, [], ["127.0.0.1"]) if local(name) != name else real_byaddr(name)

    real_byaddr = _socket.gethostbyaddr
    # socket copies these names from _socket; importing it here would cost every process of a job some time.
    for module in (_socket, sys.modules.get("socket")):
        if module:
            module.gethostname = lambda: host
            module.gethostbyaddr = gethostbyaddr
            for name in ("gethostbyname", "gethostbyname_ex"):
                setattr(module, name, resolving(getattr(module, name)))
    _socket.getaddrinfo = resolving(_socket.getaddrinfo)


if os.environ.get("STAND_IN_HOST", "").startswith("x3"):
    pretend(os.environ["STAND_IN_HOST"])
