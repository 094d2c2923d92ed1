"""`parsl-perf`, Parsl's own figure: empty tasks a second of a configuration."""

from ways import HEAD, PAGE_HERE, Way

WORK = ""
# parsl-perf is given a file with `config` or `fresh_config`; its last round is the one that counts.
TOLD = (
    HEAD
    + """
import re, shutil, subprocess
def measured(file):
    command = [shutil.which("parsl-perf"), "--config", file, "--time", str(GIVEN)]
    done = subprocess.run(command, capture_output=True, text=True)
    rates = re.findall(r"Tasks per second: ([0-9.]+)", done.stdout)
    if done.returncode or not rates:
        sys.exit(done.stdout[-800:] + done.stderr[-800:])
    told(**{"parsl-perf, tasks a second": float(rates[-1])})
"""
)
OURS = """
measured("config.py")
"""
PAGE = f"""
text = '''import os
WORKERS = NUMBER
{PAGE_HERE}
'''.replace("NUMBER", str(WORKERS))
with open("bench_page.py", "w") as file:
    file.write(text)
measured("bench_page.py")
"""
# Both as jobs on the stand-in for PBS: mode auto of config.py is "blocks" where there is a qsub.
WAYS = {"ours": Way(TOLD + OURS, pbs=True), "page": Way(TOLD + PAGE, pbs=True)}
