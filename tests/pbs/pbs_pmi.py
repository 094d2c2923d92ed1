"""The process manager's side of PMI-1, by which the ranks of a real MPI program find each other.

PALS gives ranks a PMI too; here MPICH's wheel speaks its own simple protocol: lines of `cmd=... key=value`
over a socket of each rank (MPICH, "PMI Wire Protocol", version 1).
"""

import contextlib
import os
import socket
import threading

FIXED = {
    "init": "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0",
    "get_maxes": "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024 rc=0",
    "get_appnum": "cmd=appnum appnum=0 rc=0",
    "put": "cmd=put_result rc=0 msg=success",
    "finalize": "cmd=finalize_ack rc=0",
}


class PMI:
    """For `count` ranks, `per_node` on each node; abort is called with the exit code of MPI_Abort."""

    def __init__(self, count, per_node, abort):
        self.count, self.abort = count, abort
        nodes = -(-count // per_node)
        self.known = {"PMI_process_mapping": f"(vector,(0,{nodes},{per_node}))"}
        self.waiting, self.lock = [], threading.Lock()
        # MPICH names shared memory by it, which killed ranks leave behind: ranks that find such a rest hang.
        self.name = f"stand_in_{os.urandom(8).hex()}"

    def rank(self):
        """A new rank: the descriptor that it inherits, with what to add to its environment."""
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve, args=(ours,), daemon=True).start()
        os.set_inheritable(theirs.fileno(), True)
        return theirs, {"PMI_FD": str(theirs.fileno()), "PMI_SPAWNED": "0"}

    def _serve(self, ours):
        with contextlib.suppress(OSError), ours.makefile("rwb", buffering=0) as stream:
            for line in stream:
                words = dict(word.split("=", 1) for word in line.decode().split() if "=" in word)
                for to, answer in self._answers(words.pop("cmd", None), words, stream):
                    to.write(answer.encode() + b"\n")

    def _answers(self, command, words, stream):
        if command == "barrier_in":
            with self.lock:
                self.waiting.append(stream)
                if len(self.waiting) < self.count:
                    return []
                ready, self.waiting = self.waiting, []
            return [(each, "cmd=barrier_out rc=0") for each in ready]
        if command == "abort":
            self.abort(int(words.get("exitcode", 1)))
            return []
        if command == "get_my_kvsname":
            return [(stream, f"cmd=my_kvsname kvsname={self.name} rc=0")]
        if command == "get_universe_size":
            return [(stream, f"cmd=universe_size size={self.count} rc=0")]
        if command == "get":
            value = self.known.get(words["key"])
            failed = "cmd=get_result rc=-1 msg=key_not_found value=unknown"
            return [(stream, failed if value is None else f"cmd=get_result rc=0 msg=success value={value}")]
        if command == "put":
            self.known[words["key"]] = words["value"]
        return [(stream, FIXED[command])]
