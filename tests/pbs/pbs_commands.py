"""qsub, qstat, qdel and pbsnodes of the stand-in. Texts and exit codes: transcripts/openpbs-23.06.txt.

PBS commands leave with the PBSE code modulo 256: 15001 unknown job 153, 15003 read-only 155, 15014 bad value
166, 15018 unknown queue 170, 15022 no access to queue 174, 15035 unknown resource 187, 15036 queue limits
188, 15139 job has finished 35 (pbs_error.h of OpenPBS; the transcript's codes agree with it)."""

import os
import re
import sys
import time

from pbs_state import (
    NODE_CPUS,
    NODE_GPUS,
    ORDER,
    QUEUES,
    SERVER,
    TIMES,
    VERSION,
    ask_server,
    duration,
    full_id,
    leave,
    load,
    locked,
    node_jobs,
    resolve,
    seconds,
    user_name,
)

USAGE = {
    "qsub": "usage: qsub [-A account_string] [-e path] [-h] [-j oe|eo|n] [-k keep] [-l resource_list]\n"
    "\t[-m mail_options] [-M user_list] [-N jobname] [-o path] [-q queue] [-r y|n] [-S path]\n"
    "\t[-v variable_list] [-V] [-W depend=dependency] [script]",
    "qstat": "usage:\nqstat [-f] [-x] [-F json] [ job_identifier... | destination... ]\n"
    "qstat -Q [-f] [ destination... ]",
    "qdel": "usage:\n\tqdel [-W force] job_identifier...",
    "pbsnodes": "usage:\n\tpbsnodes -a\n\tpbsnodes host...",
    "nvidia-smi": "usage: nvidia-smi -L (the stand-in knows nothing else)",
    "hostname": "usage: hostname (the stand-in takes no arguments)",
}
CHUNK_RESOURCES = ("ncpus", "ngpus", "mem", "system", "host", "vnode", "mpiprocs", "ompthreads")


class Refused(Exception):
    def __init__(self, text, code):
        super().__init__(text)
        self.text, self.code = text, code


class Usage(Exception):
    pass


def run(folder, command, argv):
    try:
        if argv == ["--version"] and command != "hostname":
            print(f"pbs_version = {VERSION}")
            return 0
        commands = {"qsub": qsub, "qstat": qstat, "qdel": qdel, "pbsnodes": pbsnodes}
        if command not in commands:
            raise Usage
        return commands[command](folder, argv)
    except Usage as problem:
        if problem.args:
            complain(f"{command}: {problem}")
        complain(USAGE[command])
        return 2


def complain(text):
    sys.stdout.flush()
    sys.stderr.write(text + "\n")


def getopt(argv, taking, plain):
    """POSIX getopt: options end at the first other word, as the PBS commands have it."""
    options, words = [], list(argv)
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word == "--":
            break
        while word := word[1:]:
            flag = word[0]
            if flag in plain:
                options.append((flag, None))
            elif flag in taking:
                if not word[1:] and not words:
                    raise Usage(f"option requires an argument -- '{flag}'")
                options.append((flag, word[1:] or words.pop(0)))
                break
            else:
                raise Usage(f"invalid option -- '{flag}'")
    return options, words


# ---------------------------------------------------------------- qsub


