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
import select
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
NOBODY = -1  # in place of a worker's number
HAD, CLAIMED = 2, 3  # added to twice the number of a worker's task
ABOUT = struct.Struct("qq?")  # before each message: worker, task, whether it was lost
NUMBER = struct.Struct("q")


class Queue:
    """A queue for the processes of a node, whichever of them dies.

    The process that made it never waits in `put`, as others may not take for a long time. Another
    process has handed a message over once `put` returns.

    in_hand: what workers have. A worker may die after its result has left and before it says so:
    then the manager's word that the task was lost, which comes behind the result, is left out.
    """

    def __init__(self, in_hand: InHand, given: tuple | None = None):
        self.in_hand = in_hand
        self.is_ours = given is None
        if given is None:
            self.exit, self.entry = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.turn = Shared(1)
        else:
            self.exit, self.entry, self.turn = given
        self.ended = {}  # the last task of each worker of which a message came
        self.waiting = queue.SimpleQueue()
        self.starting = threading.Lock()
        self.sender = None

    def __reduce__(self):
        return type(self), (self.in_hand, (self.exit, self.entry, self.turn))

    # --- in ---------------------------------------------------------------------------------------
    def put(self, thing: Any) -> None:
        if isinstance(thing, dict) and "task_id" in thing:
            self.in_hand.tasks = self
            about = (NOBODY, thing["task_id"], False)
        else:
            about = self.in_hand.about()
        message = (ABOUT.pack(*about), pickle.dumps(thing, pickle.HIGHEST_PROTOCOL))
        if not self.is_ours:
            self.exit.close()  # then it fails once nobody else takes
            self._send(*message)
            return
        with self.starting:
            if self.sender is None:
                self.sender = threading.Thread(target=self._keep_sending, daemon=True)
                self.sender.start()
        self.waiting.put(message)

    def _keep_sending(self):
        while True:
            self._send(*self.waiting.get())

    def _send(self, about, packed):
        if len(packed) <= INLINE:
            self.entry.send(about + packed)
            return
        memory = os.memfd_create("message")
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(packed)
            socket.send_fds(self.entry, [about], [memory])
        finally:
            os.close(memory)

    # --- out --------------------------------------------------------------------------------------
    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The next message; queue.Empty where none came in time. timeout: seconds.

        None where it is left out.
        """
        if self.is_ours:
            self._wait(timeout if block else 0)
            (worker, task, is_lost), thing = self._taken()
            if is_lost and self.ended.get(worker) == task:
                return None
            self.ended[worker] = task
            return thing
        self.entry.close()  # then it ends once nobody else gives
        with self.turn.locked():  # who waits, one at a time, is killed without a message
            self._wait(timeout if block else 0)
            _, task, _ = self.first()
            self.in_hand.claim(task)  # until Parsl notes that this worker has it
            _, thing = self._taken()
        return thing

    def _wait(self, seconds):
        """Until there is a message; queue.Empty where none comes."""
        poll = select.poll()
        poll.register(self.exit, select.POLLIN)
        if not poll.poll(None if seconds is None else 1000 * seconds):
            raise queue.Empty

    def first(self) -> tuple[int, int, bool]:
        """(worker, task, whether it was lost) of the message that is taken next, if there is one.

        queue.Empty where all that could put one have ended.
        """
        about = self.exit.recv(ABOUT.size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        if not about:
            time.sleep(GONE)
            raise queue.Empty
        return ABOUT.unpack(about)

    def _taken(self):
        size = ABOUT.size + INLINE
        message, files, _, _ = socket.recv_fds(self.exit, size, 1, socket.MSG_CMSG_CLOEXEC)
        about = ABOUT.unpack_from(message)
        if files:
            return about, _opened(files[0])
        return about, pickle.loads(memoryview(message)[ABOUT.size :])

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
    """The task that each worker has: {number of the worker: {"task_id": number}}.

    tasks: the queue that they come from.
    """

    def __init__(self, numbers: Shared | None = None):
        self.is_ours = numbers is None
        self.numbers = numbers or Shared(MOST_WORKERS)
        self.tasks = None
        self.lost = threading.local()  # what this thread has taken from a worker that died

    def __reduce__(self):
        return type(self), (self.numbers,)

    # --- in a worker ------------------------------------------------------------------------------
    def claim(self, task: int) -> None:
        """This worker takes that task from the queue now."""
        self.numbers[_this_worker()] = 2 * task + CLAIMED

    def __setitem__(self, worker: int, task: dict) -> None:
        self.numbers[worker] = 2 * task["task_id"] + HAD

    def pop(self, worker: int) -> dict:
        """What the worker had, and has no more; KeyError where it had nothing."""
        value = self.numbers[worker]
        self.numbers[worker] = 0
        task, is_claimed = divmod(value - HAD, 2)
        if value == 0 or (is_claimed and self._is_still_there(task)):
            raise KeyError(worker)
        if self.is_ours:
            self.lost.task = (worker, task)
        return {"task_id": task}

    # --- in the manager ---------------------------------------------------------------------------
    def _is_still_there(self, task):
        """Whether a worker that died while it claimed a task has left it in the queue."""
        with self.tasks.turn.locked():
            try:
                return self.tasks.first()[1] == task
            except BlockingIOError:
                return False

    def about(self) -> tuple[int, int, bool]:
        """(worker, its task, whether it was lost) that a message is about which is put now."""
        if self.is_ours:
            worker, task = getattr(self.lost, "task", (NOBODY, 0))
            self.lost.task = (NOBODY, 0)
            return worker, task, worker != NOBODY
        worker = _this_worker()
        if worker == NOBODY:
            return NOBODY, 0, False
        return worker, (self.numbers[worker] - HAD) // 2, False


def _this_worker():
    return int(os.environ.get("PARSL_WORKER_RANK", NOBODY))
