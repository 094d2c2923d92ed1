"""What a node's manager and its workers share: queues, a number, which task a worker has.

Parsl's are those of multiprocessing, and each has a lock that some worker holds nearly all the
time: an idle one while it waits for a task, a busy one while it hands over a result. One that is
killed then (out of memory, say) never gives it back: the other workers wait for ever, and so does
the run. Here a message is one datagram of a socket, which the kernel gives to one receiver whole,
and a lock is one that the kernel frees with the process. Linux alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import pickle
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator
from multiprocessing.reduction import DupFd
from typing import Any

INLINE = 32 * 1024  # bytes of a message that goes through the socket; a larger one in memory
GONE = 0.1  # seconds between looks for a manager that has ended
MOST_WORKERS = 1024  # of a node
NUMBER = struct.Struct("q")


class Queue:
    """A queue for the processes of a node, whichever of them dies.

    The process that made it never waits in `put`, as others may not take for a long time. Another
    process has handed a message over once `put` returns.
    """

    def __init__(self, ends: tuple[socket.socket, socket.socket] | None = None):
        self.is_ours = ends is None
        pair = ends or socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.exit, self.entry = pair
        self.limit = None  # seconds that a `get` waits, as the socket was told last
        self.waiting = queue.SimpleQueue()
        self.starting = threading.Lock()
        self.sender = None

    def __reduce__(self):
        return type(self), ((self.exit, self.entry),)

    def put(self, thing: Any) -> None:
        packed = pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)
        if not self.is_ours:
            self.exit.close()  # then it fails once nobody else takes
            self._send(packed)
            return
        with self.starting:
            if self.sender is None:
                self.sender = threading.Thread(target=self._keep_sending, daemon=True)
                self.sender.start()
        self.waiting.put(packed)

    def _keep_sending(self):
        while True:
            self._send(self.waiting.get())

    def _send(self, packed):
        if len(packed) <= INLINE:
            self.entry.send(packed)
            return
        memory = os.memfd_create("message")
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(packed)
            socket.send_fds(self.entry, [b"in memory"], [memory])
        finally:
            os.close(memory)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The next message; queue.Empty where none came in time. timeout: seconds."""
        if not self.is_ours:
            self.entry.close()  # then it ends once nobody else gives
        if block and timeout != self.limit:
            self._limit(timeout)
        how = socket.MSG_CMSG_CLOEXEC | (0 if block else socket.MSG_DONTWAIT)
        try:
            packed, files, _, _ = socket.recv_fds(self.exit, INLINE, 1, how)
        except BlockingIOError:
            raise queue.Empty from None
        if not packed:
            time.sleep(GONE)
            raise queue.Empty
        return _opened(files[0]) if files else pickle.loads(packed)

    def _limit(self, timeout):
        # By the kernel: of many that wait, it wakes one.
        whole, part = divmod(timeout or 0, 1)
        limit = struct.pack("@ll", int(whole), int(part * 1e6))
        self.exit.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.limit = timeout

    def qsize(self) -> int:
        raise NotImplementedError  # as multiprocessing does where it is not known


def _opened(memory):
    """What a large message says. memory: a descriptor, closed here."""
    try:
        size = os.fstat(memory).st_size
        with mmap.mmap(memory, size, access=mmap.ACCESS_READ) as packed:
            return pickle.loads(packed)
    finally:
        os.close(memory)


class Shared:
    """Whole numbers that processes of a node see alike, each 0 at first; and a lock on them."""

    def __init__(self, number: int, given: DupFd | None = None):
        self.number = number
        size = number * NUMBER.size
        if given is None:
            self.memory = os.memfd_create("numbers")
            os.ftruncate(self.memory, size)
        else:
            self.memory = given.detach()
        self.map = mmap.mmap(self.memory, size)
        self.threads = threading.RLock()

    def __reduce__(self):
        return type(self), (self.number, DupFd(self.memory))

    def __getitem__(self, place: int) -> int:
        (value,) = NUMBER.unpack_from(self.map, place * NUMBER.size)
        return value

    def __setitem__(self, place: int, value: int) -> None:
        NUMBER.pack_into(self.map, place * NUMBER.size, value)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else has it locked meanwhile. A process that dies has it no more."""
        with self.threads:
            fcntl.lockf(self.memory, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self.memory, fcntl.LOCK_UN)


class Count:
    """As multiprocessing's Value of a whole number."""

    def __init__(self, value: int = 0, numbers: Shared | None = None):
        self.numbers = numbers
        if numbers is None:
            self.numbers = Shared(1)
            self.value = value

    def __reduce__(self):
        return type(self), (0, self.numbers)

    @property
    def value(self) -> int:
        return self.numbers[0]

    @value.setter
    def value(self, value: int) -> None:
        self.numbers[0] = value

    def get_lock(self) -> contextlib.AbstractContextManager:
        return self.numbers.locked()


class InHand:
    """The task that each worker has: {number of the worker: {"task_id": number}}."""

    def __init__(self, numbers: Shared | None = None):
        self.numbers = numbers or Shared(MOST_WORKERS)

    def __reduce__(self):
        return type(self), (self.numbers,)

    def __setitem__(self, worker: int, task: dict) -> None:
        self.numbers[worker] = task["task_id"] + 1

    def pop(self, worker: int) -> dict:
        """What the worker had, and has no more; KeyError where it had nothing."""
        task = self.numbers[worker]
        if task == 0:
            raise KeyError(worker)
        self.numbers[worker] = 0
        return {"task_id": task - 1}