def qsub(folder, argv):
    record = {"argv": argv, "cwd": os.getcwd(), "time": time.time()}
    try:
        options, words = getopt(argv, "aAcCeJjklmMNopPqrSuvW", "hIVXz")
        if len(words) > 1:
            raise Usage
        request = {"l": {}}
        for flag, value in options:
            set_option(request, flag, value)
        record["script_path"] = os.path.abspath(words[0]) if words and words[0] != "-" else None
        script = read_script(words)
        directives = {"l": {}}
        for line in script_directives(script):
            try:
                found, rest = getopt(split_words(line), "aAcCeJjklmMNopPqrSuvW", "hIVXz")
                if rest:
                    raise Usage
                for flag, value in found:
                    set_option(directives, flag, value)
            except (Usage, ValueError):
                # ALCF's guide warns of comments after a directive's text: they become extra words (answer as
                # users report it; the exit code was not recorded).
                raise Refused(f"directive error: {line}", 1) from None
        # The command line wins over the script, for -l one resource at a time.
        request = {**directives, **request, "l": {**directives["l"], **request["l"]}}
        with locked(folder) as state:
            job = accept(folder, state, request, argv, words, script)
            record.update(id=job["id"], queue=job["attrs"]["queue"], script=script, vanished=job["vanished"])
            state["submissions"].append(record)
        if state["notice"]:
            print(state["notice"])
        print(job["id"])
        return 0
    except Refused as refusal:
        record.update(text=f"qsub: {refusal.text}", code=refusal.code)
        complain(record["text"])
    except Usage:
        record.update(text="qsub: usage", code=2)
        with locked(folder) as state:
            state["refusals"].append(record)
        raise
    with locked(folder) as state:
        state["refusals"].append(record)
    return record["code"]


def set_option(request, flag, value):
    if flag in "acCIJpPuXz":
        raise Usage(f"-{flag} is not supported by the stand-in")
    if flag == "l":
        for item in value.split(","):
            name, equals, text = item.partition("=")
            if not equals or not name or not text:
                raise Usage("illegal -l value")
            request["l"][name] = text
    elif flag == "W":
        name, _, text = value.partition("=")
        if name != "depend" or not text:
            raise Usage("illegal -W value (the stand-in knows depend= alone)")
        request["W"] = parse_depend(text)
    else:
        allowed = {
            "j": r"oe|eo|n",
            "r": r"y|n",
            "m": r"n|[abej]+",
            "N": r"[A-Za-z0-9_][^\s]{0,229}",
            "k": r"[doen]+",
        }
        if flag in allowed and not re.fullmatch(allowed[flag], value):
            raise Usage(f"illegal -{flag} value")
        request[flag] = value


def parse_depend(text):
    depend = []
    for item in text.split(","):
        kind, *parents = item.split(":")
        parents = [full_id(parent) for parent in parents]
        if kind not in ("afterok", "afternotok", "afterany") or not parents or None in parents:
            raise Usage("illegal -W value")
        depend.append([kind, parents])
    return depend


def read_script(words):
    if not words or words[0] == "-":
        if sys.stdin.isatty():
            raise Usage("the stand-in reads no script from a terminal")
        return sys.stdin.read()
    if os.path.isdir(words[0]):
        raise Refused("script not a file", 1)
    try:
        with open(words[0], errors="surrogateescape") as text:
            return text.read()
    except FileNotFoundError:
        raise Refused("script file:: No such file or directory", 1) from None
    except OSError as error:
        raise Refused(f"script file:: {error.strerror}", 1) from None


def script_directives(script):
    """The text of the #PBS lines up to the first command; blank lines and comments do not end them."""
    lines = iter(script.split("\n"))
    for line in lines:
        if line.startswith("#PBS"):
            while line.endswith("\\"):
                line = line[:-1] + next(lines, "").removeprefix("#PBS")
            text = line[4:].strip()
            if text:
                yield text
        elif line.strip() and not line.lstrip().startswith("#"):
            return


def split_words(text):
    if "'" not in text and '"' not in text:
        return text.split()
    import shlex

    return shlex.split(text)


def parse_select(text):
    """One {resource: value} per chunk, in the order written."""
    chunks = []
    for part in text.split("+"):
        count, *pairs = part.split(":")
        if not count.isdigit():
            count, pairs = "1", [count, *pairs]
        chunk = {}
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals or not value or (name in ("ncpus", "ngpus", "mpiprocs") and not value.isdigit()):
                raise Refused("Illegal attribute or resource value Resource_List.select", 166)
            if name not in CHUNK_RESOURCES:
                raise Refused(f"Unknown resource Resource_List.select: {name}", 187)
            chunk[name] = value
        if int(count) < 1:
            raise Refused("Illegal attribute or resource value Resource_List.select", 166)
        chunks += [chunk] * int(count)
    return chunks


