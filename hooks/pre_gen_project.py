"""Before anything is written: refuse what must not become a folder or reach Jinja or a shell, or does not fit Polaris.

The latter by the project's own checks, as they lie in the template; cruft does not tell where that is, and then
post_gen_project.py asks them.
"""

import sys

sys.path.pop(0)  # the folder of this script, a shared /tmp: what lies there must not be imported

import json
import os
import re
from pathlib import Path

answers = json.loads(r"""{{ cookiecutter | tojson }}""")
# Values given as key=value are rendered by Jinja before any hook runs; these are as they were given.
given = json.loads(r"""{{ (_cookiecutter if _cookiecutter is defined else {}) | tojson }}""")
FROM_TEMPLATE = (  # the defaults that are made of other answers
    "{{ '{{ cookiecutter.project_name | slugify }}' }}",
    """{{ "{{ '2' if cookiecutter.workload == 'stages' else '1' }}" }}""",
)

problems = []
for name, value in answers.items():
    if name.startswith("_") or not isinstance(value, str):
        continue
    texts = {value} | {
        text for text in [given.get(name)] if isinstance(text, str) and text not in FROM_TEMPLATE
    }
    shown = ascii(value if len(value) <= 60 else value[:60] + "...")
    if any(
        mark in text
        for text in texts
        for mark in ("{" + "{", "{" + "%", "{" + "#", "}" + "}", "%" + "}", "#" + "}")
    ):
        problems.append(f"{name}={shown}: has a template marker (two braces, or a brace with % or #)")
    elif any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029" for c in value):
        problems.append(f"{name}={shown}: has a control character (a newline, a tab, an escape)")
    elif len(value) > 100:
        problems.append(f"{name}={shown}: is {len(value)} characters long; 100 are allowed")
slug = answers["project_slug"]
if not slug or slug.startswith((".", "-")) or re.search(r"[/\\]", slug):
    problems.append(f"project_slug={ascii(slug[:60])}: is no name of a folder: letters, digits, '-' and '_'")
if problems:
    print("Nothing was written:", *problems, sep="\n  ", file=sys.stderr)
    sys.exit(1)

template = Path(os.environ.get("PWD", "."), answers.get("_repo_dir", "nowhere"))
if (template / "hooks" / "answers.py").exists():
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(template / "hooks"), *map(str, template.glob("*cookiecutter.project_slug*"))]
    from answers import again
    from answers import problems as of_meaning
    from polaris import checks

    lines, mends = of_meaning(answers, Path.cwd(), checks)
    if lines:
        command = again(answers, given, mends)
        print("The answers do not fit Polaris, and nothing was written:", *lines, sep="\n  ", file=sys.stderr)
        print(f"Again, with the mend (all answers are kept):\n  {command}", file=sys.stderr)
        print("What follows is cookiecutter's own report of this refusal.", file=sys.stderr)
        sys.exit(1)
