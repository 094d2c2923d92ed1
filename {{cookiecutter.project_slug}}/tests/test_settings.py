"""That config.py and driver.pbs fit Polaris: pip install pytest; python -m pytest"""

from pathlib import Path

import config
from polaris import checks, driver, facts, layout, rules

PROJECT = Path(__file__).resolve().parent.parent


def test_the_settings_fit_polaris():
    kinds = {"kinds": config.kinds, "nodes_of_kind": config.nodes_of_kind}
    asked_for, _ = driver.read((PROJECT / "driver.pbs").read_text())
    ours = rules.Settings(account=config.account, queue=config.queue, walltime=config.walltime)
    for settings in (asked_for, ours):
        found = checks.check(settings._replace(**kinds), ask=lambda name: None)
        assert [problem for problem in found if problem.fatal] == []


def test_no_hardware_thread_has_two_workers():
    cores = config.cores_of_cpu_workers("cpu")
    taken = [core for mine in config.cores_of_cpu_workers("gpu") for core in mine]
    lists = {
        "gpu": facts.cpu_affinity(config.workers_per_gpu, taken),
        "cpu": facts.affinity_list(cores),
        "mpi": facts.rank_affinity(config.ranks_per_node, config.threads_per_rank),
    }
    together = layout.are_together(config.kinds, config.nodes_of_kind)
    for kinds in (("gpu", "cpu"), ("mpi",)) if together else (("gpu",), ("cpu",), ("mpi",)):
        entries = [entry for kind in kinds for entry in lists[kind].split(":")[1:]]
        threads = [thread for entry in entries for thread in facts.numbers_in(entry)]
        assert len(threads) == len(set(threads)), f"of {kinds}"