def parse_variables(text):
    """-v NAME=VALUE,NAME2: commas inside quotes or after a backslash belong to the value."""
    names, word, quote = [], "", ""
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            word += next(letters, "")
        elif quote:
            if letter == quote:
                quote = ""
            else:
                word += letter
        elif letter in "'\"":
            quote = letter
        elif letter == ",":
            names.append(word)
            word = ""
        else:
            word += letter
    names.append(word)
    variables = {}
    for word in names:
        name, equals, value = word.partition("=")
        if not equals:
            if name not in os.environ:
                raise Refused("cannot send environment with the job", 1)
            value = os.environ[name]
        variables[name] = value
    return variables


def accept(folder, state, request, argv, words, script):
    """Check a submission as client, server, ALCF's hook and queue do, one after the other; make the job."""
    resources = request["l"]
    for name in resources:
        if name == "nodect":
            raise Refused(
                "Cannot set attribute, read only or insufficient permission Resource_List.nodect", 155
            )
        if name not in ("walltime", "filesystems", "select", "place"):
            raise Refused(f"Unknown resource Resource_List.{name}", 187)
    walltime = None
    if "walltime" in resources:
        walltime = seconds(resources["walltime"])
        if walltime is None:
            raise Refused("Illegal attribute or resource value Resource_List.walltime", 166)
    select = resources.get("select", "1:ncpus=1")
    chunks = parse_select(select)
    place = resources.get("place", "free")
    if not re.fullmatch(
        r"(free|pack|scatter|vscatter)(:(excl|exclhost|shared))?|excl|exclhost|shared", place
    ):
        raise Refused("Illegal attribute or resource value Resource_List.place", 166)
    variables = dict(os.environ) if "V" in request else {}
    if "v" in request:
        variables.update(parse_variables(request["v"]))
    variables = {
        name: value for name, value in variables.items() if not name.startswith(("PBS_", "STAND_IN_"))
    }

    if "q" not in request:
        raise Refused("No default queue specified", 1)
    asked = request["q"].partition("@")[0]
    if asked not in QUEUES:
        raise Refused("Unknown queue", 170)
    # Texts of ALCF's submit hook.
    if not request.get("A"):
        raise Refused("Account_Name is required to be set.", 32)
    for name in ("filesystems", "walltime"):
        if name not in resources:
            raise Refused(f"Resource: {name} is required to be set.", 32)
    queue, vanished = asked, state["vanish"] or state["vanish_next"] > 0
    if QUEUES[asked].get("from_route"):
        raise Refused("Access to queue is denied", 174)
    if "route" in QUEUES[asked]:
        # A job that fits no destination gets an id and is never seen again (polaris-facts: silent rejection).
        fitting = [name for name in QUEUES[asked]["route"] if fits(name, len(chunks), walltime)]
        queue = fitting[0] if fitting else asked
        vanished = vanished or not fitting
    elif not fits(asked, len(chunks), walltime):
        raise Refused("Job violates queue and/or server resource limits", 188)
    check_counts(state, asked, user_name(state), request["A"])
    for _, parents in request.get("W", []):
        for parent in parents:
            if parent not in state["jobs"]:
                # Not recorded; the server's text for such an id, in the form that qstat and qdel show it.
                raise Refused(f"Unknown Job Id {parent}", 153)
    if state["refuse"]:
        refusal = state["refuse"][0]
        refusal["times"] -= 1
        if refusal["times"] <= 0:
            state["refuse"].pop(0)
        raise Refused(refusal["text"].removeprefix("qsub: "), refusal["code"])
    if state["vanish_next"] > 0:
        state["vanish_next"] -= 1

    number = state["next_id"]
    state["next_id"] += 1
    job_id = f"{number}.{SERVER}"
    job = make_job(
        state, request, number, job_id, asked, queue, walltime, chunks, select, place, variables, words
    )
    job["vanished"] = vanished
    job["attrs"]["Submit_arguments"] = " ".join(argv)
    job["spool"] = os.path.join(folder, "spool", job_id + ".SC")
    if not vanished:
        with open(job["spool"], "w", errors="surrogateescape") as out:
            out.write(script)
        state["jobs"][job_id] = job
        if job["depend"]:
            resolve(state, job, time.time())
    return job


def fits(queue, nodes, walltime):
    limits = QUEUES[queue]
    if "nodes" not in limits:
        return True
    return (
        limits["nodes"][0] <= nodes <= limits["nodes"][1]
        and limits["walltime"][0] <= walltime <= limits["walltime"][1]
    )


def check_counts(state, queue, user, account):
    """Jobs that are queued, held or running count against max_queued."""
    limits = QUEUES[queue]
    names = (queue, *limits.get("route", ()))
    mine = [
        job
        for job in state["jobs"].values()
        if job["attrs"]["queue"] in names and job["attrs"]["job_state"] != "F"
    ]
    if "user_queued" in limits and sum(job["user"] == user for job in mine) >= limits["user_queued"]:
        raise Refused("would exceed queue generic's per-user limit", 38)
    project = sum(job["attrs"]["Account_Name"] == account for job in mine)
    if project >= limits.get("project_queued", project + 1):
        # By analogy with the per-user text, which is recorded.
        raise Refused("would exceed queue generic's per-project limit", 38)


def make_job(state, request, number, job_id, asked, queue, walltime, chunks, select, place, variables, words):
    now, cwd, home, user = time.time(), os.getcwd(), os.environ.get("HOME", "/"), user_name(state)
    from_file = bool(words) and words[0] != "-"
    name = request.get("N") or (os.path.basename(words[0]) if from_file else "STDIN")
    paths = {}
    for flag, letter in (("o", "o"), ("e", "e")):
        path = request.get(flag, f"{name}.{letter}{number}").removeprefix(SERVER + ":")
        paths[flag] = os.path.join(cwd, path)
    totals = {
        key: sum(int(chunk.get(key, default)) for chunk in chunks)
        for key, default in (("ncpus", 1), ("ngpus", 0))
    }
    resource_list = {
        "filesystems": request["l"]["filesystems"],
        **{key: value for key, value in totals.items() if value or key == "ncpus"},
        "nodect": len(chunks),
        "place": place,
        "select": select,
        "walltime": duration(walltime),
    }
    origin = {
        "PBS_O_HOME": home,
        "PBS_O_LOGNAME": user,
        "PBS_O_PATH": os.environ.get("PATH", ""),
        "PBS_O_SHELL": "/bin/bash",
        **({"PBS_O_LANG": os.environ["LANG"]} if os.environ.get("LANG") else {}),
        "PBS_O_INTERACTIVE_AUTH_METHOD": "resvport",
        "PBS_O_INTERACTIVE_ENCRYPT_METHOD": "",
        "PBS_O_WORKDIR": cwd,
        "PBS_O_SYSTEM": "Linux",
    }
    attrs = {
        "Job_Name": name,
        "Job_Owner": f"{user}@{SERVER}",
        "job_state": "Q",
        "queue": queue,
        "server": SERVER,
        "Account_Name": request["A"],
        "Checkpoint": "u",
        "ctime": now,
        "Error_Path": f"{SERVER}:{paths['e']}",
        "Hold_Types": "n",
        "Join_Path": request.get("j", "n"),
        "Keep_Files": "doe",  # enforced at ALCF, whatever -k says
        "Mail_Points": request.get("m", "a"),
        "mtime": now,
        "Output_Path": f"{SERVER}:{paths['o']}",
        "Priority": 0,
        "qtime": now,
        "Rerunable": "False" if request.get("r") == "n" else "True",
        "Resource_List": resource_list,
        "substate": 10,
        "Variable_List": {**origin, **variables, "PBS_O_QUEUE": asked, "PBS_O_HOST": SERVER},
        "project": "_pbs_project_default",
        "Submit_Host": SERVER,
    }
    if "M" in request:
        attrs["Mail_Users"] = request["M"]
    if "S" in request:
        attrs["Shell_Path_List"] = request["S"]
    depend = request.get("W", [])
    if "h" in request:
        attrs.update(job_state="H", Hold_Types="u", substate=20)
    elif depend:
        attrs.update(job_state="H", Hold_Types="s", substate=22)
    else:
        attrs["etime"] = now
    if depend:
        attrs["depend"] = ",".join(
            kind + "".join(f":{parent}@{SERVER}" for parent in parents) for kind, parents in depend
        )
    final = {}
    for flag, suffix in (("o", "OU"), ("e", "ER")):
        path = paths[flag]
        final[flag] = (
            os.path.join(path, f"{job_id}.{suffix}") if os.path.isdir(path) or path.endswith("/") else path
        )
    if attrs["Join_Path"] == "oe":
        final["e"] = final["o"]
    elif attrs["Join_Path"] == "eo":
        final["o"] = final["e"]
    return {
        "id": job_id,
        "attrs": attrs,
        "user": user,
        "home": home,
        "variables": variables,
        "walltime": walltime,
        "chunks": chunks,
        "depend": depend,
        "nodes": [],
        "lost_nodes": [],
        "session": None,
        "killing": None,
        "ready": now + state["options"]["start_delay"],
        "stdout_path": final["o"],
        "stderr_path": final["e"],
    }


# ---------------------------------------------------------------- qstat


def qstat(folder, argv):
    options, words = getopt(argv, "F", "QfxH")
    flags = {flag: value for flag, value in options}
    if "F" in flags and (flags["F"] != "json" or "f" not in flags or "Q" in flags):
        raise Usage
    state = load(folder)
    if "Q" in flags:
        return qstat_queues(state, words, "f" in flags)
    history = "x" in flags or "H" in flags
    code, chosen = 0, {}
    every = sorted(state["jobs"].values(), key=lambda job: int(job["id"].partition(".")[0]))
    visible = [job for job in every if history or job["attrs"]["job_state"] != "F"]
    visible = [job for job in visible if "H" not in flags or job["attrs"]["job_state"] == "F"]
    errors = []
    for word in words:
        job_id = full_id(word)
        if job_id is None:
            if word.partition("@")[0] not in QUEUES:
                errors.append(f"qstat: Unknown queue {word}")
                code = 170
            chosen.update({job["id"]: job for job in visible if job["attrs"]["queue"] == word})
        elif job_id not in state["jobs"]:
            errors.append(f"qstat: Unknown Job Id {job_id}")
            code = 153
        elif state["jobs"][job_id] not in visible:
            errors.append(
                f"qstat: {job_id} Job has finished, use -x or -H to obtain historical job information"
            )
            code = 35
        else:
            chosen[job_id] = state["jobs"][job_id]
    jobs = list(chosen.values()) if words else visible
    if "F" in flags:
        document = {"timestamp": int(time.time()), "pbs_version": VERSION, "pbs_server": SERVER}
        if jobs:
            document["Jobs"] = {job["id"]: shown(job) for job in jobs}
        print(cjson(document))
    elif "f" in flags:
        for job in jobs:
            print(f"Job Id: {job['id']}")
            print_attributes(shown(job))
            print()
    elif jobs:
        print("Job id            Name             User              Time Use S Queue")
        print("----------------  ---------------- ----------------  -------- - -----")
        for job in jobs:
            attrs = job["attrs"]
            used = attrs.get("resources_used", {}).get("cput", "0")
            print(
                f"{cut(job['id'], 17):<17} {cut(attrs['Job_Name'], 16):<16} {cut(job['user'], 16):<16} "
                f"{used:>8} {attrs['job_state']} {cut(attrs['queue'], 16):<16}"
            )
    for text in errors:
        complain(text)
    return code


def cut(text, width):
    return text if len(text) <= width else text[: width - 1] + "*"


def shown(job):
    attrs = dict(job["attrs"])
    if attrs["job_state"] == "R":
        attrs["resources_used"] = {
            **attrs["resources_used"],
            "walltime": duration(time.time() - attrs["stime"]),
        }
    return {
        name: time.ctime(attrs[name]) if name in TIMES else attrs[name] for name in ORDER if name in attrs
    }


def cjson(value, depth=1):
    """cJSON's layout; PBS writes whatever looks like a number as a number, also a job's name.

    Digits after a zero it writes as they are (seen on real servers: `"CASE":005`): that is no JSON.
    """
    import json

    if isinstance(value, dict):
        inner = ",\n".join(
            "\t" * depth + json.dumps(key, ensure_ascii=False) + ":\t" + cjson(item, depth + 1)
            for key, item in value.items()
        )
        return "{\n" + inner + "\n" + "\t" * (depth - 1) + "}"
    if isinstance(value, str) and re.fullmatch(r"0\d{1,14}", value):
        return value
    if isinstance(value, int) or re.fullmatch(r"[+-]?\d{1,15}(\.\d+)?", value):
        number = float(value)
        return str(int(number)) if number == int(number) else repr(number)
    return json.dumps(value, ensure_ascii=False)


def print_attributes(attrs):
    for name, value in attrs.items():
        if isinstance(value, dict) and name == "Variable_List":
            print_wrapped(name, ",".join(f"{key}={item}" for key, item in value.items()))
        elif isinstance(value, dict):
            for key, item in value.items():
                print_wrapped(f"{name}.{key}", str(item))
        else:
            print_wrapped(name, str(value))


def print_wrapped(name, value):
    """`    name = value`, broken at commas or column 79 with a tab (see state_count in the transcript)."""
    out = f"    {name} = "
    column = len(out)
    for index, part in enumerate(value.split(",")):
        if index:
            out += ","
            column += 1
        if len(part) + column < 78:
            out += part
            column += len(part)
            continue
        if index:
            out += "\n\t"
            column = 9
        for letter in part:
            out += letter
            column += 1
            if column > 78:
                out += "\n\t"
                column = 8
    print(out)


def qstat_queues(state, words, full):
    code, names = 0, []
    for word in words:
        if word in QUEUES:
            names.append(word)
    names = names if words else list(QUEUES)
    if names and not full:
        print("Queue              Max   Tot Ena Str   Que   Run   Hld   Wat   Trn   Ext Type")
        print("---------------- ----- ----- --- --- ----- ----- ----- ----- ----- ----- ----")
    for name in names:
        jobs = [job for job in state["jobs"].values() if job["attrs"]["queue"] == name]
        count = {letter: sum(job["attrs"]["job_state"] == letter for job in jobs) for letter in "QRH"}
        total = sum(count.values())
        if full:
            print(f"Queue: {name}")
            print_attributes(queue_attributes(name, jobs, count, total))
            print()
        else:
            kind = "Rou*" if "route" in QUEUES[name] else "Exe*"
            print(
                f"{name[:16]:<16} {0:>5} {total:>5} yes yes {count['Q']:>5} {count['R']:>5} {count['H']:>5}"
                f" {0:>5} {0:>5} {0:>5} {kind}"
            )
    for word in words:
        if word not in QUEUES:
            complain(f"qstat: Unknown queue {word}")
            code = 170
    return code


def queue_attributes(name, jobs, count, total):
    limits = QUEUES[name]
    running = [job["attrs"]["Resource_List"] for job in jobs if job["attrs"]["job_state"] == "R"]
    attrs = {
        "queue_type": "Route" if "route" in limits else "Execution",
        "total_jobs": total,
        "state_count": f"Transit:0 Queued:{count['Q']} Held:{count['H']} Waiting:0 Running:{count['R']} "
        "Exiting:0 Begun:0 ",
    }
    if "user_queued" in limits:
        attrs["max_queued"] = f"[u:PBS_GENERIC={limits['user_queued']}]"
    if "project_queued" in limits:
        of_project = f"[p:PBS_GENERIC={limits['project_queued']}]"
        attrs["max_queued"] = ",".join(filter(None, [attrs.get("max_queued"), of_project]))
    if "from_route" in limits:
        attrs["from_route_only"] = "True"
    if "nodes" in limits:
        attrs["resources_max.nodect"] = limits["nodes"][1]
        attrs["resources_max.walltime"] = duration(limits["walltime"][1])
        if limits["nodes"][0] > 1:
            attrs["resources_min.nodect"] = limits["nodes"][0]
        attrs["resources_min.walltime"] = duration(limits["walltime"][0])
    if "route" in limits:
        attrs["route_destinations"] = ",".join(limits["route"])
    else:
        attrs["resources_assigned.ncpus"] = sum(resources["ncpus"] for resources in running)
        attrs["resources_assigned.nodect"] = sum(resources["nodect"] for resources in running)
    for letter, name in (("u", "user_run"), ("p", "project_run")):
        if name in limits:
            attrs["max_run"] = f"[{letter}:PBS_GENERIC={limits[name]}]"
    return {**attrs, "enabled": "True", "started": "True"}


# ---------------------------------------------------------------- qdel, pbsnodes


def qdel(folder, argv):
    options, words = getopt(argv, "W", "")
    if not words or any(value != "force" for _, value in options):
        raise Usage
    code = 0
    for word in words:
        job_id = full_id(word)
        if job_id is None:
            complain(f"qdel: illegally formed job identifier: {word}")
            code = 1
            continue
        with locked(folder) as state:
            job = state["jobs"].get(job_id)
            running = job and job["attrs"]["job_state"] == "R"
            by = f"and terminated by {user_name(state)}@{SERVER}"
            if job is None:
                complain(f"qdel: Unknown Job Id {job_id}")
                code = 153
            elif job["attrs"]["job_state"] == "F":
                complain(f"qdel: Job has finished {job_id}")
                code = 35
            elif not running:
                leave(job, time.time(), 91, ending=by)
        if running:
            ask_server(folder, {"kind": "qdel", "id": job_id, "force": bool(options), "ending": by}, 20)
    return code


def pbsnodes(folder, argv):
    options, words = getopt(argv, "", "a")
    if bool(options) == bool(words):
        raise Usage
    state, code = load(folder), 0
    for name in list(state["nodes"]) if options else words:
        if name not in state["nodes"]:
            # Text from memory of pbsnodes' source; not in the transcripts.
            complain(f"Node: {name},  Error: Unknown node ")
            code = 1
            continue
        print_node(state, name)
    return code


def print_node(state, name):
    node, jobs = state["nodes"][name], node_jobs(state, name)
    chunks = [
        chunk for job in jobs for chunk, host in zip(job["chunks"], job["nodes"], strict=True) if host == name
    ]
    lines = [
        f"Mom = {name}",
        "ntype = PBS",
        f"state = {'down' if node['state'] == 'down' else 'job-exclusive' if jobs else 'free'}",
        "pcpus = 2",
        *([f"jobs = {', '.join(job['id'] + '/0' for job in jobs)}"] if jobs else []),
        "resources_available.arch = linux",
        f"resources_available.host = {name}",
        "resources_available.mem = 24684084kb",
        f"resources_available.ncpus = {NODE_CPUS}",
        f"resources_available.ngpus = {NODE_GPUS}",
        "resources_available.system = polaris",
        f"resources_available.vnode = {name}",
        "resources_assigned.accelerator_memory = 0kb",
        "resources_assigned.hbmem = 0kb",
        "resources_assigned.mem = 0kb",
        "resources_assigned.naccelerators = 0",
        f"resources_assigned.ncpus = {sum(int(chunk.get('ncpus', 1)) for chunk in chunks)}",
        f"resources_assigned.ngpus = {sum(int(chunk.get('ngpus', 0)) for chunk in chunks)}",
        "resources_assigned.vmem = 0kb",
        "resv_enable = True",
        "sharing = default_shared",
        "license = l",
        f"last_state_change_time = {time.ctime(node['changed'])}",
        *([f"last_used_time = {time.ctime(node['used'])}"] if node["used"] else []),
    ]
    print(name)
    for line in lines:
        print("     " + line)
    print()
